"""What is counted, and what is left out of every time."""

from __future__ import annotations

import pytest

from penstock.engine.bench.figures import figures_of
from penstock.engine.bench.loads import Closed
from penstock.engine.bench.peers import VLLM
from penstock.engine.bench.recording import Stage, StageRecord
from penstock.engine.bench.slo import parse_slos

from .recordings import MS, completed, failed, recording, sweep, table


def one(*requests: object, is_warm_up: bool = False) -> StageRecord:
    return StageRecord(Stage(Closed(2), is_warm_up=is_warm_up), requests=table(*requests))  # type: ignore[arg-type]


def test_failed_and_unfinished_requests_are_counted_and_in_no_time() -> None:
    late = completed(1, 0, outcome="unfinished", end=9_000 * MS)
    (stage,) = figures_of(recording(one(completed(0, 0), late, failed(2, 0)))).stages

    assert stage.requests == {"completed": 1, "failed": 1, "unfinished": 1, "unsent": 0, "warm_up": 0}
    assert stage.value("latency", "max") == 205
    assert stage.distributions["ttft"].count == 1


def test_a_warm_up_is_in_no_figure() -> None:
    warm = completed(1, 0, is_warm_up=True, end=9_000 * MS)
    (stage,) = figures_of(recording(one(warm, is_warm_up=True), one(completed(0, 0), warm))).stages

    assert stage.requests["warm_up"] == 1
    assert stage.value("latency", "max") == 205


def test_failures_of_one_kind_are_one_class_and_the_most_frequent_is_first() -> None:
    requests = [failed(0, 0), failed(1, 1, "ServerError", 500), failed(2, 2, "ServerError", 500)]
    (stage,) = figures_of(recording(one(*requests))).stages

    assert [(each.name, each.status, each.count) for each in stage.failures] == [
        ("ServerError", 500, 2),
        ("RateLimitError", 429, 1),
    ]


def test_goodput_is_there_with_objectives_alone() -> None:
    run = recording(one(completed(0, 0), completed(1, 0, end=400 * MS), failed(2, 0)))
    (without,), (with_slos,) = figures_of(run).stages, figures_of(run, slos=parse_slos("latency=300ms")).stages

    assert without.values["goodput"] is None
    assert with_slos.values["goodput"] == pytest.approx(1 / 0.4)
    assert with_slos.values["good_share"] == pytest.approx(1 / 3)


def test_the_words_of_another_tool_have_its_figures() -> None:
    figures = figures_of(recording(one(completed(0, 0))), VLLM)

    assert figures.stages[0].value("ttft", "p50") == 50.5
    assert "latency" not in figures.stages[0].distributions


def test_definitions_are_those_of_which_there_is_a_value() -> None:
    names = {each.name for each in figures_of(recording(one(completed(0, 0)))).definitions}

    assert "ttft" in names
    assert names.isdisjoint({"goodput", "good_share", "gap"})


def test_each_stage_of_a_sweep_has_its_own_figures() -> None:
    stages = figures_of(sweep((1, 4), requests=40)).stages

    assert [stage.position for stage in stages] == [0, 1]
    assert stages[0].values["in_flight"] < stages[1].values["in_flight"]  # type: ignore[operator]


def test_where_tokens_come_from_is_counted() -> None:
    (stage,) = figures_of(recording(one(completed(0, 0), completed(1, 0, tokens_from="events")))).stages

    assert stage.tokens_from == {"reported": 1, "events": 1}
