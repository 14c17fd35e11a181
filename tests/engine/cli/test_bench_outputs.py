"""What a run that is over exits with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from penstock.bench import Document, StageRecord, parse_threshold
from penstock.engine.cli.bench_outputs import BenchReport
from tests.engine.bench.recordings import recording, stage


def good() -> StageRecord:
    return stage(requests=200)


def late() -> StageRecord:
    record = stage(requests=200)
    record.clients[0].lag.cpu = record.ended - record.began  # all of a core
    return record


def failing() -> StageRecord:
    return stage(requests=40, failures=1.0)


def code(stages: Sequence[StageRecord], *limits: str, was_interrupted: bool = False, is_search: bool = False) -> int:
    thresholds = [parse_threshold(limit) for limit in limits]
    return BenchReport.of(
        Document(recording(*stages)), thresholds, "penstock", was_interrupted=was_interrupted, is_search=is_search
    ).code


@pytest.mark.parametrize(
    ("stages", "limits", "expected"),
    [
        ([good()], (), 0),
        ([good()], ("ttft.p50<1us", "request_rate>1000000"), 0),
        ([good()], ("ttft.p50>1us",), 1),
        ([good()], ("goodput<1",), 1),  # there are no objectives
        ([failing()], (), 1),
        ([good(), failing()], (), 1),
        ([late()], (), 7),
        ([good(), late()], ("ttft.p50>1us",), 7),  # what does not count crosses nothing
    ],
)
def test_code_of_a_run(stages: Sequence[StageRecord], limits: tuple[str, ...], expected: int) -> None:
    assert code(stages, *limits) == expected


def test_interruption_comes_first_and_a_search_may_end_with_a_load_that_completes_nothing() -> None:
    assert code([late()], was_interrupted=True) == 130
    assert code([good(), failing()], is_search=True) == 0
    assert code([failing()], is_search=True) == 1


def test_warm_up_does_not_decide() -> None:
    warm_up = late()
    warm_up.stage = replace(warm_up.stage, is_warm_up=True)
    assert code([warm_up, good()]) == 0
