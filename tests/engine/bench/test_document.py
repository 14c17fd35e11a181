"""What a run leaves behind is complete, described, and read as it was written."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.engine.bench.document import Document
from penstock.engine.bench.loads import Closed, Load, Open, Ramp, Replay
from penstock.engine.bench.slo import parse_slos
from penstock.errors import BenchDocumentError
from tests.project import ROOT

from .recordings import completed, recording, stage, sweep

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = orjson.loads((ROOT / "docs" / "bench-document.schema.json").read_bytes())


@pytest.fixture
def document() -> Document:
    about = {"model": "tiny", "options": {"requests": 40}}
    return Document(sweep((1, 4), requests=40), about, {"text": "good"}, parse_slos("ttft=300ms"))


def raw() -> Document:
    record = stage(requests=3)
    record.requests.append(completed(9, 0, stamps=[1, 2], stamp_events=[1, 1], request_id="</script>"))
    return Document(recording(record))


LOADS: list[Load] = [Closed(4, 0.5), Open(20, "constant", 8), Ramp(0, 50, 10), Replay((0.0, 0.5, 2.0), 2)]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: type(load).__name__)
def test_what_is_written_is_read_as_it_was(load: Load, tmp_path: Path) -> None:
    document = Document(recording(stage(load, 30)), {"model": "tiny"})
    document.write(tmp_path / "run.json")

    assert Document.read(tmp_path / "run.json").to_json() == document.to_json()


def test_raw_moments_are_kept_where_there_are_any() -> None:
    again = Document.of_json(orjson.loads(orjson.dumps(raw().to_json())))

    assert list(again.recording.stages[0].requests) == list(raw().recording.stages[0].requests)
    assert "stamps" not in Document(recording()).to_json()["stages"][0]["requests"]


def test_figures_by_other_definitions_come_out_of_a_document_that_was_read(document: Document, tmp_path: Path) -> None:
    document.write(tmp_path / "run.json")

    assert Document.read(tmp_path / "run.json").figures("vllm") == document.figures("vllm")


@pytest.mark.parametrize("make", [raw, lambda: Document(sweep((1, 4), 40), {}, {}, parse_slos("ttft=1s"))])
def test_a_document_is_what_its_schema_says(make: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(orjson.loads(orjson.dumps(make().to_json())), SCHEMA)


def members(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """Members of objects that the schema does not know, where it lists any."""
    schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if isinstance(value, dict) and "properties" in schema:
        yield from value.keys() - schema["properties"].keys()
        for name, each in value.items():
            yield from members(each, schema["properties"].get(name, {}))
    elif isinstance(value, list):
        for each in value:
            yield from members(each, schema.get("items", {}))


def test_every_member_is_in_the_schema(document: Document) -> None:
    assert set(members(document.to_json(), SCHEMA)) <= {"concurrency", "start_s"}  # a load has members of its kind


def test_the_schema_notices_what_is_missing(document: Document) -> None:
    for name in ("version", "stages"):
        lacking = copy.copy(document.to_json())
        del lacking[name]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(lacking, SCHEMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "run.json"),
        (b"[]", "no document of a bench run"),
        (b'{"format": "penstock-bench", "version": 99}', "its version is 99; 1 is known here"),
        (b'{"format": "penstock-bench", "version": 1}', "damaged"),
    ],
)
def test_what_is_no_document_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(BenchDocumentError, match=message):
        Document.read(tmp_path / "run.json")


def test_columns_of_different_lengths_are_damage(document: Document) -> None:
    value = document.to_json()
    value["stages"][0]["requests"]["end"].pop()

    with pytest.raises(BenchDocumentError, match="not of one length"):
        Document.of_json(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scheduled", None), ("number", None), ("outcome", "excellent"), ("end", "soon"), ("failure", 5)],
    ids=["due", "number", "outcome", "end", "failure"],
)
def test_a_request_that_is_none_is_damage(document: Document, name: str, value: object) -> None:
    damaged = document.to_json()
    damaged["stages"][0]["requests"][name][0] = value

    with pytest.raises(BenchDocumentError, match="damaged"):
        Document.of_json(damaged)


@pytest.mark.parametrize("name", ["about", "calibration"])
def test_what_was_said_of_a_run_that_is_no_object_is_damage(document: Document, name: str) -> None:
    with pytest.raises(BenchDocumentError, match="damaged"):
        Document.of_json(document.to_json() | {name: 5})


def test_members_of_a_later_version_are_passed_over(document: Document) -> None:
    value = document.to_json()
    value["stages"][0]["requests"]["mood"] = ["good"] * 40

    assert len(Document.of_json(value | {"later": 1}).recording.stages[0].requests) == 40


def test_a_file_that_cannot_be_written_leaves_nothing_behind(document: Document, tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()

    with pytest.raises(BenchDocumentError, match=r"run\.json cannot be written"):
        document.write(tmp_path / "run.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_no_key_gets_into_a_document() -> None:
    key = "sk-proj-0123456789abcdef0123456789"
    about = {
        "url": "https://me:password@host/v1",
        "options": {"headers": [f"Bearer {key}"], "proxy": "http://me:password@proxy"},
    }
    kept = orjson.dumps(Document(recording(stage(requests=1)), about).to_json()["about"])

    assert key.encode() not in kept
    assert b"password" not in kept
    assert b"https://***@host/v1" in kept
