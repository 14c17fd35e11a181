"""Searches of servers whose knee is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.engine.bench.bench import Bench
from penstock.engine.bench.lag import Lag
from penstock.engine.bench.loads import Closed, Open, Until
from penstock.engine.bench.moments import Moments, Outcome
from penstock.engine.bench.moments_table import MomentsTable
from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompts import PromptList
from penstock.engine.bench.recording import Client, Ending, Stage, StageRecord
from penstock.engine.bench.search import Search, Step, is_saturated, throughput
from penstock.engine.bench.slo import parse_slos
from penstock.errors import ConfigurationError
from penstock.testing import Gateway, answer

from .runs import API_KEY

MS = 1_000_000
SLOS = parse_slos("ttft=100ms")


def record_of(stage: Stage, good: int, bad: int, *, outcome: Outcome = "completed", cpu: int = 0) -> StageRecord:
    """A stage of so many requests that kept the objective, and so many that did not."""
    firsts = [50] * good + [500] * bad
    requests = [
        Moments(
            number,
            number * MS,
            first_content=(number + first) * MS,
            last_content=(number + first) * MS,
            end=(number + first) * MS,
            outcome="completed" if first == 50 else outcome,
            output_tokens=1,
        )
        for number, first in enumerate(firsts)
    ]
    client = Client(lag=Lag(0, 1000 * MS, cpu=cpu))
    return StageRecord(stage, requests=MomentsTable(requests), clients=[client], ended=1000 * MS)


def searched(search: Search, knee: float) -> list[float]:
    """The loads that were tried at a server that keeps the objective up to the knee."""
    while (stage := search.next_stage()) is not None:
        load = stage.load.concurrency if isinstance(stage.load, Closed) else stage.load.rate  # type: ignore[union-attr]
        search.tell(record_of(stage, 100, 0) if load <= knee else record_of(stage, 50, 50))
    return [step.load for step in search.steps]


def test_it_doubles_and_then_halves_in_between() -> None:
    search = Search(SLOS, low=1, precision=0.1)
    tried = searched(search, knee=11)
    assert tried[:5] == [1, 2, 4, 8, 16]
    assert search.best is not None
    assert search.missed is not None
    assert search.best <= 11 < search.missed <= search.best * 1.1


@pytest.mark.parametrize("knee", [1, 2, 3, 7, 100, 1023])
def test_concurrency_is_found_to_the_last_one(knee: int) -> None:
    search = Search(SLOS, axis="concurrency", precision=1e-9)
    searched(search, knee)
    assert (search.best, search.missed) == (knee, knee + 1)


def test_it_goes_no_higher_than_it_may() -> None:
    search = Search(SLOS, low=4, high=10)
    assert searched(search, knee=1000) == [4, 8, 10]
    assert (search.best, search.missed) == (10, None)


def test_a_server_that_never_keeps_them_is_asked_once() -> None:
    search = Search(SLOS, low=4)
    assert searched(search, knee=1) == [4]
    assert search.best is None


def test_it_ends_where_the_client_is_the_limit() -> None:
    search = Search(SLOS)
    stage = search.next_stage()
    assert stage is not None
    search.tell(record_of(stage, 100, 0, cpu=950 * MS))
    assert search.next_stage() is None
    assert search.is_limited_by_client


@pytest.mark.parametrize("outcome", ["failed", "unfinished", "unsent"])
def test_what_failed_or_was_not_done_is_not_good(outcome: Outcome) -> None:
    search = Search(SLOS, share=0.9)
    step = search.tell(record_of(Stage(Open(1)), 80, 20, outcome=outcome))
    assert step == Step(1, 0.8, False, False)


@pytest.mark.parametrize("ending", ["dead", "overrun"])
def test_a_stage_that_was_given_up_has_not_kept_them(ending: Ending) -> None:
    given_up = record_of(Stage(Open(1)), 100, 0)
    given_up.ending = ending
    assert not Search(SLOS).tell(given_up).has_kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: Search(()),
        lambda: Search(SLOS, axis="users"),  # type: ignore[arg-type]
        lambda: Search(SLOS, low=0),
        lambda: Search(SLOS, low=2, high=1),
        lambda: Search(SLOS, share=1.5),
    ],
)
def test_what_cannot_be_searched_is_refused(make: Callable[[], Search]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def rates(*tokens: int) -> list[StageRecord]:
    """Stages of a second with so many tokens."""
    return [
        StageRecord(
            Stage(Closed(1)),
            requests=MomentsTable([Moments(0, 0, end=1000 * MS, outcome="completed", output_tokens=each)]),
        )
        for each in tokens
    ]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [((100, 200, 400), False), ((100, 200, 201), False), ((100, 200, 201, 203), True), ((100, 200, 150, 150), True)],
)
def test_a_sweep_is_saturated_when_two_loads_brought_no_more(tokens: tuple[int, ...], expected: bool) -> None:
    assert is_saturated(rates(*tokens)) is expected


def test_throughput_counts_what_was_completed() -> None:
    failed = StageRecord(Stage(Closed(1)), requests=MomentsTable([Moments(0, 0, end=9, outcome="failed")]))
    assert (throughput(failed), throughput(rates(70)[0])) == (0.0, 70.0)


async def test_a_real_gateway_is_searched(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a"], ttft_s=0.15))
    engine = {"model_or_config": "tiny-mock", "base_url": gateway.url, "api_key": API_KEY}
    search = Search(SLOS, axis="concurrency", until=Until(requests=3))
    async with Bench(Plan(engine, PromptList(["Hi."]))) as bench:
        recording = await bench.search(search)
    assert (len(recording.stages), search.best, search.missed) == (1, None, 1)


async def test_the_rest_of_a_saturated_sweep_is_left_out(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a"], ttft_s=0.05, usage=None))
    engine = {"model_or_config": "tiny-mock", "base_url": gateway.url, "api_key": API_KEY}
    async with Bench(Plan(engine, PromptList(["Hi."]))) as bench:
        sweep = [Stage(Closed(1), Until(requests=3)) for _ in range(9)]
        recording = await bench.run(sweep, until_saturated=True)
    assert 3 <= len(recording.stages) < 9
