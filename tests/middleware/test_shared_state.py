"""The script in Redis against the classes it is written after, under any order of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.middleware.concurrency import AdaptiveConcurrency
from penstock.middleware.gate import Gate, Slot
from penstock.middleware.line import NEVER
from penstock.middleware.rate_headers import RateWindow
from penstock.middleware.rates import Rate
from penstock.middleware.shared_state import LONG_AGO, Answer, Question, RateAsked
from penstock.middleware.shared_store import SharedStore
from tests.redis_server import RedisServer

OPTIONS = AdaptiveConcurrency(initial=4, maximum=8)
windows = st.none() | st.builds(
    RateWindow, st.integers(1, 5000), st.none() | st.integers(0, 50), st.none() | st.floats(0.1, 100)
)


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[SharedStore]:
    opened = SharedStore(redis.url, f"test:{uuid4()}", 10)
    yield opened
    await opened.aclose()


def asked(per_minute: float = 0.0, burst: float = 10.0, **options: Any) -> RateAsked:
    return RateAsked(per_minute / 60, burst, per_minute > 0, **options)


def question(worker: str = "one", held: int = 0, *wanted: int, **options: Any) -> Question:
    given: dict[str, Any] = {
        "lease": 15.0,
        "concurrency": None,
        "requests": asked(),
        "tokens": asked(),
        "succeeded": {},
        "throttled": (),
        **options,
    }
    return Question(worker, held=held, wanted=wanted, **given)


@dataclass
class Step:
    """What one process says and asks for at a time."""

    wanted: list[int]
    ends: int
    throttled: bool
    window: RateWindow | None
    surplus: int


steps = st.builds(
    Step, st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 4), st.booleans(), windows, st.integers(-500, 500)
)


@dataclass
class Twin:
    """A `Gate` that is told what Redis is told, at the times that Redis says."""

    gate: Gate = field(
        default_factory=lambda: Gate(OPTIONS, Rate("requests", 600, 0.5), Rate("tokens", 6000, 10.0)),
    )
    slots: list[Slot] = field(default_factory=list)

    def ends(self, step: Step) -> tuple[list[Slot], Question]:
        """What ends in this step, and what Redis is asked."""
        over, self.slots = self.slots[: step.ends], self.slots[step.ends :]
        settled = [(slot.started, float(slot.tokens), float(max(0, slot.tokens + step.surplus))) for slot in over]
        entered = [slot.entered for slot in over]
        succeeded = {} if step.throttled else {number: entered.count(number) for number in entered}
        return over, question(
            "one",
            len(self.slots),
            *step.wanted,
            concurrency=OPTIONS,
            requests=asked(600, 0.5, window=step.window),
            tokens=asked(6000, 10.0, settled=settled),
            succeeded=succeeded,
            throttled=sorted(set(entered)) if step.throttled else (),
        )

    def follow(self, step: Step, over: list[Slot], now: float) -> tuple[int, float]:
        """The same here: how many are let in, and how long the next one waits."""
        for slot in over:
            self.gate.tokens.settle(slot.tokens, max(0, slot.tokens + step.surplus), slot.started, now)
            self.gate.concurrency.leave()
        if step.window is not None:
            self.gate.requests.learn(step.window, now)
        moved = self.gate.concurrency.throttled if step.throttled else self.gate.concurrency.succeeded
        for slot in sorted(over, key=lambda slot: slot.entered):
            moved(slot.entered)
        for number, tokens in enumerate(step.wanted):
            if (wait := self.gate.delay(tokens, now)) > 0:
                return number, wait
            self.slots.append(self.gate.enter(tokens, now))
        return len(step.wanted), 0.0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=1, max_size=12))
def test_the_script_decides_as_the_classes_do(redis: RedisServer, story: list[Step]) -> None:
    async def told() -> None:
        store = SharedStore(redis.url, f"test:{uuid4()}", 10)
        twin = Twin()
        for step in story:
            over, asks = twin.ends(step)
            answer = await store.ask(asks)
            granted, wait = twin.follow(step, over, answer.now)
            assert (answer.granted, answer.limit) == (granted, twin.gate.concurrency.limit)
            assert answer.wait == pytest.approx(wait, rel=1e-6, abs=1e-5)
            assert answer.requests * 60 == pytest.approx(twin.gate.requests.per_minute)
        await store.aclose()

    asyncio.run(told())


async def test_a_number_under_way_is_one_for_all(store: SharedStore) -> None:
    limit = AdaptiveConcurrency(3, 3, 3)
    first = await store.ask(question("one", 0, 0, 0, concurrency=limit))
    second = await store.ask(question("two", 0, 0, 0, concurrency=limit))
    assert (first.granted, second.granted, second.wait, second.workers) == (2, 1, NEVER, 2)


async def test_a_process_says_how_many_it_has_so_a_lost_call_is_mended_by_the_next(store: SharedStore) -> None:
    limit = AdaptiveConcurrency(2, 2, 2)
    await store.ask(question("one", 0, 0, 0, concurrency=limit))  # the answer to which is lost: none has started
    assert (await store.ask(question("one", 0, 0, 0, concurrency=limit))).granted == 2


async def test_what_is_free_is_kept_for_who_has_less_than_its_share(store: SharedStore) -> None:
    limit = AdaptiveConcurrency(4, 4, 4)
    await store.ask(question("one", 0, 0, 0, 0, 0, concurrency=limit))
    await store.ask(question("two", 0, 0, 0, 0, concurrency=limit))  # finds it full, and waits
    greedy = await store.ask(question("one", 3, 0, concurrency=limit))
    modest = await store.ask(question("two", 0, 0, concurrency=limit))
    assert (greedy.granted, modest.granted) == (0, 1)


async def test_whom_a_rate_holds_up_has_the_next_turn(store: SharedStore) -> None:
    tokens = asked(6000, 10.0)  # 1000 at once, 100 a second
    await store.ask(question("one", 0, 1000, tokens=tokens))
    large = await store.ask(question("one", 1, 500, tokens=tokens))
    small = await store.ask(question("two", 0, 1, tokens=tokens))
    assert small.granted == 0
    assert small.wait == pytest.approx(large.wait, abs=1)


async def test_what_a_dead_process_had_is_free_after_its_lease(store: SharedStore) -> None:
    limit = AdaptiveConcurrency(1, 1, 1)
    await store.ask(question("dead", 0, 0, concurrency=limit, lease=1e-6))
    answer: Answer = await store.ask(question("one", 0, 0, concurrency=limit))
    assert (answer.granted, answer.workers) == (1, 1)


async def test_a_limit_may_be_changed_while_processes_run(store: SharedStore) -> None:
    await store.ask(question("one", 0, *[0] * 10, requests=asked(60, 10.0)))
    waits = [(await store.ask(question("one", 10, 0, requests=asked(rate, 10.0)))).wait for rate in (60, 6000)]
    assert waits[0] == pytest.approx(1, abs=0.5)
    assert waits[1] < 0.1


async def test_what_was_taken_before_redis_forgot_is_not_given_back(store: SharedStore) -> None:
    await store.ask(question("one", 0, *[0] * 10, requests=asked(600, 1.0)))
    unused = asked(600, 1.0, settled=[(LONG_AGO, 10, 0)])
    assert (await store.ask(question("one", 10, *[0] * 10, requests=unused))).granted < 10


async def test_what_is_kept_of_a_limit_goes_away_by_itself(store: SharedStore, redis: RedisServer) -> None:
    from redis.asyncio import Redis

    await store.ask(question("one", 1, 0, requests=asked(60)))
    async with Redis.from_url(redis.url) as client:
        lives = [await client.ttl(key) for key in store._keys]
    assert all(3500 < life < 3700 for life in lives)
