"""A stream that breaks off after output: raised, kept, or begun anew, as the reader wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock import Auth, ModelEngine, Retry, RetryBudget, Timeouts, default_stack
from penstock.engine.errors import (
    ConfigurationError,
    OverloadedError,
    PolicyBlockedError,
    StreamConsumedError,
    StreamTruncatedError,
)
from penstock.testing import Gateway, Step, answer, block, cut, error_event, fail, garbage_frame, stall, truncate
from tests.clocks import FakeClock
from tests.conftest import API_KEY
from tests.outcomes import drained, failure, text_of
from tests.raw_server import STREAM_HEAD, Connection, RawServer, text

WHOLE = answer("a b c")
BREAKS: dict[str, Step] = {
    "cut": cut(after_events=4, of=WHOLE),
    "reset": cut(after_events=4, by="reset", of=WHOLE),
    "truncated": truncate(after_events=3, of=WHOLE),
    "error event": error_event(after_events=4, of=WHOLE),
    "silence": stall(after_events=4, of=WHOLE),
}
breaks = pytest.mark.parametrize("step", BREAKS.values(), ids=BREAKS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def engine(gateway: Gateway, clock: FakeClock) -> AsyncIterator[ModelEngine]:
    timeouts = Timeouts(idle=0.1)
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=clock, timeouts=timeouts) as running:
        yield running


@breaks
async def test_what_came_is_kept(gateway: Gateway, engine: ModelEngine, step: Any) -> None:
    gateway.script(step)
    stream = engine.stream_call("Hi", on_break="keep_partial")
    chunks, raised = await drained(stream)
    summary = stream.summary
    assert (raised, gateway.requests, summary.restarts) == (None, 1, 0)
    assert summary.verdict in ("truncated", "errored")
    assert summary.error is not None
    assert summary.error.partial is not None
    assert (await stream.response()).content == text_of(chunks) == summary.error.partial.content != ""


@breaks
async def test_a_stream_begins_anew_after_a_marker(gateway: Gateway, engine: ModelEngine, step: Any) -> None:
    gateway.script(step, WHOLE)
    stream = engine.stream_call("Hi", on_break="restart")
    chunks, raised = await drained(stream)
    marker = next(position for position, chunk in enumerate(chunks) if chunk.restart)
    assert (raised, chunks[marker].restart, chunks[marker].is_meaningful) == (None, 1, False)
    assert text_of(chunks[:marker]) != ""
    assert text_of(chunks[marker:]) == (await stream.response()).content == "a b c"
    assert (stream.summary.verdict, stream.summary.restarts, stream.summary.error) == ("complete", 1, None)
    assert (gateway.requests, len(gateway.keys)) == (2, 1)


async def test_a_restart_is_an_attempt_like_any_other(gateway: Gateway, engine: ModelEngine, clock: FakeClock) -> None:
    gateway.script(BREAKS["cut"], fail(503, retry_after=2), WHOLE)
    stream = engine.stream_call("Hi", on_break="restart")
    await drained(stream)
    attempts = stream.summary.attempts
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert [attempt.phase for attempt in attempts] == ["after_output", "rejected", None]
    assert [attempt.wait for attempt in attempts[:2]] == clock.sleeps
    assert clock.sleeps[1] >= 2


async def test_restarts_end_with_the_attempts(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=BREAKS["cut"])
    stream = engine.stream_call("Hi", on_break="restart")
    chunks, raised = await drained(stream)
    assert isinstance(raised, StreamTruncatedError)
    assert (gateway.requests, [chunk.restart for chunk in chunks if chunk.restart]) == (3, [1, 2])
    assert raised.attempts[-1].why == "3 attempts were made"


async def test_a_restart_is_paid_from_the_budget(gateway: Gateway) -> None:
    gateway.script(default=BREAKS["cut"])
    stack = default_stack(retry=Retry(budget=RetryBudget(13)))
    setup: dict[str, Any] = {"base_url": gateway.url, "api_key": API_KEY, "middleware": stack}
    async with ModelEngine("m", on_break="restart", **setup) as engine:
        _, raised = await drained(engine.stream_call("Hi"))
    assert isinstance(raised, StreamTruncatedError)
    assert gateway.requests == 1
    assert "the retry budget is used up" in (raised.attempts[-1].why or "")


async def test_a_restart_does_not_extend_the_deadline(gateway: Gateway, clock: FakeClock) -> None:
    gateway.script(default=BREAKS["cut"])
    stack = default_stack(retry=Retry(max_attempts=9, random=lambda: 0.5))
    setup: dict[str, Any] = {"base_url": gateway.url, "api_key": API_KEY, "middleware": stack, "clock": clock}
    async with ModelEngine("m", on_break="restart", timeouts=Timeouts(deadline=1), **setup) as engine:
        _, raised = await drained(engine.stream_call("Hi"))
    assert raised is not None
    assert "would pass the deadline" in (raised.attempts[-1].why or "")
    assert sum(clock.sleeps) < 1


async def test_what_came_is_kept_when_the_restart_fails(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(BREAKS["cut"], default=fail(529))
    stream = engine.stream_call("Hi", on_break="restart")
    chunks, raised = await drained(stream)
    assert isinstance(raised, OverloadedError)
    assert raised.partial is not None
    assert raised.partial.content == text_of(chunks) != ""
    assert [attempt.error for attempt in raised.attempts] == [
        "StreamTruncatedError",
        "OverloadedError",
        "OverloadedError",
    ]


async def test_an_answer_that_may_have_been_paid_twice_says_so(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(BREAKS["cut"], WHOLE)
    stream = engine.stream_call("Hi", on_break="restart")
    response = await stream.response()
    assert response.possibly_duplicated
    assert [attempt.possibly_duplicated for attempt in stream.summary.attempts] == [False, True]


@pytest.mark.parametrize("on_break", ["keep_partial", "restart"])
async def test_what_a_policy_blocked_is_always_raised(on_break: Any) -> None:
    async with Gateway(dialect="keeptrusts", api_key=API_KEY) as gateway:
        gateway.script(block("output", when="in_stream", after_events=4, of=WHOLE))
        async with ModelEngine("m", gateway="keeptrusts", base_url=gateway.url, api_key=API_KEY) as engine:
            _, raised = await drained(engine.stream_call("Hi", on_break=on_break))
    assert isinstance(raised, PolicyBlockedError)
    assert gateway.requests == 1


@pytest.mark.parametrize("on_break", ["keep_partial", "restart"])
async def test_before_the_first_output_nothing_is_bridged(gateway: Gateway, engine: ModelEngine, on_break: Any) -> None:
    gateway.script(default=fail(400))
    stream = engine.stream_call("Hi", on_break=on_break)
    assert (await failure(stream.response())).status == 400
    assert (stream.summary.verdict, stream.summary.restarts) == ("errored", 0)


async def test_a_final_failure_does_not_begin_anew(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=garbage_frame(after_events=4, of=WHOLE))
    _, raised = await drained(engine.stream_call("Hi", on_break="restart"))
    assert raised is not None
    assert (raised.attempts[-1].why, gateway.requests) == ("the failure is final", 1)


async def test_a_stream_may_be_closed_while_it_begins_anew() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await connection.send(STREAM_HEAD, text("a"))
            connection.close()
        else:
            asked_again.set()

    asked_again = asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url, clock=FakeClock()) as engine:
        stream = engine.stream_call("Hi", on_break="restart")
        await anext(stream)
        reader = asyncio.create_task(failure(stream.response()))
        await asked_again.wait()
        await stream.aclose()
        assert isinstance(await reader, StreamConsumedError)
        await server.until_closed()


@pytest.mark.parametrize("on_break", ["again", None, 1])
def test_an_unknown_policy_is_refused(on_break: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_break= is one of raise, keep_partial, restart, not"):
        ModelEngine("m", base_url="http://127.0.0.1:9", on_break=on_break)


def test_to_begin_anew_takes_a_retry() -> None:
    with pytest.raises(ConfigurationError, match="needs a Retry middleware"):
        ModelEngine("m", base_url="http://127.0.0.1:9", middleware=[Auth()], on_break="restart")


async def test_text_alone_cannot_begin_anew(engine: ModelEngine) -> None:
    with pytest.raises(ConfigurationError, match="cannot tell of a restart"):
        engine.stream_call("Hi", on_break="restart").text()


@pytest.mark.parametrize("after", [fail(400), fail(401)], ids=["400", "401"])
async def test_after_a_restart_that_fails_output_had_come_all_the_same(
    gateway: Gateway, engine: ModelEngine, after: Step
) -> None:
    gateway.script(BREAKS["cut"], after)
    _, raised = await drained(engine.stream_call("Hi", on_break="restart"))
    assert raised is not None
    assert (raised.phase, raised.attempts[-1].phase) == ("after_output", "rejected")


@pytest.mark.parametrize("reason", ["stop", "content_filter"])
@pytest.mark.parametrize("on_break", ["restart", "keep_partial"])
async def test_an_answer_that_has_its_finish_reason_does_not_begin_anew(on_break: Any, reason: str) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"), text("b", reason))
        connection.reset()

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url, clock=FakeClock()) as engine:
        stream = engine.stream_call("Hi", on_break=on_break)
        chunks, raised = await drained(stream)
    assert (text_of(chunks), server.connections, stream.summary.restarts) == ("ab", 1, 0)
    assert (raised is None) == (on_break == "keep_partial")
    assert stream.summary.verdict == ("truncated" if reason == "stop" else "filtered")
