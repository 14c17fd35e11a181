"""The limiter for many processes: against a real Redis that is there, that goes away, and that forgets."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from penstock import ModelEngine, Timeouts, errors
from penstock.middleware import Auth, Breaker, Classify, Idempotency, Limiter, Retry
from penstock.middleware.concurrency import AdaptiveConcurrency
from penstock.middleware.line import NEVER
from penstock.middleware.shared_limiter import SharedLimiter
from penstock.middleware.stack import checked_stack
from penstock.testing import Gateway, answer, cut, error_event, fail, hang_up, reset, stall, truncate
from tests.awaits import CountedAwaits, at_each_wait
from tests.outcomes import drained, failure
from tests.redis_server import RedisServer

from .support import AT_ONCE, KEY, engine_at, post, session_at

HELLO = answer("Hello.")
HELD = stall(after_events=3)
NOWHERE = "redis://127.0.0.1:1/0"


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not come to hold")


def stirred(limiter: SharedLimiter) -> bool:
    """Have it ask Redis now, and not when the lease is a third over. Not yet what is waited for."""
    limiter._gate._stir()
    return False


def most_at_once(gateway: Gateway) -> int:
    """How many calls the gateway had under way at a time, at most."""
    calls = gateway.calls
    return max(sum(other.started <= call.started < (other.finished or NEVER) for other in calls) for call in calls)


def limiter_at(redis: RedisServer | str, name: str, concurrency: Any = 2, **options: Any) -> SharedLimiter:
    url = redis if isinstance(redis, str) else redis.url
    return SharedLimiter(url, name, concurrency=concurrency, **{"workers": 2, "answer_within": 5.0, **options})


@asynccontextmanager
async def sharing(
    gateway: Gateway, redis: RedisServer | str, name: str, concurrency: Any = 2, **options: Any
) -> AsyncIterator[tuple[ModelEngine, SharedLimiter]]:
    """An engine with a limiter: as one of the processes."""
    async with (
        limiter_at(redis, name, concurrency, **options) as limiter,
        engine_at(gateway, limiter, Auth()) as engine,
    ):
        yield engine, limiter


# Together


async def test_no_more_are_under_way_in_all_than_the_limit(gateway: Gateway, redis: RedisServer, name: str) -> None:
    gateway.script(default=answer("Hello.", ttft_s=0.002))
    async with (
        sharing(gateway, redis, name, 3) as (first, one),
        sharing(gateway, redis, name, 3) as (second, two),
    ):
        await asyncio.gather(*(each.chat_completion("Hi") for each in (first, second) for _ in range(20)))
    assert gateway.requests == 40
    assert most_at_once(gateway) <= 3
    assert (one.in_flight, one.waiting, two.in_flight, two.waiting) == (0, 0, 0, 0)


async def test_who_comes_later_gets_its_share_of_a_limit_that_is_taken(
    gateway: Gateway, redis: RedisServer, name: str
) -> None:
    gateway.script(default=answer("Hello.", ttft_s=0.002))
    async with (
        sharing(gateway, redis, name, 2) as (first, one),
        sharing(gateway, redis, name, 2) as (second, _two),
    ):
        busy = [asyncio.ensure_future(first.chat_completion("Hi")) for _ in range(500)]
        await until(lambda: one.in_flight == 2)
        await asyncio.gather(*(second.chat_completion("Hi") for _ in range(10)))
        assert sum(not each.done() for each in busy) > 100
        for each in busy:
            each.cancel()
        await asyncio.wait(busy)


async def test_what_one_learns_from_headers_all_go_by(gateway: Gateway, redis: RedisServer, name: str) -> None:
    told = {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0"}
    gateway.script(answer("Hello.", headers=told))
    options = {"requests_per_minute": "auto", "burst": 60.0}
    async with (
        sharing(gateway, redis, name, None, **options) as (first, one),
        sharing(gateway, redis, name, None, **options) as (second, _two),
    ):
        await first.chat_completion("Hi")
        await until(lambda: one._gate._has_news is False)
        assert isinstance(
            await failure(second.chat_completion("Hi", timeouts=Timeouts(queue=0.05))), errors.QueueTimeoutError
        )
    assert gateway.requests == 1


async def test_a_refusal_lowers_the_limit_of_all(gateway: Gateway, redis: RedisServer, name: str) -> None:
    limit = AdaptiveConcurrency(10)
    gateway.script(fail(429))
    async with (
        sharing(gateway, redis, name, limit) as (first, one),
        sharing(gateway, redis, name, limit) as (second, two),
    ):
        await failure(first.chat_completion("Hi"))
        await until(lambda: one._gate._has_news is False)
        await second.chat_completion("Hi")
    assert two.limit == 7


async def test_tokens_are_settled_by_what_was_used(gateway: Gateway, redis: RedisServer, name: str) -> None:
    options = {"tokens_per_minute": 600, "burst": 60.0}
    async with sharing(gateway, redis, name, None, **options) as (engine, _one):
        for _ in range(5):  # 500 tokens each by the estimate, a few by the usage
            await engine.chat_completion("Hi", max_tokens=500, timeouts=Timeouts(queue=5))
    assert gateway.requests == 5


CONTENDER = """
import asyncio, sys
from penstock.engine.exchange import CallContext
from penstock.middleware.outcome import Outcome
from penstock.middleware.shared_limiter import SharedLimiter

async def main(url, name, count):
    async with SharedLimiter(url, name, workers=2, concurrency=None, requests_per_minute=12000, burst=0.1) as limiter:
        for _ in range(int(count)):
            held = await limiter._gate.enter(0, 60)
            print(held.slot.started)
            limiter._gate.leave(held, Outcome())

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_together_start_no_faster_than_the_rate(redis: RedisServer, name: str) -> None:
    """By the clock of the server: in no span of time more than the burst and what the rate gives in it."""
    command = (sys.executable, "-W", "error", "-c", CONTENDER, redis.url, name, "100")
    both = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [(await each.communicate())[0] for each in both]
    starts = sorted(float(line) for output in outputs for line in output.split())
    assert len(starts) == 200
    for place, start in enumerate(starts):
        assert all(count <= 20 + 200 * (end - start) + 1e-3 for count, end in enumerate(starts[place:], 1)), (
            "more than 20 at once and 200 a second"
        )


# Slots


@pytest.mark.parametrize(
    "step",
    [fail(400), fail(503), hang_up(), reset(), cut(after_events=3), truncate(), error_event(), HELLO],
    ids=lambda step: step.kind + str(getattr(step, "status", "")),
)
async def test_a_slot_is_given_back_however_the_answer_ends(
    gateway: Gateway, redis: RedisServer, name: str, step: Any
) -> None:
    gateway.script(step)
    async with limiter_at(redis, name, 1) as limiter, engine_at(gateway, limiter, Auth()) as engine:
        await drained(engine.stream_call("Hi"))
        assert limiter.in_flight == 0
        assert (await engine.chat_completion("Hi")).content


async def test_a_stream_holds_its_slot_longer_than_a_lease(gateway: Gateway, redis: RedisServer, name: str) -> None:
    gateway.script(HELD)
    async with (
        sharing(gateway, redis, name, 1, lease=1) as (first, one),
        sharing(gateway, redis, name, 1) as (second, _two),
    ):
        stream = first.stream_call("Hi")
        await anext(stream)
        began = one._gate.heard.now  # type: ignore[union-attr]
        await until(lambda: one._gate.heard.now > began + 1.1)  # type: ignore[union-attr]
        hurried = second.chat_completion("Hi", timeouts=Timeouts(queue=0.1))
        assert isinstance(await failure(hurried), errors.QueueTimeoutError)
        await stream.aclose()
        assert (await second.chat_completion("Hi")).content


KEEPER = """
import asyncio, sys
from penstock.middleware.shared_limiter import SharedLimiter

async def main(url, name):
    limiter = SharedLimiter(url, name, workers=2, concurrency=1, lease=1)
    await limiter._gate.enter(0, 60)
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_slots_of_a_killed_process_are_free_after_its_lease(
    gateway: Gateway, redis: RedisServer, name: str
) -> None:
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KEEPER, redis.url, name, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert keeper.stdout is not None
    assert await keeper.stdout.readline() == b"held\n"
    async with limiter_at(redis, name, 1) as limiter, engine_at(gateway, limiter, Auth()) as engine:
        hurried = engine.chat_completion("Hi", timeouts=Timeouts(queue=0.1))
        assert isinstance(await failure(hurried), errors.QueueTimeoutError)
        keeper.send_signal(signal.SIGKILL)
        await keeper.communicate()
        assert (await engine.chat_completion("Hi")).content


@pytest.mark.parametrize("options", [{}, {"tokens_per_minute": 60000}], ids=["slots", "slots and tokens"])
async def test_a_call_cancelled_at_any_wait_gives_back_its_slot_once(
    redis: RedisServer, name: str, options: dict[str, Any]
) -> None:
    async def run(wait: int) -> bool:
        gateway = Gateway()
        async with limiter_at(redis, name, 1, **options) as limiter, gateway:
            stack = (Idempotency(), Retry(backoff=AT_ONCE), limiter, Auth())
            async with engine_at(gateway, *stack) as engine:
                await engine.models()
                call = CountedAwaits(engine.stream_call("Hi" * 500).response(), cancel_at=wait)
                outcomes = await asyncio.gather(_run(call), return_exceptions=True)
                assert isinstance(outcomes[0], asyncio.CancelledError) == call.has_done
                assert limiter.waiting == 0
                assert (await engine.chat_completion("Hi")).content
                assert limiter.in_flight == 0
        return call.has_done

    assert await at_each_wait(run) >= 3


async def _run(awaits: CountedAwaits[Any]) -> Any:
    return await awaits


async def test_a_wait_ends_by_the_deadline_when_that_is_sooner(gateway: Gateway, redis: RedisServer, name: str) -> None:
    gateway.script(HELD)
    async with limiter_at(redis, name, 1) as limiter, engine_at(gateway, limiter, Auth()) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        error = await failure(engine.chat_completion("Hi", timeout=0.02))
        await stream.aclose()
    assert isinstance(error, errors.DeadlineExceededError)
    assert (error.phase, gateway.requests, limiter.waiting) == ("not_sent", 1, 0)


async def test_calls_of_a_process_are_sent_in_the_order_they_were_made(
    gateway: Gateway, redis: RedisServer, name: str
) -> None:
    async with limiter_at(redis, name, 1) as limiter, engine_at(gateway, limiter, Auth()) as engine:
        await asyncio.gather(*(engine.chat_completion(f"{number}") for number in range(20)))
    sent = [int(call.body["messages"][0]["content"]) for call in gateway.calls]
    assert sent == sorted(sent)


async def test_what_waits_while_the_circuit_opens_is_not_sent(gateway: Gateway, redis: RedisServer, name: str) -> None:
    gateway.script(HELD, default=fail(500))
    breaker = Breaker(minimum=1, failure_rate=0.1)
    async with (
        limiter_at(redis, name, 1) as limiter,
        engine_at(gateway, breaker, limiter, Auth()) as engine,
        engine_at(gateway, breaker, Auth()) as other,
    ):
        stream = engine.stream_call("Hi")
        await anext(stream)
        waiting = asyncio.ensure_future(failure(engine.chat_completion("Hi")))
        await until(lambda: limiter.waiting == 1)
        await failure(other.chat_completion("Hi"))
        await stream.aclose()
        assert isinstance(await waiting, errors.CircuitOpenError)
        assert limiter.in_flight == 0


async def test_it_works_on_a_plain_session(gateway: Gateway, redis: RedisServer, name: str) -> None:
    async with limiter_at(redis, name, 1) as limiter, session_at(gateway, limiter, Auth(KEY), Classify()) as session:
        assert [status for status, _ in await asyncio.gather(post(session), post(session))] == [200, 200]
        assert limiter.in_flight == 0


# Alone


async def test_without_redis_it_takes_its_share_and_says_so_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    gateway.script(default=answer("Hello.", ttft_s=0.002))
    async with sharing(gateway, "redis://:s3cret-word@127.0.0.1:1/0", name, 8, workers=4) as (engine, limiter):
        await asyncio.gather(*(engine.chat_completion("Hi") for _ in range(10)))
    assert most_at_once(gateway) <= 2
    assert (limiter.is_alone, limiter.outages, limiter.started_alone) == (True, 1, 10)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "takes 1/4 of the shared limits" in warnings[0]
    assert "s3cret" not in warnings[0] + repr(limiter)


async def test_a_share_is_never_less_than_one(gateway: Gateway, name: str) -> None:
    async with sharing(gateway, NOWHERE, name, 2, workers=100) as (engine, _limiter):
        await asyncio.gather(*(engine.chat_completion("Hi") for _ in range(3)))
    assert most_at_once(gateway) == 1


async def test_alone_nothing_starts_at_once_by_a_rate(gateway: Gateway, name: str) -> None:
    """The others may have taken all of the burst."""
    async with sharing(gateway, NOWHERE, name, None, requests_per_minute=60, burst=60.0) as (
        engine,
        _limiter,
    ):
        hurried = engine.chat_completion("Hi", timeouts=Timeouts(queue=0.1))
        assert isinstance(await failure(hurried), errors.QueueTimeoutError)
    assert gateway.requests == 0


async def test_alone_it_takes_its_share_of_what_headers_say(gateway: Gateway, name: str) -> None:
    gateway.script(answer("Hello.", headers={"x-ratelimit-limit-requests": "60"}))
    async with sharing(gateway, NOWHERE, name, None, requests_per_minute="auto", workers=4) as (engine, limiter):
        await engine.chat_completion("Hi")
        assert limiter._gate._alone.requests.per_minute == 15


async def test_it_goes_back_by_itself_and_what_is_under_way_counts_again(
    gateway: Gateway, own_redis: RedisServer, name: str
) -> None:
    gateway.script(HELD, default=HELLO)
    async with (
        sharing(gateway, own_redis, name, 1) as (first, one),
        sharing(gateway, own_redis, name, 1) as (second, two),
    ):
        stream = first.stream_call("Hi")
        await anext(stream)
        own_redis.stop()
        await until(lambda: one.is_alone or stirred(one))
        own_redis.start()  # knows nothing any more
        await until(lambda: not one.is_alone)
        await until(lambda: one._gate._has_news is False)
        hurried = second.chat_completion("Hi", timeouts=Timeouts(queue=0.1))
        assert isinstance(await failure(hurried), errors.QueueTimeoutError)
        await stream.aclose()
        assert (await second.chat_completion("Hi")).content
    assert (one.outages, two.outages, one.started_alone) == (1, 0, 0)


async def test_a_redis_that_does_not_answer_is_away(gateway: Gateway, own_redis: RedisServer, name: str) -> None:
    async with sharing(gateway, own_redis, name, 2, answer_within=0.3) as (engine, limiter):
        await engine.chat_completion("Hi")
        own_redis.hold()
        assert (await engine.chat_completion("Hi")).content
        assert (limiter.is_alone, limiter.outages) == (True, 1)
        own_redis.go_on()
        stream = engine.stream_call("Hi")
        await until(lambda: not limiter.is_alone or stirred(limiter))
        await stream.aclose()


async def test_what_was_taken_alone_counts_for_all_afterwards(own_redis: RedisServer, name: str) -> None:
    options = {"requests_per_minute": 600, "burst": 10.0, "workers": 1}
    async with limiter_at(own_redis, name, None, **options) as limiter:
        held = await limiter._gate.enter(0, 1)
        own_redis.stop()
        limiter._gate._stir()
        await until(lambda: limiter.is_alone)
        own_redis.start()
        await until(lambda: not limiter.is_alone)
        full = [await limiter._gate.enter(0, 0.02) for _ in range(50)]
    assert held is not None
    assert None in full  # 100 may start at once where nothing was taken


async def test_a_wrong_password_is_told_and_not_shown(
    gateway: Gateway, tmp_path: Any, name: str, redis: RedisServer
) -> None:
    locked = RedisServer(tmp_path, requirepass="right-word")
    locked.start()
    try:
        url = locked.url.replace("redis://", "redis://:wrong-word@")
        async with limiter_at(url, name) as limiter, engine_at(gateway, limiter, Auth()) as engine:
            error = await failure(engine.chat_completion("Hi"))
    finally:
        locked.stop()
    assert isinstance(error, errors.ConfigurationError)
    assert "wrong-word" not in str(error)
    assert gateway.requests == 0


# What is seen of it


async def test_redis_learns_neither_keys_nor_prompts(gateway: Gateway, redis: RedisServer, name: str) -> None:
    from redis.asyncio import Redis

    limits = {"requests_per_minute": 6000, "tokens_per_minute": 60000}
    async with limiter_at(redis, name, 2, **limits) as limiter, Redis.from_url(redis.url) as client:
        async with engine_at(gateway, limiter, Auth()) as engine:
            await engine.chat_completion("the prompt")
        keys = [key async for key in client.scan_iter(match=f"{{penstock:{name}*")]
        texts = repr([(key, await client.hgetall(key)) for key in keys])
    assert len(keys) == 2
    assert KEY not in texts
    assert "the prompt" not in texts


async def test_a_client_that_was_given_is_left_open(gateway: Gateway, redis: RedisServer, name: str) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url) as client:
        async with SharedLimiter(client, name, workers=1) as limiter, engine_at(gateway, limiter, Auth()) as engine:
            await engine.chat_completion("Hi")
        assert await client.ping()


def test_it_stands_where_a_limiter_stands(redis: RedisServer, name: str) -> None:
    shared = limiter_at(redis, name)
    assert shared.place == Limiter.place
    with pytest.raises(errors.MiddlewareOrderError, match="swap them"):
        checked_stack([shared, Retry()])


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"concurrency": None},
        {"concurrency": 0},
        {"requests_per_minute": -1},
        {"burst": 61},
        {"lease": 0.5},
        {"answer_within": 0},
        {"name": ""},
        {"name": "a{b}"},
        {"redis": "http://127.0.0.1"},
        {"redis": 6379},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(redis: RedisServer, options: dict[str, Any]) -> None:
    given = {"redis": redis.url, "name": "x", "workers": 2, **options}
    with pytest.raises(errors.ConfigurationError):
        SharedLimiter(given.pop("redis"), given.pop("name"), **given)


def test_without_redis_installed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    with pytest.raises(errors.ConfigurationError, match=r"penstock\[redis\]"):
        SharedLimiter("redis://127.0.0.1", "x", workers=1)
