"""Which stages say that the client was the limit, and why."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.lag import Lag
from penstock.engine.bench.loads import Closed, Open, Replay, Until
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.moments_table import MomentsTable
from penstock.engine.bench.recording import Client, Stage, StageRecord
from penstock.engine.bench.trust import findings, is_client_the_limit
from penstock.testing import Gateway, answer

from .runs import run

MS = 1_000_000


def record(client: Client, first_ms: int = 20, every_ms: int = 10) -> StageRecord:
    """Ten requests whose first output took so long."""
    requests = [
        Moments(number, at := number * every_ms * MS, first_content=at + first_ms * MS, outcome="completed")
        for number in range(10)
    ]
    return StageRecord(Stage(Open(100), Until(requests=10)), requests=MomentsTable(requests), clients=[client])


def keep_busy(seconds: float) -> None:
    time.sleep(seconds)


def exceeded(client: Client, first_ms: int = 20, every_ms: int = 10) -> list[str]:
    return [finding.name for finding in findings(record(client, first_ms, every_ms)) if finding.is_exceeded]


def test_a_client_that_was_in_time_has_nothing_to_say() -> None:
    lag = Lag(0, 1000 * MS, Histogram([MS] * 200), cpu=500 * MS, starved=10 * MS)
    assert exceeded(Client(lag=lag, dispatch_delay=Histogram([MS] * 10))) == []


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (Client(lag=Lag(0, 1000 * MS, Histogram([0] * 190 + [6 * MS] * 10))), "loop_delay"),
        (Client(dispatch_delay=Histogram([0] * 90 + [6 * MS] * 10)), "dispatch_delay"),
        (Client(lag=Lag(0, 1000 * MS, cpu=950 * MS)), "cpu"),
        (Client(lag=Lag(0, 1000 * MS, starved=150 * MS)), "starved"),
    ],
)
def test_each_way_to_be_late_is_named(client: Client, name: str) -> None:
    assert exceeded(client) == [name]
    assert is_client_the_limit(record(client))


def test_the_worst_process_decides() -> None:
    good, bad = Client(0), Client(1, lag=Lag(0, 1000 * MS, cpu=950 * MS))
    both = record(good)
    both.clients.append(bad)
    assert is_client_the_limit(both)


def test_slow_answers_bear_more() -> None:
    client = Client(lag=Lag(0, 1000 * MS, Histogram([9 * MS])))
    assert exceeded(client, first_ms=20) == ["loop_delay"]
    assert exceeded(client, first_ms=200) == []


def test_a_schedule_bears_no_more_than_one_interval() -> None:
    client = Client(dispatch_delay=Histogram([9 * MS]))
    assert exceeded(client, first_ms=1000, every_ms=10) == []
    assert exceeded(client, first_ms=1000, every_ms=4) == ["dispatch_delay"]


def test_a_cap_that_held_requests_back_is_no_limit_of_the_client() -> None:
    capped = record(Client(held_back=Histogram([900 * MS]), cap=1))
    assert [finding.name for finding in findings(capped) if finding.is_exceeded] == ["held_back"]
    assert not is_client_the_limit(capped)


def test_a_finding_has_its_reason_and_its_threshold() -> None:
    client = Client(held_back=Histogram([900 * MS] * 3), cap=7)
    held = next(finding for finding in findings(record(client)) if finding.name == "held_back")
    assert (held.value, held.threshold, held.unit) == (0.3, 0.0, "share")
    assert held.text.startswith("3 of 10 requests waited for one of 7 places, up to 900.0 ms (coordinated omission)")


def test_what_was_held_back_to_the_end_counts() -> None:
    capped = record(Client(cap=1))
    capped.requests.append(Moments(10, 0, was_held_back=True))
    assert next(each.value for each in findings(capped) if each.name == "held_back") == 1 / 11


async def test_an_overloaded_client_says_so(gateway: Gateway) -> None:
    """The loop is blocked on purpose, again and again."""

    async def block() -> None:
        while True:
            keep_busy(0.03)
            await asyncio.sleep(0.005)

    gateway.script(default=answer(pieces=["a", "b"], ttft_s=0.01))
    blocker = asyncio.ensure_future(block())
    measured = await run(gateway.url, Open(50, "constant"), Until(duration_s=0.4))
    blocker.cancel()
    names = {finding.name for finding in findings(measured) if finding.is_exceeded}
    assert {"loop_delay", "dispatch_delay"} <= names


async def test_what_a_cap_held_back_is_found(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a"], ttft_s=0.02))
    measured = await run(gateway.url, Replay((0.0,) * 4, cap=2), Until())
    assert next(each.value for each in findings(measured) if each.name == "held_back") == 0.5


async def test_a_stage_without_requests_has_findings_all_the_same() -> None:
    empty = StageRecord(Stage(Closed(1)), clients=[Client()])
    assert not is_client_the_limit(empty)


def test_one_late_request_of_a_few_is_chance_and_several_are_not() -> None:
    assert exceeded(Client(dispatch_delay=Histogram([0] * 39 + [6 * MS]))) == []
    assert exceeded(Client(dispatch_delay=Histogram([0] * 36 + [6 * MS] * 4))) == ["dispatch_delay"]
