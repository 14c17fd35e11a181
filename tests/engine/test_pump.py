"""Chunks that are pushed: all of them, in order, as they arrive, and with the same ends as any stream has."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from penstock import LLMResponseChunk, ModelEngine, Timeouts
from penstock.engine.errors import (
    DeadlineExceededError,
    EngineClosedError,
    IdleTimeoutError,
    ModelEngineError,
    ServerError,
    StreamConsumedError,
    StreamTruncatedError,
)
from penstock.testing import Gateway, answer, cut, error_event, fail, stall, truncate
from tests.clocks import FakeClock
from tests.conftest import API_KEY
from tests.outcomes import failure, text_of
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, event, text

Chunks = list[LLMResponseChunk]
WORDS = answer(pieces=["a", "b", "c", "d", "e", "f"])


async def test_all_chunks_come_in_order(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(WORDS, WORDS)
    pumped: Chunks = []
    stream = engine.stream_call("Hi")
    await stream.pump(pumped.extend)
    assert pumped == [chunk async for chunk in engine.stream_call("Hi")]
    assert (stream.summary.verdict, (await stream.response()).content) == ("complete", "abcdef")
    assert (gateway.open_streams, stream.summary.chunks) == (0, len(pumped))


async def test_chunks_are_given_out_in_the_turn_in_which_they_arrive() -> None:
    tasks: set[Any] = set()

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        for part in (text("b"), text("c", "stop"), DONE + END):
            await got.wait()
            got.clear()
            await connection.send(part)

    def sink(chunks: Chunks) -> None:
        tasks.add(asyncio.current_task())
        got.set()

    got = asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        await engine.stream_call("Hi").pump(sink)
    assert None in tasks  # not in a task: in the callback that brought the bytes


async def test_while_the_sink_waits_nothing_is_read(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer(pieces=list("abcdef"), delay_s=0.005))
    waiting = 0

    def sink(chunks: Chunks) -> Any:
        assert waiting == 0
        seen.extend(chunks)
        return pause()

    async def pause() -> None:
        nonlocal waiting
        waiting += 1
        await asyncio.sleep(0.01)
        waiting -= 1

    seen: Chunks = []
    await engine.stream_call("Hi").pump(sink)
    assert text_of(seen) == "abcdef"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (cut(after_events=4, of=WORDS), StreamTruncatedError),
        (cut(after_events=4, by="reset", of=WORDS), StreamTruncatedError),
        (truncate(after_events=4, of=WORDS), StreamTruncatedError),
        (error_event(after_events=4, of=WORDS), ServerError),
        (stall(after_events=4, of=WORDS), IdleTimeoutError),
    ],
    ids=["cut", "reset", "truncated", "error event", "silence"],
)
async def test_a_failure_comes_after_the_chunks_before_it(
    gateway: Gateway, step: Any, error: type[ModelEngineError]
) -> None:
    gateway.script(step)
    pumped: Chunks = []
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, timeouts=Timeouts(idle=0.1)) as engine:
        stream = engine.stream_call("Hi")
        raised = await failure(stream.pump(pumped.extend))
    assert (type(raised), raised.phase) == (error, "after_output")
    assert raised.partial is not None
    assert raised.partial.content == text_of(pumped) != ""


async def test_nothing_extends_the_deadline(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer(pieces=["x"] * 1000, delay_s=0.01))
    raised = await failure(engine.stream_call("Hi", timeout=0.15).pump(lambda chunks: None))
    assert isinstance(raised, DeadlineExceededError)
    await gateway.until(lambda: gateway.open_streams == 0)


async def test_before_the_first_output_it_is_tried_again(gateway: Gateway) -> None:
    gateway.script(fail(503), cut(after_events=1, of=WORDS), WORDS)
    pumped: Chunks = []
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=FakeClock()) as engine:
        await engine.stream_call("Hi").pump(pumped.extend)
    assert (text_of(pumped), gateway.requests) == ("abcdef", 3)


async def test_a_broken_stream_may_begin_anew(gateway: Gateway) -> None:
    gateway.script(cut(after_events=4, of=WORDS), WORDS)
    pumped: Chunks = []
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=FakeClock()) as engine:
        await engine.stream_call("Hi", on_break="restart").pump(pumped.extend)
    marker = next(position for position, chunk in enumerate(pumped) if chunk.restart)
    assert text_of(pumped[marker:]) == "abcdef"


@pytest.mark.parametrize("at", [1, 3])
async def test_what_the_sink_raises_closes_the_stream(gateway: Gateway, engine: ModelEngine, at: int) -> None:
    gateway.script(answer(pieces=list("abcdef"), delay_s=0.005))
    calls = 0

    def sink(chunks: Chunks) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise LookupError("a bug in a sink")

    with pytest.raises(LookupError):
        await engine.stream_call("Hi").pump(sink)
    assert calls == at
    await gateway.until(lambda: gateway.open_streams == 0)


LAST = text("c", "stop") + DONE + END


@pytest.mark.parametrize("on_break", ["raise", "keep_partial"])
@pytest.mark.parametrize("last", [LAST, text("c") + event({"error": {"message": "no"}})], ids=["end", "error"])
@pytest.mark.parametrize("error", [LookupError("a bug in a sink"), asyncio.CancelledError()], ids=["bug", "cancelled"])
async def test_what_the_sink_raises_at_the_end_is_raised_too(on_break: Any, last: bytes, error: BaseException) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        for part in (text("b"), last):
            await got.wait()
            got.clear()
            await connection.send(part)

    def sink(chunks: Chunks) -> None:
        got.set()
        if "c" in text_of(chunks):
            raise error

    got = asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        with pytest.raises(type(error)):
            await engine.stream_call("Hi", on_break=on_break).pump(sink)


async def test_a_cancelled_pump_is_no_success(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    got = asyncio.Event()
    stream = engine.stream_call("Hi")
    task = asyncio.create_task(stream.pump(lambda chunks: got.set()))
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.summary.attempts[0].error == "CancelledError"


async def test_cancelling_closes_the_connection(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    got = asyncio.Event()
    task = asyncio.create_task(engine.stream_call("Hi").pump(lambda chunks: got.set()))
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gateway.until(lambda: gateway.open_connections == 0)
    assert (await engine.chat_completion("Hi")).content


async def test_another_task_may_close_it(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    got = asyncio.Event()
    stream = engine.stream_call("Hi")
    task = asyncio.create_task(failure(stream.pump(lambda chunks: got.set())))
    await got.wait()
    await stream.aclose()
    assert isinstance(await task, StreamConsumedError)
    await gateway.until(lambda: gateway.open_connections == 0)


async def test_stopping_the_engine_ends_it(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    got = asyncio.Event()
    task = asyncio.create_task(failure(engine.stream_call("Hi").pump(lambda chunks: got.set())))
    await got.wait()
    await engine.stop()
    assert isinstance(await task, EngineClosedError)


async def test_a_session_of_the_users_can_do_it_too(gateway: Gateway) -> None:
    gateway.script(WORDS)
    pumped: Chunks = []
    setup: dict[str, Any] = {"base_url": gateway.url, "api_key": API_KEY}
    async with aiohttp.ClientSession() as session, ModelEngine("m", session=session, **setup) as engine:
        await engine.stream_call("Hi").pump(pumped.extend)
    assert text_of(pumped) == "abcdef"


async def test_a_stream_is_read_in_one_way(gateway: Gateway, engine: ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    await anext(stream)
    async with stream:
        assert isinstance(await failure(_iterated_and_pumped(stream)), StreamConsumedError)


async def _iterated_and_pumped(stream: Any) -> None:
    aiter(stream)
    await stream.pump(lambda chunks: None)


async def test_text_comes_in_pieces(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(answer(pieces=["a", "b", "c"], reasoning="well"))
    assert "".join([piece async for piece in engine.stream_call("Hi").text()]) == "abc"


async def test_text_fails_as_the_stream_does(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(truncate(after_events=4, of=WORDS))
    pieces: list[str] = []

    async def read() -> None:
        async for piece in engine.stream_call("Hi").text():
            pieces.append(piece)  # noqa: PERF401 - what came before the failure counts

    raised = await failure(read())
    assert raised.partial is not None
    assert "".join(pieces) == raised.partial.content != ""
