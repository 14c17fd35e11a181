"""The loop: in the engine, without a socket, and on a plain session."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from penstock import errors
from penstock.engine.exchange import CallContext, Exchange, Operation, Target
from penstock.engine.verdict import judge_openai
from penstock.middleware import Auth, Backoff, Classify, Idempotency, Retry
from penstock.testing import (
    Gateway,
    answer,
    cut,
    empty,
    error_event,
    fail,
    garbage_frame,
    hang_up,
    http_date,
    no_done,
    reset,
    stall,
    truncate,
)
from tests.clocks import FakeClock, HeldClock

from .support import AT_ONCE, KEY, chat, engine_at, post, session_at

HELLO = answer("Hello.")
AGAIN = [408, 409, 425, 429, 500, 502, 503, 504, 520, 529]
FINAL = [302, 307, 400, 401, 402, 403, 404, 405, 413, 422, 501, 505]


def kind(value: Any) -> str | None:
    """The id of a test: a step by its kind."""
    return getattr(value, "kind", None)


def no_jitter() -> float:
    return 0.0


def full_jitter() -> float:
    return 0.999


# In the engine


@pytest.mark.parametrize("status", AGAIN)
async def test_a_status_that_may_pass_is_sent_again(gateway: Gateway, status: int) -> None:
    gateway.script(fail(status), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."
    assert gateway.requests == 2


@pytest.mark.parametrize("status", FINAL)
async def test_a_status_that_is_final_is_not(gateway: Gateway, status: int) -> None:
    gateway.script(fail(status), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, clock=clock) as engine:
        with pytest.raises(errors.ModelEngineError) as caught:
            await engine.chat_completion("Hi")
    assert caught.value.status == status
    assert (gateway.requests, clock.sleeps) == (1, [])


async def test_a_used_up_quota_is_not_a_throttle(gateway: Gateway) -> None:
    gateway.script(fail(429, code="insufficient_quota"), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        with pytest.raises(errors.QuotaExceededError):
            await engine.chat_completion("Hi")
    assert gateway.requests == 1


async def test_three_attempts_are_made_and_told(gateway: Gateway) -> None:
    gateway.script(fail(503), hang_up(), default=fail(500))
    clock = FakeClock()
    async with engine_at(gateway, Idempotency(), Retry(random=full_jitter), Auth(), clock=clock) as engine:
        with pytest.raises(errors.ServerError) as caught:
            await engine.chat_completion("Hi")
    assert gateway.requests == 3
    assert clock.sleeps == [0.999 * 1.0, 0.999 * 1.0]
    assert [(entry.number, entry.error, entry.status, entry.wait, entry.why) for entry in caught.value.attempts] == [
        (1, "OverloadedError", 503, 0.999, "backed off"),
        (2, "DisconnectedError", None, 0.999, "backed off"),
        (3, "ServerError", 500, None, "3 attempts were made"),
    ]
    assert "after 3 attempts" in str(caught.value)


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
async def test_max_attempts_counts_all_requests(gateway: Gateway, max_attempts: int) -> None:
    gateway.script(default=fail(500))
    async with engine_at(gateway, Retry(max_attempts=max_attempts), clock=FakeClock()) as engine:
        with pytest.raises(errors.ServerError):
            await engine.chat_completion("Hi")
    assert gateway.requests == max_attempts


async def test_every_attempt_sends_the_same_bytes_and_key(gateway: Gateway) -> None:
    gateway.script(fail(429), reset("before_headers"), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        await engine.chat_completion("Hi", temperature=0.5)
    assert len({call.raw for call in gateway.calls}) == 1
    assert len(gateway.keys) == 1
    assert [call.attempt for call in gateway.calls] == [1, 2, 3]


@pytest.mark.parametrize(
    "step",
    [
        reset("before_request_read"),
        reset("before_headers"),
        reset("after_headers"),
        hang_up(),
        empty(),
        empty(status=503),
        cut(after_events=0),
        cut(after_events=1),
        cut(after_events=1, by="reset"),
        truncate(after_events=0),
        truncate(after_events=1),
        error_event(after_events=0),
        error_event(after_events=1, event_name="error", done=True),
        answer("", finish_reason=None),
    ],
    ids=kind,
)
async def test_until_the_first_output_every_failure_of_a_stream_is_the_same(step: Any) -> None:
    # One that does not honour keys: it would replay what it had to say, and the second answer tells who spoke.
    async with (
        Gateway(idempotency="ignore", script=[step, HELLO]) as gateway,
        engine_at(gateway, clock=FakeClock()) as engine,
    ):
        chunks = [chunk async for chunk in engine.stream_call("Hi")]
    assert "".join(chunk.delta_content or "" for chunk in chunks) == "Hello."
    assert gateway.requests == 2


@pytest.mark.parametrize(
    "step, error",
    [
        (cut(after_events=3), errors.StreamTruncatedError),
        (cut(after_events=3, by="reset"), errors.StreamTruncatedError),
        (truncate(after_events=3), errors.StreamTruncatedError),
        (error_event(after_events=3), errors.ServerError),
        (garbage_frame(after_events=3), errors.MalformedResponseError),
    ],
    ids=kind,
)
async def test_after_output_nothing_is_sent_again(gateway: Gateway, step: Any, error: type[Exception]) -> None:
    gateway.script(step, HELLO)
    clock = FakeClock()
    async with engine_at(gateway, clock=clock) as engine:
        stream = engine.stream_call("Hi")
        with pytest.raises(error) as caught:
            async for _ in stream:
                pass
    assert isinstance(caught.value, errors.ModelEngineError)
    assert caught.value.phase == "after_output"
    assert (gateway.requests, clock.sleeps) == (1, [])


async def test_what_came_before_the_first_output_is_kept(gateway: Gateway) -> None:
    gateway.script(fail(503), answer("Hello.", comments=["one", "two"], azure_first_frame=True))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        chunks = [chunk async for chunk in engine.stream_call("Hi")]
    assert chunks[0].extra is not None
    assert "prompt_filter_results" in chunks[0].extra
    assert [chunk.role for chunk in chunks[:3]] == [None, "assistant", None]


async def test_a_stream_without_its_terminal_mark_is_no_failure_when_it_has_finished(gateway: Gateway) -> None:
    gateway.script(no_done(of=HELLO))
    async with engine_at(gateway) as engine:
        assert (await engine.stream_call("Hi").response()).content == "Hello."
    assert gateway.requests == 1


async def test_what_was_never_sent_is_sent_again_without_a_key(gateway: Gateway) -> None:
    async with engine_at(gateway, Retry(), clock=FakeClock()) as engine:
        await gateway.stop()
        with pytest.raises(errors.ConnectError) as caught:
            await engine.chat_completion("Hi")
    assert len(caught.value.attempts) == 3
    assert caught.value.phase == "not_sent"


# Hints


@pytest.mark.parametrize(
    "step, least",
    [
        (fail(429, retry_after=7), 7.0),
        (fail(503, retry_after=2.5), 2.5),
        (fail(429, retry_after="0.30000000000000004"), 0.1 + 0.2),
        (fail(429, retry_after_ms=1500), 1.5),
        (fail(429, retry_after_ms=1500, retry_after=60), 1.5),
        (fail(429, headers=[("retry-after", "1"), ("retry-after", "9")]), 9.0),
        (fail(429, retry_after="1, 9"), 9.0),
    ],
    ids=kind,
)
async def test_the_wait_is_as_long_as_told(gateway: Gateway, step: Any, least: float) -> None:
    gateway.script(step, HELLO)
    clock = FakeClock()
    async with engine_at(gateway, Retry(random=no_jitter), clock=clock) as engine:
        response = await engine.chat_completion("Hi")
    assert clock.sleeps == [least]
    assert response.attempts[0].wait == least
    assert response.attempts[0].why == f"told to wait {least:g} s"


@pytest.mark.parametrize("form", ["imf", "rfc850", "asctime"])
async def test_a_date_is_waited_for(gateway: Gateway, form: Any) -> None:
    gateway.script(fail(429, retry_after=http_date(30, form=form)), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, Retry(random=no_jitter), clock=clock) as engine:
        await engine.chat_completion("Hi")
    assert 29 < clock.sleeps[0] < 32  # whole seconds, less the time the answer took


async def test_all_who_were_told_the_same_do_not_come_back_at_once(gateway: Gateway) -> None:
    gateway.script(default=fail(429, retry_after=10))
    clock = FakeClock()
    shares = iter([0.25, 0.75])
    async with engine_at(gateway, Retry(random=lambda: next(shares)), clock=clock) as engine:
        with pytest.raises(errors.RateLimitError):
            await engine.chat_completion("Hi")
    assert clock.sleeps == pytest.approx([10.25, 10.75])


async def test_told_nothing_the_wait_is_a_random_share_of_an_interval_that_doubles(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    retry = Retry(max_attempts=8, random=random.Random(4).random)
    async with engine_at(gateway, retry, clock=clock) as engine:
        with pytest.raises(errors.ServerError):
            await engine.chat_completion("Hi")
    intervals = [0.5, 1, 2, 4, 8, 8, 8]
    assert all(0 <= wait < interval for wait, interval in zip(clock.sleeps, intervals, strict=True))
    assert len(set(clock.sleeps)) == 7


@pytest.mark.parametrize("retry_after", [121, 86400, http_date(3600)])
async def test_told_to_wait_longer_than_the_cap_it_fails_at_once_and_says_how_long(
    gateway: Gateway, retry_after: Any
) -> None:
    gateway.script(fail(429, retry_after=retry_after), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, clock=clock) as engine:
        with pytest.raises(errors.RateLimitError, match="asked to wait") as caught:
            await engine.chat_completion("Hi")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 120
    assert (gateway.requests, clock.sleeps) == (1, [])


async def test_the_cap_can_be_set(gateway: Gateway) -> None:
    gateway.script(fail(503, retry_after=5), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, Retry(max_wait=4.5), clock=clock) as engine:
        with pytest.raises(errors.OverloadedError) as caught:
            await engine.chat_completion("Hi")
    assert caught.value.retry_after == 5
    assert caught.value.attempts[-1].why == "asked to wait 5 s, longer than the 4.5 s that are waited at most"


async def test_told_to_wait_beyond_the_deadline_it_fails_at_once_and_says_how_long(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after=20), fail(429, retry_after=11), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, Retry(random=no_jitter), clock=clock) as engine:
        with pytest.raises(errors.RateLimitError) as caught:
            await engine.chat_completion("Hi", timeout=30)
    assert caught.value.retry_after == 11
    assert caught.value.attempts[-1].why == "the wait of 11 s would pass the deadline"
    assert clock.sleeps == [20]


async def test_should_retry_true_makes_a_final_status_pass(gateway: Gateway) -> None:
    gateway.script(fail(400, should_retry=True), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."


@pytest.mark.parametrize(
    "retry",
    [Retry(), Retry(retry=lambda state: True), Retry(ambiguous="always")],
    ids=["default", "tenacity", "always"],
)
async def test_should_retry_false_holds_against_every_policy(gateway: Gateway, retry: Retry) -> None:
    gateway.script(fail(503, should_retry=False, retry_after=1), HELLO)
    async with engine_at(gateway, retry, clock=FakeClock()) as engine:
        with pytest.raises(errors.OverloadedError) as caught:
            await engine.chat_completion("Hi")
    assert caught.value.attempts[-1].why == "the server says not to send it again"
    assert gateway.requests == 1


# What may have run


@pytest.mark.parametrize("step", [hang_up(), reset("before_headers"), hang_up(executed=True)], ids=kind)
@pytest.mark.parametrize(
    "stack, requests",
    [
        ([Idempotency(), Retry()], 2),
        ([Retry()], 1),
        ([Retry(ambiguous="always")], 2),
        ([Idempotency(), Retry(ambiguous="never")], 1),
        ([Idempotency(header="X-Key"), Retry()], 2),
    ],
    ids=["keyed", "without a key", "always", "never", "keyed under another name"],
)
async def test_after_a_lost_answer_a_post_is_repeated_by_the_rule(
    gateway: Gateway, step: Any, stack: list[Any], requests: int
) -> None:
    gateway.script(step, HELLO)
    async with engine_at(gateway, *stack, clock=FakeClock()) as engine:
        if requests == 1:
            with pytest.raises(errors.DisconnectedError) as caught:
                await engine.chat_completion("Hi")
            assert caught.value.phase == "no_answer"
        else:
            await engine.chat_completion("Hi")
    assert gateway.requests == requests


async def test_a_repetition_after_a_lost_answer_runs_once(gateway: Gateway) -> None:
    gateway.script(hang_up(executed=True, of=HELLO), answer("Another."))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."
    gateway.assert_executed_once()


async def test_a_read_is_repeated_without_a_key(gateway: Gateway) -> None:
    gateway.script(hang_up(), answer())
    async with engine_at(gateway, Retry(ambiguous="never"), clock=FakeClock()) as engine:
        assert [model.id for model in await engine.models()] == ["tiny-mock"]
    assert gateway.requests == 2


@pytest.mark.parametrize("options", [{"idempotency_key": "mine"}, {}], ids=["as an option", "not at all"])
async def test_a_key_that_nobody_sends_protects_nothing(gateway: Gateway, options: dict[str, Any]) -> None:
    gateway.script(hang_up(executed=True), HELLO)
    async with engine_at(gateway, Retry(), clock=FakeClock()) as engine:
        with pytest.raises(errors.ModelEngineError):
            await engine.chat_completion("Hi", **options)
    assert gateway.requests <= 1


async def test_a_key_that_the_caller_sends_without_the_middleware_protects(gateway: Gateway) -> None:
    gateway.script(hang_up(executed=True, of=HELLO), answer("Another."))
    async with engine_at(gateway, Retry(), clock=FakeClock()) as engine:
        response = await engine.chat_completion("Hi", extra_headers={"Idempotency-Key": "mine"})
    assert response.content == "Hello."


async def test_a_request_that_runs_still_is_asked_for_again_with_its_key(gateway: Gateway) -> None:
    gateway.script(fail(409, code="idempotency_in_progress"), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, Idempotency(), Retry(random=full_jitter), clock=clock) as engine:
        await engine.chat_completion("Hi")
    assert clock.sleeps == [0.999 * 1.0]
    assert len(gateway.keys) == 1


# Waiting and leaving


async def test_nothing_is_held_open_during_the_wait(gateway: Gateway) -> None:
    gateway.script(reset("after_headers"), HELLO)
    clock = HeldClock()
    async with engine_at(gateway, clock=clock) as engine:
        call = asyncio.create_task(engine.stream_call("Hi").response())
        await clock.asleep.wait()
        await gateway.assert_no_open_connections()
        clock.wake()
        assert (await call).content == "Hello."


async def test_the_connection_of_a_failed_answer_serves_the_next_attempt(gateway: Gateway) -> None:
    gateway.script(fail(503), fail(429), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        await engine.chat_completion("Hi")
    assert gateway.connections == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelled_in_the_wait_it_leaves_at_once(gateway: Gateway, streamed: bool) -> None:
    gateway.script(fail(503), HELLO)
    clock = HeldClock()
    async with engine_at(gateway, clock=clock) as engine:
        asked = engine.stream_call("Hi").response() if streamed else engine.chat_completion("Hi")
        call = asyncio.create_task(asked)
        await clock.asleep.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert gateway.requests == 1
    await gateway.assert_no_open_connections()


@pytest.mark.parametrize("when", ["before_headers", "in_body"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelled_before_the_first_output_it_leaves_at_once(gateway: Gateway, when: Any, streamed: bool) -> None:
    gateway.script(stall(when=when, after_events=1), HELLO)
    clock = FakeClock()
    async with engine_at(gateway, clock=clock) as engine:
        asked = engine.stream_call("Hi").response() if streamed else engine.chat_completion("Hi")
        call = asyncio.create_task(asked)
        await gateway.until(lambda: gateway.requests == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gateway.assert_no_open_connections()
    assert (gateway.requests, clock.sleeps) == (1, [])


async def test_stopped_in_the_wait_the_call_says_so(gateway: Gateway) -> None:
    gateway.script(fail(503), HELLO)
    clock = HeldClock()
    engine = engine_at(gateway, clock=clock)
    await engine.start()
    call = asyncio.create_task(engine.chat_completion("Hi"))
    await clock.asleep.wait()
    await engine.stop()
    clock.wake()
    with pytest.raises(errors.EngineClosedError):
        await call
    assert gateway.requests == 1


async def test_calls_share_one_object_without_mixing(gateway: Gateway) -> None:
    gateway.script(fail(503, times=30), default=HELLO)
    retry = Retry(max_attempts=40)
    async with engine_at(gateway, Idempotency(), retry, Auth(), clock=FakeClock()) as engine:
        responses = await asyncio.gather(*(engine.chat_completion(f"Call {n}") for n in range(20)))
    assert all([entry.number for entry in each.attempts] == [*range(1, len(each.attempts) + 1)] for each in responses)
    sent = Counter(call.idempotency_key for call in gateway.calls)
    assert {each.idempotency_key: len(each.attempts) for each in responses} == dict(sent)
    assert gateway.requests == 50


async def test_a_mistake_in_a_middleware_is_not_sent_again(gateway: Gateway) -> None:
    calls = 0

    async def mistaken(request: Any, handler: Any) -> Any:
        nonlocal calls
        calls += 1
        raise ValueError("a mistake")

    async with engine_at(gateway, Idempotency(), Retry(), mistaken, clock=FakeClock()) as engine:
        with pytest.raises(ValueError, match="a mistake"):
            await engine.chat_completion("Hi")
    assert calls == 1


# The whole loop, without a socket


class Server:
    """A handler that fails as scripted, then answers."""

    status = 200

    def __init__(self, clock: FakeClock, failures: list[tuple[float | None, float]]) -> None:
        self._clock = clock
        self._failures = failures
        self.arrivals: list[float] = []

    async def __call__(self, request: Any) -> Server:
        self.arrivals.append(self._clock.monotonic())
        if len(self.arrivals) > len(self._failures):
            return self
        retry_after, took = self._failures[len(self.arrivals) - 1]
        self._clock.pass_by(took)
        raise errors.RateLimitError("busy", retry_after=retry_after, phase="rejected")

    def release(self) -> None: ...

    async def commit(self) -> None: ...


hints = st.none() | st.floats(0, 200)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(hints, st.floats(0, 50)), max_size=8),
    st.integers(1, 6),
    st.floats(0, 150),
    st.none() | st.floats(0, 300),
    st.randoms(use_true_random=False),
)
async def test_never_earlier_than_told_nor_too_often_nor_past_the_deadline(
    failures: list[tuple[float | None, float]],
    max_attempts: int,
    max_wait: float,
    deadline: float | None,
    chance: random.Random,
) -> None:
    clock = FakeClock()
    server = Server(clock, failures)
    context = CallContext(
        Target("test", judge_openai), Operation("chat"), deadline=deadline, clock=clock, idempotency_key="k"
    )
    exchange = Exchange("POST", URL("http://gateway/"), context=context, decoder=lambda head: None)
    retry = Retry(max_attempts=max_attempts, max_wait=max_wait, random=chance.random)
    outcome: object = (await asyncio.gather(retry(exchange, server), return_exceptions=True))[0]
    if len(server.arrivals) > len(failures):
        assert outcome is server
    else:
        assert isinstance(outcome, errors.RateLimitError)
        assert outcome.retry_after == failures[len(server.arrivals) - 1][0]
    assert len(server.arrivals) <= max_attempts
    for (hint, _), slept in zip(failures, clock.sleeps):
        assert slept >= (hint or 0)
        assert (hint or 0) <= max_wait
    if deadline is not None:
        assert sum(clock.sleeps) <= deadline
        assert all(came <= deadline for came in server.arrivals[1:])


# On a plain session


async def test_on_a_plain_session_the_same_object_repeats_with_the_same_key(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after_ms=1), hang_up(), HELLO)
    async with session_at(gateway) as session:
        status, completion = await post(session)
    assert (status, completion["choices"][0]["message"]["content"]) == (200, "Hello.")
    assert [call.attempt for call in gateway.calls] == [1, 2, 3]
    assert len({call.raw for call in gateway.calls}) == 1


@pytest.mark.parametrize("status", AGAIN)
async def test_without_classify_it_goes_by_the_status(gateway: Gateway, status: int) -> None:
    gateway.script(fail(status), HELLO)
    async with session_at(gateway, Retry(backoff=AT_ONCE)) as session:
        assert (await post(session))[0] == 200
    assert gateway.requests == 2


@pytest.mark.parametrize("status, requests", [(503, 3), (400, 1)])
async def test_without_classify_the_last_answer_is_given_back(gateway: Gateway, status: int, requests: int) -> None:
    gateway.script(default=fail(status, message="No."))
    async with session_at(gateway, Retry(backoff=AT_ONCE)) as session:
        given_status, body = await post(session)
    assert (given_status, body["error"]["message"]) == (status, "No.")
    assert gateway.requests == requests


async def test_with_classify_the_last_failure_is_raised_with_its_ledger(gateway: Gateway) -> None:
    gateway.script(fail(503), hang_up(), default=fail(429, retry_after_ms=1))
    async with session_at(gateway) as session:
        with pytest.raises(errors.RateLimitError) as caught:
            await post(session)
    error = caught.value
    assert [(entry.number, entry.error, entry.status, entry.phase) for entry in error.attempts] == [
        (1, "OverloadedError", 503, "rejected"),
        (2, "DisconnectedError", None, "no_answer"),
        (3, "RateLimitError", 429, "rejected"),
    ]
    assert error.idempotency_key == gateway.keys[0]
    assert error.retry_after == 0.001


async def test_told_to_wait_too_long_a_plain_session_fails_at_once_too(gateway: Gateway) -> None:
    gateway.script(default=fail(429, retry_after=3600))
    async with session_at(gateway) as session:
        with pytest.raises(errors.RateLimitError) as caught:
            await post(session)
    assert caught.value.retry_after == 3600
    async with session_at(gateway, Retry()) as session:
        assert (await post(session))[0] == 429
    assert gateway.requests == 2


@pytest.mark.parametrize("stack", [(Retry(backoff=AT_ONCE),), (Retry(backoff=AT_ONCE), Classify())])
async def test_a_plain_post_without_a_key_is_not_repeated_after_a_lost_answer(
    gateway: Gateway, stack: tuple[Any, ...]
) -> None:
    gateway.script(hang_up(), HELLO)
    async with session_at(gateway, *stack) as session:
        with pytest.raises((errors.DisconnectedError, aiohttp.ServerDisconnectedError)):
            await post(session)
    assert gateway.requests == 1


async def test_a_plain_post_with_the_callers_own_key_is(gateway: Gateway) -> None:
    gateway.script(hang_up(executed=True, of=HELLO), answer("Another."))
    async with session_at(gateway, Retry(backoff=AT_ONCE)) as session:
        _, completion = await post(session, headers={"Idempotency-Key": "mine"})
    assert completion["choices"][0]["message"]["content"] == "Hello."


async def test_a_body_that_can_be_read_only_once_is_sent_once(gateway: Gateway) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"model": "tiny-mock", "messages": [{"role": "user", "content": "Hi"}]}'

    gateway.script(fail(503), HELLO)
    async with session_at(gateway) as session:
        with pytest.raises(errors.OverloadedError) as caught:
            await post(session, json=None, data=body())
    assert caught.value.attempts[-1].why == "the body of the request can be read only once"
    assert gateway.requests == 1


class Pause:
    """A hook of Retry that stays in the wait until the test goes on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, state: Any) -> None:
        self.reached.set()
        await self.over.wait()


LARGE = b"{" + b" " * 1_000_000 + b"}"


@pytest.mark.parametrize("stack", [(), (Classify(),)], ids=["without Classify", "with Classify"])
async def test_a_plain_session_holds_no_failed_answer_open_during_the_wait(
    gateway: Gateway, stack: tuple[Any, ...]
) -> None:
    gateway.script(fail(503, body=LARGE), HELLO)
    pause = Pause()
    async with session_at(gateway, Retry(before_sleep=pause, backoff=AT_ONCE), *stack) as session:
        call = asyncio.create_task(post(session))
        await pause.reached.wait()
        await gateway.assert_no_open_connections()
        pause.over.set()
        assert (await call)[0] == 200


async def test_cancelled_in_the_wait_a_plain_call_leaves_at_once(gateway: Gateway) -> None:
    gateway.script(fail(503, body=LARGE), HELLO)
    pause = Pause()
    async with session_at(gateway, Retry(before_sleep=pause)) as session:
        call = asyncio.create_task(post(session))
        await pause.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gateway.assert_no_open_connections()
    assert gateway.requests == 1


async def test_a_hook_that_fails_leaves_no_answer_open(gateway: Gateway) -> None:
    def broken(state: Any) -> bool:
        raise RuntimeError("broken")

    gateway.script(fail(503, body=LARGE), HELLO)
    async with session_at(gateway, Retry(retry=broken)) as session:
        with pytest.raises(RuntimeError, match="broken"):
            await post(session)
        await gateway.assert_no_open_connections()


async def test_plain_calls_share_one_object_without_mixing(gateway: Gateway) -> None:
    gateway.script(fail(503, times=30), default=HELLO)
    async with session_at(gateway, Idempotency(), Retry(max_attempts=40, backoff=AT_ONCE), Classify()) as session:
        answers = await asyncio.gather(*(post(session, json=chat(f"Call {n}")) for n in range(20)))
    assert [status for status, _ in answers] == [200] * 20
    assert gateway.requests == 50
    assert len(gateway.keys) == 20


async def test_failed_calls_leave_no_garbage_that_holds_a_response(gateway: Gateway) -> None:
    gateway.script(default=fail(503, body=LARGE))
    async with session_at(gateway, Retry(backoff=AT_ONCE), Auth(KEY), Classify()) as session:
        with pytest.raises(errors.OverloadedError):
            await post(session)
    gc.collect()  # an unclosed response would warn here, and a warning is an error


# Construction


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_attempts": 0}, "whole number from 1"),
        ({"max_attempts": 2.0}, "whole number from 1"),
        ({"max_attempts": True}, "whole number from 1"),
        ({"max_attempts": "3"}, "whole number from 1"),
        ({"ambiguous": "sometimes"}, "'keyed', 'never' or 'always'"),
        ({"max_wait": -1}, "number of seconds"),
        ({"max_wait": float("nan")}, "number of seconds"),
        ({"policy": object()}, "option object of aiohttp-retry"),
        ({"stop": 3}, "object of tenacity"),
        ({"wait": 1.5}, "object of tenacity"),
        ({"wait": Backoff()}, "object of tenacity"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        Retry(**options)
