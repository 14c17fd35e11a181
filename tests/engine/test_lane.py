"""The short way of an event: taken where it can be, and leaving the same behind as the long one."""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiohttp.http_parser import HttpResponseParserPy

from penstock import ChatStream, LLMResponseChunk, ModelEngine, ModelEngineError, Modelgov, Timeouts
from penstock.engine.connection import BufferedConnection
from penstock.engine.errors import IdleTimeoutError, ProgressTimeoutError, StreamConsumedError, StreamTruncatedError
from penstock.engine.lane import Lane
from tests.outcomes import drained, failure, text_of
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, chunk, event, text

Chunks = list[LLMResponseChunk]
Reader = Callable[[ChatStream, Chunks], Any]
APART = 0.003  # seconds between two writes, so that each is read alone


def delta(finish_reason: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": members, "finish_reason": finish_reason}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def padded(content: str) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return event({"id": "chatcmpl-1", "choices": [choice], "obfuscation": "x" * (1 + len(content) % 5)})


def payload_of(part: bytes) -> bytes:
    """What is in a transfer chunk."""
    return part[part.find(b"\r\n") + 2 : -2]


class Teller:
    """A server that sends parts, each in a write of its own."""

    def __init__(self, *parts: bytes, apart: float = APART) -> None:
        self._parts = parts
        self._apart = apart

    async def __call__(self, connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD)
        await self.tell(connection, *self._parts, apart=self._apart)

    @staticmethod
    async def tell(connection: Connection, *parts: bytes, apart: float) -> None:
        for part in parts:
            await asyncio.sleep(apart)
            await connection.send(part)


async def by_chunk(stream: ChatStream, chunks: Chunks) -> None:
    async for each in stream:
        chunks.append(each)


async def by_batch(stream: ChatStream, chunks: Chunks) -> None:
    async for each in stream.batches():
        assert each
        chunks.extend(each)


async def by_push(stream: ChatStream, chunks: Chunks) -> None:
    await stream.pump(chunks.extend)


async def by_slow_push(stream: ChatStream, chunks: Chunks) -> None:
    def sink(some: Chunks) -> Any:
        chunks.extend(some)
        return asyncio.sleep(0.002) if len(chunks) % 3 == 0 else None

    await stream.pump(sink)


async def by_slow_chunk(stream: ChatStream, chunks: Chunks) -> None:
    async for each in stream:
        chunks.append(each)
        await asyncio.sleep(0.004 if len(chunks) % 3 == 0 else 0)


async def whole(stream: ChatStream, chunks: Chunks) -> None:
    await stream.response()


READERS: dict[str, Reader] = {
    "async for": by_chunk,
    "batches": by_batch,
    "pump": by_push,
    "slow pump": by_slow_push,
    "slow async for": by_slow_chunk,
    "response": whole,
}
WORDS = [f" w{number}" for number in range(12)]
SHAPES = {
    "content": [text(word) for word in WORDS],
    "escapes and other scripts": [text(word) for word in ['"\\', "\n", "ä", "東京", "🙂", "<b>", "\t", "Zoë "]],
    "padding": [padded(word) for word in WORDS],
    "reasoning": [text(""), *(delta(reasoning_content=word) for word in WORDS), text("so")],
    "upper case sizes": [b"%X\r\n%b\r\n" % (len(payload_of(text(word))), payload_of(text(word))) for word in WORDS],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_paced_events_go_the_short_way(shape: str, reader: str) -> None:
    parts, chunks = SHAPES[shape], Chunks()
    talk = Teller(*parts, text("", "stop"), DONE + END)
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi")
        await READERS[reader](stream, chunks)
    assert stream._reply is not None
    taken = stream._reply.lane.chunks
    if "slow" not in reader:
        assert taken >= len(parts) // 2
    answer, summary = stream.partial, stream.summary
    said = "".join(chunk.delta_content or chunk.delta_reasoning or "" for chunk in chunks)
    assert (summary.verdict, summary.reads <= summary.chunks) == ("complete", True)
    if chunks:
        assert (said, summary.chunks) == ((answer.reasoning or "") + answer.content, len(chunks))
    assert summary.bytes == sum(len(payload_of(part)) for part in (*parts, text("", "stop"), DONE))
    assert None not in (summary.first_event, summary.first_content, summary.last_event)


async def test_frames_of_modelgov_do_too() -> None:
    frames = [event({"delta": word}) for word in WORDS]
    done = event({"done": True, "model": "m", "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}})
    async with RawServer(Teller(*frames, done, DONE + END)) as server, Modelgov(server.url) as engine:
        stream = engine.stream_call("Hi", user_id="u", user_type="t", feature="f")
        chunks, error = await drained(stream)
    assert stream._reply is not None
    assert (text_of(chunks), error, stream._reply.lane.chunks > 6) == ("".join(WORDS), None, True)


# The same as the long way


def script(seed: int) -> list[bytes]:
    """A stream as no sane server would send it, in writes."""
    chance = random.Random(seed)
    words = ["a", "bc", "", 'q"\\', "ä", "東", "🙂", "x" * 700, "\n\n", "\r\n", "data: ", "🙂🙂", "0\r\n\r\n"]
    kinds: list[Callable[[str], bytes]] = [text, text, padded, lambda word: delta(reasoning_content=word)]
    kind = chance.choice(kinds)
    parts: list[bytes] = []
    for _ in range(chance.randint(4, 14)):
        part = kind(chance.choice(words)) if chance.random() < 0.85 else text(chance.choice(words))
        payload = payload_of(part)
        odd = chance.random()
        if odd < 0.03:
            part = b"%x;name=value\r\n%b\r\n" % (len(payload), payload)
        elif odd < 0.06:
            part = b"00%X\r\n%b\r\n" % (len(payload), payload)
        elif odd < 0.12:
            cut = chance.randint(1, len(payload) - 1)
            part = chunk(payload[:cut]) + chunk(payload[cut:])
        elif odd < 0.15:
            part = chunk(payload + payload)
        elif odd < 0.18:
            part = chunk(payload.replace(b"\n", b"\r\n"))
        elif odd < 0.21:
            part = chunk(b": ping\n\n")
        elif odd < 0.24:
            part = chunk(payload.replace(b'"id":"chatcmpl-1"', b'"id":"chatcmpl-2"'))
        elif odd < 0.27:
            part = chunk(payload.replace(b"null}", b'null,"logprobs":{"content":[]}}'))
        elif odd < 0.29:
            part = chunk(payload.replace(b'{"content":"', b'{"content":"\\u00e4\\ud83d'))
        elif odd < 0.30:
            part = b"zz\r\n" + payload
        parts.append(part)
    ending = chance.choice([[text("", "stop"), DONE, END], [text("", "stop"), DONE + END], [DONE + END], [END], []])
    whole = [*parts, *ending]
    # Cut into other writes: joined, or in the middle of a size, a line end, a payload.
    writes: list[bytes] = []
    for part in whole:
        if writes and chance.random() < 0.1:
            writes[-1] += part
        elif chance.random() < 0.15 and len(part) > 2:
            cut = chance.choice([1, 2, 3, 4, len(part) - 1, len(part) - 2, len(part) - 3, len(part) // 2])
            writes += [each for each in (part[:cut], part[cut:]) if each]
        else:
            writes.append(part)
    return writes


async def outcome(url: str, reader: str) -> tuple[Any, ...]:
    chunks: Chunks = []
    async with ModelEngine("m", base_url=url, timeouts=Timeouts(idle=2)) as engine:
        stream = engine.stream_call("Hi")
        error: ModelEngineError | None = None
        try:
            await READERS[reader](stream, chunks)
        except ModelEngineError as raised:
            error = raised
        summary, partial = stream.summary, stream.partial
        taken = stream._reply.lane.chunks if stream._reply is not None else 0
    told = (type(error), error.message, error.phase) if error is not None else None
    received = summary.bytes if error is None else None  # after a failure it is how much came with the read that had it
    facts = (summary.verdict, summary.chunks, received, summary.finish_reason, summary.usage)
    said = (partial.content, partial.reasoning, partial.request_id, partial.provider_metadata)
    return chunks, told, facts, said, taken


@pytest.mark.parametrize("reader", ["async for", "pump", "slow async for"])
async def test_it_leaves_the_same_behind_as_the_long_way(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(connection: Connection, seed: int) -> None:
        await Teller(*script(seed))(connection)
        connection.close()

    async def told(seed: int) -> tuple[Any, ...]:
        async with RawServer(lambda connection: talk(connection, seed)) as server:
            return await outcome(server.url, reader)

    seeds = range(150)
    short = await asyncio.gather(*(told(seed) for seed in seeds))
    monkeypatch.setattr(Lane, "open", lambda lane, pattern: None)
    long = await asyncio.gather(*(told(seed) for seed in seeds))
    different = [seed for seed, on, off in zip(seeds, short, long) if on[:-1] != off[:-1]]
    assert different == []
    least = 10 if "slow" in reader else 100  # a slow reader is elsewhere when most events come
    assert (sum(each[-1] for each in short) >= least, sum(each[-1] for each in long)) == (True, 0)


@pytest.mark.parametrize("size", [b"0x%x", b"+%x", b" %x", b"%x ", b"0%x0", b"-%x", b"%x_", b"%x\t"])
async def test_a_size_that_is_none_is_for_the_parser_to_judge(size: bytes) -> None:
    good = [text(word) for word in WORDS[:6]]
    payload = payload_of(good[0])
    async with RawServer(Teller(*good, size % len(payload) + b"\r\n" + payload + b"\r\n", DONE + END)) as server:
        taken = []
        for lanes in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                if not lanes:
                    patch.setattr(Lane, "open", lambda lane, pattern: None)
                taken.append((await outcome(server.url, "async for"))[:-1])
    assert taken[0] == taken[1]


async def test_what_looks_like_a_chunk_in_the_middle_of_one_is_none() -> None:
    """The payload of one chunk has in it what would be a chunk by itself, in a write of its own."""
    good, inner = [text(word) for word in WORDS], text("inner")
    outer = payload_of(text("outer")) + b"\r\n" + inner
    whole = chunk(outer)
    begun = len(whole) - len(inner) - 2
    parts = [*good, whole[:begun], inner, b"\r\n" + text("after"), DONE + END]
    async with RawServer(Teller(*parts)) as server:
        chunks, error, facts, _, taken = await outcome(server.url, "async for")
    assert (text_of(chunks), error, taken > 6) == ("".join(WORDS) + "outerinnerafter", None, True)
    assert facts[2] == sum(len(payload_of(part)) for part in (*good, whole, text("after"), DONE))


async def test_the_size_of_a_chunk_may_be_cut_in_two() -> None:
    """What is left of it, and what follows, would be a chunk by itself."""
    good = [text(word) for word in WORDS]
    inner = text("inner")
    size = int(inner[: inner.find(b"\r\n")], 16)
    outer = payload_of(inner) + b"\r\n"
    outer += b":" * (0x100 + size - len(outer) - 2) + b"\n\n"
    whole = b"1%x\r\n%b\r\n" % (size, outer)
    left = whole[1 : len(inner) + 1]
    assert left == inner
    parts = [*good[:-1], good[-1] + b"1", left, whole[1 + len(left) :], text("after"), DONE + END]
    async with RawServer(Teller(*parts)) as server:
        chunks, error, _, _, taken = await outcome(server.url, "async for")
    assert (text_of(chunks), error, taken > 6) == ("".join(WORDS) + "innerafter", None, True)


async def test_a_chunk_without_its_line_end_is_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser that aiohttp has in Python tells of the end of a chunk before it has seen that line end."""
    monkeypatch.setattr("aiohttp.client_proto.HttpResponseParser", HttpResponseParserPy)
    payload = payload_of(text("a")) + b"\r\n"
    cut = b"%x\r\n%b" % (len(payload), payload)
    async with RawServer(Teller(*map(text, WORDS[:6]), cut, *map(text, WORDS), DONE + END)) as server:
        told = await outcome(server.url, "async for")
    assert (told[0][-1].delta_content, told[1][0]) == ("a", StreamTruncatedError)


# Clocks, ends and errors


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(APART)
    pytest.fail("it never came about")


async def opened(engine: ModelEngine) -> ChatStream:
    """A stream whose next event goes the short way."""
    stream = engine.stream_call("Hi")
    while stream._reply is None or not stream._reply.lane.chunks:
        await anext(stream)
    return stream


async def test_silence_counts_from_the_last_event_of_either_way() -> None:
    events = [text(word) for word in WORDS]
    talk, limits = Teller(*events, apart=0.05), Timeouts(idle=0.2)
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url, timeouts=limits) as engine:
        stream = await opened(engine)
        _, error = await drained(stream)
    assert (type(error), stream.partial.content) == (IdleTimeoutError, "".join(WORDS))


async def test_what_the_reader_takes_is_no_silence() -> None:
    async with RawServer(Teller(*map(text, WORDS), text("", "stop"), DONE + END, apart=0.02)) as server:
        limits = Timeouts(idle=0.15, progress=0.15)
        async with ModelEngine("m", base_url=server.url, timeouts=limits) as engine:
            stream = await opened(engine)
            await asyncio.sleep(0.4)
            _, error = await drained(stream)
    assert (error, stream.partial.content) == (None, "".join(WORDS))


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_pings_are_no_progress_after_the_short_way(is_pushed: bool) -> None:
    pings = [chunk(b": ping\n\n")] * 40
    async with RawServer(Teller(*map(text, WORDS), *pings, apart=0.02)) as server:
        limits = Timeouts(idle=0.5, progress=0.2)
        async with ModelEngine("m", base_url=server.url, timeouts=limits) as engine:
            stream = engine.stream_call("Hi")
            error = await failure(stream.pump(lambda chunks: None) if is_pushed else by_chunk(stream, []))
    assert (type(error), stream.partial.content) == (ProgressTimeoutError, "".join(WORDS))


async def test_an_error_of_the_sink_ends_the_stream() -> None:
    def sink(chunks: Chunks) -> None:
        if stream._reply is not None and stream._reply.lane.chunks == 3:
            raise LookupError("full")

    async with RawServer(Teller(*map(text, WORDS))) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi")
        with pytest.raises(LookupError, match="full"):
            await stream.pump(sink)
        assert stream._reply is not None
        assert (stream._reply.lane.chunks, stream._reply.lane.is_open) == (3, False)


@pytest.mark.parametrize("how", ["cancel", "aclose", "stop"])
async def test_a_wait_on_the_short_way_is_ended_like_any(how: str) -> None:
    gone = asyncio.Event()

    async def talk(connection: Connection) -> None:
        await Teller(*map(text, WORDS[:6]))(connection)
        await connection.until_gone()
        gone.set()

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = await opened(engine)
        task = asyncio.ensure_future(drained(stream))
        await until(lambda: stream.partial.content == "".join(WORDS[:6]))
        assert stream._reply is not None
        assert stream._reply.lane.is_open
        if how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "aclose":
            await stream.aclose()
            assert isinstance((await task)[1], StreamConsumedError)
        else:
            await engine.stop()
            assert (await task)[1] is not None
        await asyncio.wait_for(gone.wait(), 5)
        assert not stream._reply.lane.is_open


def test_a_wait_is_ended_where_no_loop_runs() -> None:
    """As by the garbage collector, of a task that was never ended."""
    gone = asyncio.Event()

    async def talk(connection: Connection) -> None:
        await Teller(*map(text, WORDS))(connection)
        await connection.until_gone()
        gone.set()

    async def begin() -> Any:
        await server.__aenter__()
        engine = await ModelEngine("m", base_url=server.url).__aenter__()
        stream = await opened(engine)
        while stream.partial.content != "".join(WORDS):
            await anext(stream)
        waiting = stream.__anext__()
        waiting.send(None)
        return engine, stream, waiting

    async def end() -> None:
        await asyncio.wait_for(gone.wait(), 5)
        await engine.__aexit__(None, None, None)
        await server.__aexit__(None, None, None)

    server, loop = RawServer(talk), asyncio.new_event_loop()
    try:
        engine, stream, waiting = loop.run_until_complete(begin())
        assert stream._reply.lane.is_open
        waiting.close()
        loop.run_until_complete(end())
        assert not stream._reply.lane.is_open
    finally:
        loop.close()


@pytest.mark.parametrize("is_late", [False, True], ids=["to who waits", "to who comes later"])
async def test_a_lost_connection_is_told(is_late: bool) -> None:
    async def talk(connection: Connection) -> None:
        await Teller(*map(text, WORDS))(connection)
        await is_read.wait()
        connection.reset()
        is_lost.set()

    is_read, is_lost = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = await opened(engine)
        while stream.partial.content != "".join(WORDS):
            await anext(stream)
        assert stream._reply is not None
        assert stream._reply.lane.is_open
        is_read.set()
        if is_late:
            await is_lost.wait()
            await asyncio.sleep(0.05)
        _, error = await asyncio.wait_for(drained(stream), 5)
    assert (type(error), stream.partial.content) == (StreamTruncatedError, "".join(WORDS))


async def test_the_last_event_stays_the_last_when_no_restart_succeeds() -> None:
    async def talk(connection: Connection) -> None:
        if connection.number == 1:
            await Teller(*map(text, WORDS), apart=0.01)(connection)
        connection.reset()

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi", on_break="restart")
        while stream.partial.content != "".join(WORDS):
            await anext(stream)
        last = stream.summary.last_event
        await failure(anext(stream))
    assert (stream.summary.chunks, stream.summary.last_event) == (len(WORDS), last)


async def test_a_late_reader_does_not_disturb_who_has_the_connection_now() -> None:
    """The body of the first stream is at its end, so that the second has its connection, but is not read yet."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *map(text, WORDS[:6]))
        await is_begun.wait()
        await connection.send(*map(text, WORDS[6:]), text("", "stop"), DONE, END)
        await Teller(*map(text, WORDS), text("", "stop"), DONE + END, apart=0.01)(connection)

    is_begun = asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        first = engine.stream_call("Hi")
        await anext(first)
        is_begun.set()
        await until(lambda: first._reply is not None and first._reply.content.is_eof())
        second = engine.stream_call("Hi", timeout=5)
        chunks: Chunks = []
        task = asyncio.ensure_future(second.pump(chunks.extend))
        await until(lambda: second._reply is not None and second._reply.lane.is_open)
        _, error = await drained(first)
        await task
        assert (server.connections, error, text_of(chunks)) == (1, None, "".join(WORDS))
        assert second._reply is not None
        assert second._reply.lane.chunks > 6


async def test_a_late_push_does_not_either() -> None:
    """The sink of the first stream was busy until the second had its connection."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        await is_held.wait()
        await connection.send(*map(text, WORDS), text("", "stop"), DONE, END)
        await Teller(*map(text, WORDS), text("", "stop"), DONE + END, apart=0.01)(connection)

    is_held, is_free = asyncio.Event(), asyncio.Event()

    def hold(chunks: Chunks) -> Any:
        is_held.set()
        return is_free.wait()

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        first = engine.stream_call("Hi")
        pumped = asyncio.ensure_future(first.pump(hold))
        await until(lambda: first._reply is not None and first._reply.content.is_eof())
        second = await opened(engine)
        is_free.set()
        _, error = await asyncio.wait_for(drained(second), 5)
        await pumped
    assert (server.connections, error) == (1, None)
    assert (first.partial.content, second.partial.content) == ("a" + "".join(WORDS), "".join(WORDS))


async def test_nothing_overtakes_what_a_paused_parser_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser that aiohttp has in Python keeps the first read after a pause that came with the end of a read."""

    async def talk(connection: Connection) -> None:
        await Teller(*map(text, WORDS))(connection)
        await is_read.wait()
        body = stream._reply.content  # type: ignore[union-attr]
        part = text("x" * 7000)
        size = len(payload_of(part))
        for count in itertools.count(1):
            await connection.send(part)
            await until(partial(lambda count: body._size == count * size, count))
            if body._protocol._reading_paused:
                break
        is_full.set()
        await goes_on.wait()
        await Teller.tell(connection, *map(text, "abcdef"), text("", "stop"), DONE + END, apart=0.02)

    monkeypatch.setattr("aiohttp.client_proto.HttpResponseParser", HttpResponseParserPy)
    is_read, is_full, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = await opened(engine)
        while stream.partial.content != "".join(WORDS):
            await anext(stream)
        is_read.set()
        await is_full.wait()
        assert stream._reply is not None
        while stream._reply.content.has_more or stream._ready:
            await anext(stream)
        goes_on.set()
        await asyncio.sleep(0.03)  # elsewhere when the next event comes
        _, error = await drained(stream)
    assert (error, stream.partial.content.replace("x", "")) == (None, "".join(WORDS) + "abcdef")


async def test_a_compressed_body_goes_the_long_way() -> None:
    """Blocks that are stored as they are: the second chunk of each looks like an event, and is in the middle of one."""
    events = [payload_of(text(word)) for word in WORDS]
    parts = [chunk(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")]
    for first, second in zip(events[::2], events[1::2]):
        size = len(first + second)
        parts += [chunk(struct.pack("<BHH", 0, size, size ^ 0xFFFF) + first), chunk(second)]
    done = b"data: [DONE]\n\n"
    data = b"".join(events) + done
    ending = struct.pack("<BHH", 1, len(done), len(done) ^ 0xFFFF) + done
    parts.append(chunk(ending + struct.pack("<II", zlib.crc32(data), len(data))) + END)

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))
        for part in parts:
            await asyncio.sleep(APART)
            await connection.send(part)

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        stream = engine.stream_call("Hi")
        chunks, error = await drained(stream)
    assert stream._reply is not None
    assert (text_of(chunks), error, stream._reply.lane.chunks) == ("".join(WORDS), None, 0)


# Memory for reads


async def test_all_connections_of_an_asyncio_loop_read_into_the_same_memory() -> None:
    large = "x" * 300_000

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"), text(large), text("", "stop"), DONE + END)

    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url) as engine:
        streams = [engine.stream_call("Hi") for _ in range(4)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        held = [stream._reply.content._protocol for stream in streams if stream._reply is not None]
        answers = await asyncio.gather(*(stream.response() for stream in streams))
    assert {answer.content for answer in answers} == {f"a{large}"}
    is_given = isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    assert [isinstance(each, BufferedConnection) for each in held] == [is_given] * 4
    assert len({id(getattr(each, "_memory", None)) for each in held}) == 1
