"""A streamed answer, as the caller holds it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from penstock import ChatStream, ModelEngine, Timeouts
from penstock.engine.errors import (
    EngineStateError,
    MalformedResponseError,
    ModelEngineError,
    ServerError,
    StreamConsumedError,
    StreamTruncatedError,
)
from penstock.testing import (
    Gateway,
    answer,
    cut,
    error_event,
    fail,
    garbage_frame,
    no_done,
    reset,
    stall,
    tool_call,
    truncate,
)
from tests.clocks import FakeClock
from tests.conftest import API_KEY
from tests.outcomes import drained, failure, text_of
from tests.raw_server import STREAM_HEAD, Connection, RawServer, text

ANSWERS = {
    "text": answer("Hello there, world."),
    "reasoning": answer("42", reasoning="Let me think."),
    "tool calls": answer(tool_calls=[tool_call("a", {"x": 1}, id="1"), tool_call("b", {"y": [2, 3]}, id="2")]),
    "tool calls without index": answer(
        tool_calls=[tool_call("a", {}, id="1"), tool_call("b", {}, id="2")], tool_index=False
    ),
    "refusal": answer(refusal="I will not."),
    "length": answer("Hello", finish_reason="length"),
    "no usage": answer("Hello", usage=None),
    "nothing": answer(""),
}


# Reading


async def test_nothing_is_sent_before_the_stream_is_read(gateway: Gateway, engine: ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    async with stream:
        pass
    assert gateway.requests == 0
    assert repr(stream) == "<ChatStream of 'tiny-mock' at openai: closed, 0 chunks>"


async def test_chunks_come_in_order(gateway: Gateway, engine: ModelEngine) -> None:
    pieces = [f"{number} " for number in range(500)]
    gateway.script(answer(pieces=pieces))
    received = [chunk.delta_content async for chunk in engine.stream_call("Hi")]
    assert [piece for piece in received if piece] == pieces


@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_whole_answer_is_the_same_streamed_and_unary(
    gateway: Gateway, engine: ModelEngine, kind: str
) -> None:
    gateway.script(default=ANSWERS[kind])
    assert await engine.stream_call("Hi").response() == await engine.chat_completion("Hi")


async def test_several_choices_are_the_same_streamed_and_unary(engine: ModelEngine) -> None:
    streamed, unary = await engine.stream_call("Hi", n=3).response(), await engine.chat_completion("Hi", n=3)
    assert streamed == unary
    assert len(unary.choices) == 3


@pytest.mark.parametrize("chunking", ["event", "whole", 7])
async def test_batches_hold_the_chunks_of_one_read_each(gateway: Gateway, engine: ModelEngine, chunking: Any) -> None:
    gateway.script(answer("a b c d", chunking=chunking), answer("a b c d", chunking=chunking))
    batches = [batch async for batch in engine.stream_call("Hi").batches()]
    single = [chunk async for chunk in engine.stream_call("Hi")]
    assert all(batches)
    assert [chunk for batch in batches for chunk in batch] == single
    assert (len(batches) == 1) == (chunking == "whole")


async def test_reading_may_go_on_in_another_way(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=answer(pieces=list("abcdef"), chunking="whole"))
    stream = engine.stream_call("Hi")
    first = [await anext(stream), await anext(stream)]
    rest = [chunk async for batch in stream.batches() for chunk in batch]
    assert text_of(first + rest) == "abcdef"
    stream = engine.stream_call("Hi")
    await anext(stream)
    assert text_of([chunk async for chunk in stream]) == "abcdef"
    stream = engine.stream_call("Hi")
    async for _ in stream:
        break
    assert (await stream.response()).content == "abcdef"


@pytest.mark.parametrize("how", ["iteration", "batches", "response"])
async def test_a_stream_can_be_iterated_once(engine: ModelEngine, how: str) -> None:
    stream = engine.stream_call("Hi")
    if how == "iteration":
        async for _ in stream:
            pass
    elif how == "batches":
        async for _ in stream.batches():
            pass
    else:
        await stream.response()
    with pytest.raises(StreamConsumedError, match="response"):
        aiter(stream)
    with pytest.raises(StreamConsumedError):
        stream.batches()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_the_whole_answer_may_be_asked_for_again(engine: ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    chunks = [chunk async for chunk in stream]
    await stream.aclose()
    assert (await stream.response()).content == text_of(chunks)
    assert await stream.response() == await stream.response()


async def test_a_failure_is_raised_again_to_who_asks_again(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(truncate(after_events=3))
    stream = engine.stream_call("Hi")
    errors = [await failure(stream.response()), await failure(stream.response()), await failure(anext(stream))]
    assert len({(type(error), str(error), error.partial and error.partial.content) for error in errors}) == 1


async def test_what_was_left_early_is_not_given_out_as_whole(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer(pieces=list("abc"), chunking="whole"))
    async with engine.stream_call("Hi") as stream:
        await anext(stream)
    await stream.aclose()
    for asking in (stream.response(), anext(stream)):
        assert isinstance(await failure(asking), StreamConsumedError)
    assert stream.summary.verdict is None
    assert stream.partial.content == "abc"


async def test_a_reader_that_was_cancelled_does_not_take_the_rest_for_the_end(
    gateway: Gateway, engine: ModelEngine
) -> None:
    gateway.script(stall(after_events=3))
    stream = engine.stream_call("Hi")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(stream.response(), 0.1)
    assert isinstance(await failure(anext(stream)), StreamConsumedError)
    await gateway.assert_no_open_connections()


async def test_two_tasks_may_not_read_one_stream(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    stream = engine.stream_call("Hi")
    await anext(stream)
    reader = asyncio.create_task(stream.response())
    await asyncio.sleep(0)
    assert isinstance(await failure(stream.response()), EngineStateError)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_a_stream_may_be_closed_under_its_reader(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=2))
    stream = engine.stream_call("Hi")
    await anext(stream)
    reader = asyncio.create_task(failure(stream.response()))
    await asyncio.sleep(0)
    await stream.aclose()
    assert isinstance(await reader, StreamConsumedError)
    await gateway.assert_no_open_connections()
    assert stream.summary.verdict is None


async def test_a_stream_may_be_closed_while_its_reader_waits_for_the_head() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        requested.set()
        await closed.wait()
        await connection.send(STREAM_HEAD, text("a"))

    requested, closed = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi")
        reader = asyncio.create_task(failure(stream.response()))
        await requested.wait()
        await stream.aclose()
        closed.set()
        assert isinstance(await reader, StreamConsumedError)
        await server.until_closed()


async def test_an_exception_in_the_block_gives_the_connection_back(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    with contextlib.suppress(LookupError):
        async with engine.stream_call("Hi") as stream:
            await anext(stream)
            raise LookupError
    await gateway.assert_no_open_connections()


async def test_a_stream_that_is_forgotten_warns_and_gives_its_connection_back(
    gateway: Gateway, engine: ModelEngine
) -> None:
    gateway.script(stall(after_events=3))
    stream: ChatStream | None = engine.stream_call("Hi")
    assert stream is not None
    await anext(stream)
    with pytest.warns(ResourceWarning, match="use `async with`"):  # noqa: PT031
        stream = None
        gc.collect()
    await gateway.assert_no_open_connections()


async def test_a_stream_that_was_read_or_never_begun_does_not_warn(engine: ModelEngine) -> None:
    engine.stream_call("Hi")
    await engine.stream_call("Hi").response()
    gc.collect()


# How it ended


async def test_the_summary_says_what_the_stream_was(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer("a b c", reasoning="hm", chunking="whole"))
    stream = engine.stream_call("Hi")
    before = stream.summary
    assert (before.verdict, before.started, before.chunks, before.reads, before.attempts) == (None, None, 0, 0, ())
    chunks = [chunk async for chunk in stream]
    summary = stream.summary
    assert (summary.verdict, summary.finish_reason, summary.usage_provenance) == ("complete", "stop", "reported")
    assert (summary.chunks, summary.reads) == (len(chunks), 1)
    assert summary.bytes > 100
    assert summary.usage == chunks[-1].usage
    assert summary.started is not None
    assert summary.first_event is not None
    assert summary.first_content is not None
    assert summary.last_event is not None
    assert summary.started <= summary.first_event <= summary.first_content <= summary.last_event
    assert (summary.request_id, summary.gateway_request_id) == (chunks[0].request_id, "req_1")
    assert summary.idempotency_key == gateway.keys[0]
    assert [(attempt.status, attempt.error) for attempt in summary.attempts] == [(200, None)]
    assert summary.attempts[0].ended is not None


async def test_the_summary_counts_from_the_call_and_not_from_the_last_attempt(gateway: Gateway) -> None:
    gateway.script(fail(503, retry_after=7))
    clock = FakeClock()
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=clock) as engine:
        stream = engine.stream_call("Hi")
        await stream.response()
    assert (stream.summary.started, stream.summary.time_to_first_event) == (0.0, clock.sleeps[0])


@pytest.mark.parametrize(
    ("step", "verdict", "error"),
    [
        (answer("a b c"), "complete", None),
        (no_done(of=answer("a b c")), "complete", None),
        (answer("a b c", finish_reason="content_filter"), "filtered", None),
        (truncate(of=answer("a b c")), "truncated", StreamTruncatedError),
        (truncate(after_events=3, of=answer("a b c")), "truncated", StreamTruncatedError),
        (cut(after_events=4, of=answer("a b c")), "truncated", StreamTruncatedError),
        (cut(after_events=4, by="reset", of=answer("a b c")), "truncated", StreamTruncatedError),
        (error_event(after_events=4, of=answer("a b c")), "errored", ServerError),
        (error_event(after_events=4, done=True, of=answer("a b c")), "errored", ServerError),
        (garbage_frame(after_events=4, of=answer("a b c")), "errored", MalformedResponseError),
    ],
    ids=["done", "no done", "filter", "truncated", "early", "cut", "reset", "error", "error and done", "garbage"],
)
async def test_a_stream_ends_with_a_verdict(
    gateway: Gateway, engine: ModelEngine, step: Any, verdict: str, error: type[ModelEngineError] | None
) -> None:
    gateway.script(step)
    stream = engine.stream_call("Hi")
    chunks, raised = await drained(stream)
    assert (stream.summary.verdict, gateway.requests) == (verdict, 1)
    if error is None:
        assert raised is None
        assert text_of(chunks) == "a b c"
    else:
        assert isinstance(raised, error)
        assert raised.phase == "after_output"
        assert raised.partial is not None
        assert raised.partial.content == text_of(chunks) != ""


@pytest.mark.parametrize(
    "step",
    [
        fail(503),
        reset(),
        reset("after_headers"),
        cut(after_events=1),
        truncate(after_events=1),
        error_event(after_events=1),
        error_event(after_events=0),
        stall(after_events=1),
    ],
    ids=lambda step: type(step).__name__,
)
async def test_what_goes_wrong_before_the_first_output_is_not_seen(gateway: Gateway, step: Any) -> None:
    gateway.script(step)
    clock, timeouts = FakeClock(), Timeouts(first_event=0.1)
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=clock, timeouts=timeouts) as engine:
        stream = engine.stream_call("Hi")
        chunks = [chunk async for chunk in stream]
    assert (gateway.requests, len(gateway.keys), len(clock.sleeps)) == (2, 1, 1)
    assert sum(chunk.role is not None for chunk in chunks) == 1
    assert stream.summary.verdict == "complete"


async def test_partial_is_what_came_so_far(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer(pieces=list("abc"), chunking="whole"))
    async with engine.stream_call("Hi") as stream:
        assert stream.partial.content == ""
        await anext(stream)
        assert stream.partial.content == "abc"


async def test_what_a_middleware_raises_passes_and_closes_the_stream(gateway: Gateway) -> None:
    async def fail_always(request: Any, handler: Any) -> Any:
        raise LookupError("a bug in a middleware")

    async with ModelEngine("m", base_url=gateway.url, middleware=[fail_always]) as engine:
        stream = engine.stream_call("Hi")
        with pytest.raises(LookupError):
            await anext(stream)
        assert isinstance(await failure(stream.response()), StreamConsumedError)


async def test_a_reader_that_has_been_woken_when_its_stream_is_closed_does_not_wait_for_more() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        reader = asyncio.create_task(failure(anext(stream)))
        await asyncio.sleep(0)
        assert stream._reply is not None
        stream._reply.content.feed_data(b": wakes the reader\n\n")  # as the next read would, in this very turn
        await stream.aclose()
        assert isinstance(await asyncio.wait_for(reader, 5), StreamConsumedError)
