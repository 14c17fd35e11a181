"""The definitions, ours and others', each held against moments of which the figure is known."""

from __future__ import annotations

import pytest

from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.measured import Measured
from penstock.engine.bench.peers import VOCABULARIES
from tests.project import ROOT

from .recordings import MS, completed, failed

# Due at 0, dispatched 0.5, sent 1, role at 51, output from 101 (then 111) to 201, last event 203, end 205 ms.
# 11 tokens in 12 events and 11 reads.
REQUEST = completed(0, 0, second_content=111 * MS)

EXPECTED = {
    "penstock": {
        "ttft": 101,
        "ttft_sent": 100,
        "ttfa": 101,
        "tpot": 100 / 10,
        "latency": 205,
        "mean_gap": 100 / 10,
        "longest_gap": 15,
        "queued": 0.5,
        "head": 49,
        "input_tokens": 20,
        "output_tokens": 11,
    },
    "vllm": {"ttft": 50.5, "tpot": (202.5 - 50.5) / 10, "e2el": 202.5, "queued": 0.5},
    "guidellm": {
        "request_latency": 204.5,
        "ttft": 100.5,
        "ttfot": 100.5,
        "itl": 100 / 10,
        "tpot": 200.5 / 11,
        "dispatch_delay": 0.5,
    },
    "aiperf": {
        "ttft": 100.5,
        "ttst": 10,
        "ttfot": 100.5,
        "request_latency": 200.5,
        "itl": (200.5 - 100.5) / 10,
        "effective_latency": 201,
    },
}


@pytest.mark.parametrize("tool", VOCABULARIES)
def test_each_figure_of_a_request_is_what_its_definition_says(tool: str) -> None:
    vocabulary = VOCABULARIES[tool]

    assert {each.name: each.values([REQUEST]) for each in vocabulary.requests} == {
        name: [pytest.approx(value)] for name, value in EXPECTED[tool].items()
    }


def measured(*requests: object, gaps: tuple[int, ...] = ()) -> Measured:
    return Measured.of(requests, Histogram(gap * MS for gap in gaps))  # type: ignore[arg-type]


def test_gaps_of_vllm_are_between_chunks_and_know_the_role_and_the_finish() -> None:
    (itl,) = VOCABULARIES["vllm"].gaps
    histogram = itl.of(measured(REQUEST, gaps=(10,) * 10))

    assert histogram.count == 10 + 1 + 1 + 1  # between reads; within a read; after the role; before the finish
    assert (histogram.lowest, histogram.highest) == (0, 50 * MS)
    assert histogram.total == (10 * 10 + 50 + 2) * MS


def test_gaps_of_aiperf_are_between_chunks_with_content() -> None:
    (icl,) = VOCABULARIES["aiperf"].gaps
    histogram = icl.of(measured(REQUEST, gaps=(10,) * 10))

    assert (histogram.count, histogram.lowest, histogram.highest) == (11, 0, histogram.percentile(100))


def test_gaps_of_others_leave_ours_as_they_are() -> None:
    ours = measured(REQUEST, gaps=(10,))
    VOCABULARIES["vllm"].gaps[0].of(ours)

    assert ours.gaps.count == 1


def test_rates_are_of_completed_requests_by_the_whole_duration() -> None:
    runs = {each.name: each.of for each in VOCABULARIES["penstock"].runs}
    two = measured(completed(0, 0), completed(1, 1_795), failed(2, 100))

    assert runs["duration"](two) == 2
    assert runs["request_rate"](two) == 1
    assert runs["output_rate"](two) == 11
    assert runs["token_rate"](two) == 31
    assert runs["error_share"](two) == pytest.approx(1 / 3)
    assert runs["in_flight"](two) == pytest.approx((204 + 204 + 29) / 2000)


def test_reasoning_is_output_and_no_answer() -> None:
    thinks = completed(0, 0, first_reasoning=40 * MS, first_content=101 * MS)
    figures = {each.name: each.values([thinks]) for each in VOCABULARIES["penstock"].requests}

    assert (figures["ttft"], figures["ttfa"]) == ([40], [101])


def test_time_per_token_of_an_answer_with_one_token_is_none() -> None:
    one = completed(0, 0, output_tokens=1)

    assert VOCABULARIES["penstock"].find("tpot").values([one]) == []
    assert VOCABULARIES["vllm"].find("tpot").values([one]) == []


def test_an_empty_run_has_no_rates() -> None:
    nothing = measured()

    assert [each.of(nothing) for each in VOCABULARIES["penstock"].runs] == [0, *[None] * 7]


@pytest.mark.parametrize("tool", VOCABULARIES)
def test_each_definition_fits_on_its_line(tool: str) -> None:
    vocabulary = VOCABULARIES[tool]

    assert all(len(each.text) < 80 for each in vocabulary.definitions)
    assert all(len(note) <= 96 for note in vocabulary.notes)
    assert len({each.name for each in vocabulary.definitions}) == len(vocabulary.definitions)


@pytest.mark.parametrize("tool", VOCABULARIES)
def test_the_documented_definitions_are_these(tool: str) -> None:
    page = (ROOT / "docs" / "bench-document.md").read_text("utf-8")
    table = "\n".join(f"| `{each.name}` | {each.unit} | {each.text} |" for each in VOCABULARIES[tool].definitions)

    assert f"\n{table}\n" in page
    assert all(note in page for note in VOCABULARIES[tool].notes)
