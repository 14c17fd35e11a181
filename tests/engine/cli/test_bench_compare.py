"""``penstock bench compare``: documents in, a verdict out."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from penstock.bench import Document, Recording
from tests.engine.bench.recordings import recording, stage

from .conftest import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Document(recording(stage(requests=200)), {"model": "one"}).write(tmp_path / "base.json")
    Document(recording(stage(requests=200)), {"model": "two"}).write(tmp_path / "new.json")
    return tmp_path


async def test_two_runs_side_by_side(run: Run, folder: Path) -> None:
    files = (str(folder / "base.json"), str(folder / "new.json"))
    out = ("--json", str(folder / "out.json"), "--html", str(folder / "out.html"))
    result = await run("bench", "compare", *files, "--fail-if", "ttft.p50>+10%", *out)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("== Penstock bench, compared ==")
    assert "* model: one -> two" in result.out
    assert "KEPT       ttft.p50>+10%" in result.out
    assert orjson.loads((folder / "out.json").read_bytes())["is_failed"] is False
    page = (folder / "out.html").read_text()
    assert "ttft.p50&gt;+10%" in page
    assert "kept" in page


@pytest.mark.parametrize("limit", ["request_rate<1000000", "goodput<1"])
async def test_limit_that_is_crossed_or_cannot_be_told_is_1(run: Run, folder: Path, limit: str) -> None:
    result = await run("bench", "compare", str(folder / "base.json"), str(folder / "new.json"), "--fail-if", limit)
    assert (result.code, limit in result.out) == (1, True)


async def test_run_whose_client_was_the_limit_is_7(run: Run, folder: Path) -> None:
    late = stage(requests=200)
    late.clients[0].lag.cpu = late.ended - late.began  # all of a core
    Document(recording(late)).write(folder / "late.json")
    result = await run("bench", "compare", str(folder / "base.json"), str(folder / "late.json"))
    assert (result.code, "The run that is looked at does not count." in result.out) == (7, True)


async def test_what_is_no_document_is_4(run: Run, folder: Path) -> None:
    """A run in which nothing was measured would cross no limit, and let everything pass."""
    (folder / "none.json").write_text("{}")
    Document(Recording(0.0)).write(folder / "empty.json")
    for name in ("none.json", "missing.json", "empty.json"):
        result = await run("bench", "compare", str(folder / "base.json"), str(folder / name))
        assert (result.code, result.out) == (4, "")


async def test_wrong_options_are_2_and_a_page_that_cannot_be_written_is_6(run: Run, folder: Path) -> None:
    files = (str(folder / "base.json"), str(folder / "new.json"))
    assert (await run("bench", "compare", *files, "--fail-if", "speed>1")).code == 2
    assert (await run("bench", "compare", *files, "--confidence", "1")).code == 2
    assert (await run("bench", "compare", *files, "--json", files[0])).code == 2
    assert (await run("bench", "compare", *files, "--html", str(folder / "no" / "x.html"))).code == 6
