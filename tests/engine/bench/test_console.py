"""The block that people paste."""

from __future__ import annotations

import pytest

from penstock.engine.bench.console import WIDTH, block
from penstock.engine.bench.document import Document
from penstock.engine.bench.peers import VOCABULARIES
from penstock.engine.bench.slo import parse_slos

from .recordings import recording, stage, sweep


@pytest.fixture
def document() -> Document:
    about = {"model": "tiny", "gateway": "openai", "url": "http://127.0.0.1:8080"}
    return Document(recording(stage(requests=200)), about, None, parse_slos("ttft=300ms"))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("make", [recording, sweep])
def test_no_line_is_wider_than_the_block(vocabulary: str, make: object) -> None:
    text = block(Document(make(), {"model": "m" * 40, "url": "u" * 50}), vocabulary)  # type: ignore[operator]

    assert max(map(len, text.splitlines())) == WIDTH


def test_the_block_has_each_figure_and_its_definition_on_one_line_each(document: Document) -> None:
    lines = block(document).splitlines()
    p99 = document.figures().stages[0].value("ttft", "p99")
    (figure,) = [line for line in lines if line.startswith("Time to first token, ms")]
    (definition,) = [line for line in lines if line.startswith("ttft ")]

    assert figure.split()[-2] == f"{p99:.0f}"
    assert definition.endswith("the first read with output, reasoning or answer; a role is none")


def test_definitions_can_be_left_out(document: Document) -> None:
    assert "what they mean" not in block(document, definitions=False)


def test_a_run_that_does_not_count_says_so_first(document: Document) -> None:
    document.recording.stages[0].clients[0].lag.cpu *= 5
    lines = block(document).splitlines()

    assert lines[3] == "THIS RUN DOES NOT COUNT"
    assert lines[4].startswith("! The client used 100% of a core")


def test_failed_requests_are_listed_by_class() -> None:
    run = recording(stage(requests=100, failures=0.2))
    failed = sum(each.failure is not None and each.failure.status == 500 for each in run.stages[0].requests)

    assert f"  {failed} ServerError (HTTP 500)" in block(Document(run)).splitlines()


def test_a_sweep_ends_in_a_table_of_its_stages() -> None:
    text = block(Document(sweep((1, 4), 40)))

    assert text.index("-- 4 at a time") < text.index("-- all stages")


def test_another_tool_is_named_with_what_cannot_be_the_same(document: Document) -> None:
    text = block(document, "vllm")

    assert text.startswith("== Penstock bench, as vLLM bench serve ===")
    assert "vLLM counts tokens by usage, else with a tokenizer; here by usage, else by events." in text


def test_text_from_elsewhere_moves_no_cursor() -> None:
    text = block(Document(recording(), {"model": "\x1b[2J\x07tiny\n\nmodel"}))

    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert "tiny" in text.splitlines()[1]
