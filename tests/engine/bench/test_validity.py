"""What is said of a run, by what was measured in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.engine.bench.figures import measured_of
from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.lag import Lag
from penstock.engine.bench.loads import Closed, Load, Open
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.recording import Client, Lost, Stage, StageRecord
from penstock.engine.bench.validity import remarks_on

from .recordings import MS, completed, failed, table


def stage(*requests: Moments, load: Load | None = None, **client: object) -> StageRecord:
    lag = Lag(0, 1_000 * MS, Histogram([50_000] * 100), cpu=100 * MS)
    clients = [Client(lag=lag, **client)]  # type: ignore[arg-type]
    return StageRecord(Stage(load or Closed(100)), requests=table(*requests), clients=clients)


def said(record: StageRecord) -> dict[str, str]:
    return {remark.code: remark.weight for remark in remarks_on(record, measured_of(record))}


HUNDRED = [completed(number, number) for number in range(100)]


def test_a_run_that_was_in_order_needs_no_remark() -> None:
    assert said(stage(*HUNDRED)) == {}


def test_a_client_without_time_left_makes_the_run_one_that_does_not_count() -> None:
    record = stage(*HUNDRED)
    record.clients[0].lag.cpu = 950 * MS

    assert said(record) == {"cpu": "fatal"}


def test_a_loop_that_was_late_makes_the_run_one_that_does_not_count() -> None:
    record = stage(*HUNDRED)
    record.clients[0].lag.loop_delay.record(40 * MS, 5)

    assert said(record) == {"loop_delay": "fatal"}


def test_a_client_behind_its_schedule_makes_the_run_one_that_does_not_count() -> None:
    record = stage(*HUNDRED, load=Open(100), dispatch_delay=Histogram([60 * MS] * 100))

    assert said(record) == {"dispatch_delay": "fatal"}


def test_a_cap_that_held_requests_back_is_named() -> None:
    held = [replace(request, was_held_back=True) for request in HUNDRED]
    record = stage(*held, load=Open(100, cap=4), held_back=Histogram([60 * MS] * 100), cap=4)
    (remark,) = remarks_on(record, measured_of(record))

    assert (remark.code, remark.weight) == ("held_back", "caution")
    assert "coordinated omission" in remark.text


def test_a_process_that_was_lost_makes_the_run_one_that_does_not_count() -> None:
    record = stage(*HUNDRED)
    record.lost, record.ending = [Lost(1, "beta", "it has ended with code -9", 12)], "lost"
    first, second = remarks_on(record, measured_of(record))

    assert (first.code, first.weight, second.code) == ("processes_lost", "fatal", "lost")
    assert first.text == (
        "Process 1 on beta of 2 was lost with what it had measured, 12 requests at least (it has ended with code -9). "
        "What is left is another load than the one that was asked for."
    )


@pytest.mark.parametrize(("error", "weight"), [(MS, "note"), (100 * MS, "caution")], ids=["small", "large"])
def test_clocks_of_other_machines_are_said_to_be_as_right_as_they_are(error: int, weight: str) -> None:
    assert said(stage(*HUNDRED, host="beta", clock_error=error)) == {"clocks": weight}


def test_a_run_without_an_answer_does_not_count() -> None:
    assert said(stage(failed(0, 0))) == {"nothing_completed": "fatal", "failures": "caution"}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([*HUNDRED, failed(100, 0), failed(101, 0)], {"failures": "caution"}),
        ([*HUNDRED, *HUNDRED, failed(100, 0)], {"failures": "note"}),
        ([*HUNDRED, completed(100, 0, outcome="unfinished")], {"unfinished": "caution"}),
        ([*HUNDRED, Moments(100, 0)], {"unsent": "caution"}),
        (HUNDRED[:99], {"few_requests": "note"}),
        ([replace(each, tokens_from="events") for each in HUNDRED], {"tokens_by_events": "caution"}),
        ([replace(each, content_reads=1) for each in HUNDRED[:11]] + HUNDRED[11:], {"one_read": "caution"}),
        ([replace(each, content_reads=1) for each in HUNDRED[:10]] + HUNDRED[10:], {}),
        ([replace(each, content_reads=1, output_tokens=1) for each in HUNDRED], {}),
        ([replace(each, new_connection=True) for each in HUNDRED], {"new_connections": "note"}),
    ],
)
def test_what_has_to_be_known_is_said(requests: list[Moments], expected: dict[str, str]) -> None:
    assert said(stage(*requests)) == expected


@pytest.mark.parametrize("ending", ["stopped", "dead", "overrun"])
def test_a_run_that_ended_early_says_so(ending: str) -> None:
    record = stage(*HUNDRED)
    record.ending = ending  # type: ignore[assignment]

    assert said(record) == {ending: "caution"}


def test_lanes_that_stood_idle_are_told() -> None:
    assert said(stage(*HUNDRED, load=Closed(25))) == {}
    apart = [completed(number, 1_000 * number) for number in range(100)]

    assert said(stage(*apart, load=Closed(25))) == {"below_concurrency": "caution"}


def test_the_gravest_remark_is_the_first() -> None:
    record = stage(completed(0, 0), failed(1, 0))
    record.clients[0].lag.cpu = 950 * MS

    assert [remark.weight for remark in remarks_on(record, measured_of(record))] == ["fatal", "caution", "note"]
