"""What no gateway should send and some do: every answer ends in a typed error or a right result, within bounds."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import ModelEngine, Retry, UsageInfo, default_stack
from penstock.engine.errors import (
    DeadlineExceededError,
    DisconnectedError,
    EventTooLargeError,
    MalformedResponseError,
    ModelEngineError,
    ProtocolError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    StreamTruncatedError,
)
from penstock.engine.sse import SSEDecoder
from tests.outcomes import drained, failure, text_of
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, chunk, event, text

if TYPE_CHECKING:
    from typing_extensions import Self

MIB = 1024 * 1024
COMPLETION = b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'

Talk = Callable[[Connection], Awaitable[None]]
Call = Callable[[ModelEngine], Awaitable[Any]]
CALLS: list[Call] = [lambda engine: engine.chat_completion("Hi"), lambda engine: engine.stream_call("Hi").response()]
unary_and_streamed = pytest.mark.parametrize("call", CALLS, ids=["unary", "streamed"])


def once(url: str) -> ModelEngine:
    """An engine that makes one attempt."""
    return ModelEngine("m", base_url=url, middleware=default_stack(retry=Retry(max_attempts=1)))


def saying(*parts: bytes) -> Talk:
    """Answers a request with these bytes, and ends."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(*parts)
        connection.close()

    return talk


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Talk:
    length = b"content-length: %d" % len(body)
    return saying(b"\r\n".join((b"HTTP/1.1 " + status, length, *headers, b"", body)))


def streaming(*parts: bytes) -> Talk:
    return saying(STREAM_HEAD, *parts, END)


async def asked(talk: Talk, call: Call = CALLS[0]) -> Any:
    """What comes of one call."""
    async with RawServer(talk) as server, once(server.url) as engine:
        return await call(engine)


class Peak:
    """The most memory that was allocated at a time inside of the block, in bytes.

    Attributes:
        bytes: The peak above what there was before.
    """

    def __enter__(self) -> Self:
        tracemalloc.start()
        self.bytes = 0
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *failure: object) -> None:
        self.bytes = tracemalloc.get_traced_memory()[1] - self._before
        tracemalloc.stop()


# Bodies that inflate


def gzipped(size: int) -> bytes:
    return gzip.compress(bytes(size), 9)


def deflated(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


bombs = pytest.mark.parametrize(
    "encoding, bomb", [(b"gzip", gzipped(256 * MIB)), (b"deflate", deflated(256 * MIB))], ids=["gzip", "deflate"]
)


@bombs
async def test_a_unary_body_that_inflates_ends_at_the_bound(encoding: bytes, bomb: bytes) -> None:
    async with RawServer(answer(bomb, b"content-encoding: " + encoding)) as server, once(server.url) as engine:
        engine._transport.max_body_bytes = 2 * MIB
        with Peak() as peak:
            error = await failure(engine.chat_completion("Hi"))
        await server.until_closed()
    assert type(error) is ResponseTooLargeError
    assert peak.bytes < 16 * MIB


@bombs
async def test_a_stream_that_inflates_ends_at_the_bound_of_an_event(encoding: bytes, bomb: bytes) -> None:
    talk = answer(bomb, b"content-type: text/event-stream", b"content-encoding: " + encoding)
    async with RawServer(talk) as server, once(server.url) as engine:
        with Peak() as peak:
            error = await failure(engine.stream_call("Hi").response())
        await server.until_closed()
    assert type(error) is EventTooLargeError
    assert peak.bytes < 48 * MIB


@bombs
async def test_an_error_body_that_inflates_is_read_to_its_bound(encoding: bytes, bomb: bytes) -> None:
    talk = answer(bomb, b"content-encoding: " + encoding, status=b"500 No")
    async with RawServer(talk) as server, once(server.url) as engine:
        with Peak() as peak:
            error = await failure(engine.chat_completion("Hi"))
        await server.until_closed()
    assert type(error) is ServerError
    assert len(error.body) == 64 * 1024
    assert peak.bytes < 16 * MIB


@unary_and_streamed
async def test_the_loop_runs_on_while_a_body_inflates(call: Call) -> None:
    """Other calls go on: the loop comes round once for each read, which has less than 1 MiB."""
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    body = (b'data: {"choices": [], "padding": "' + b"x" * 65536 + b'"}\n\n') * 512
    talk = answer(gzip.compress(body), b"content-type: text/event-stream", b"content-encoding: gzip")
    async with RawServer(talk) as server, once(server.url) as engine:
        counting = asyncio.create_task(count())
        await failure(call(engine))
        counting.cancel()
    assert rounds >= 32


async def test_an_unknown_content_encoding_is_not_guessed() -> None:
    error = await failure(asked(answer(b"\x00\x01\x02", b"content-encoding: snappy")))
    assert type(error) is MalformedResponseError


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd"])
@unary_and_streamed
async def test_what_is_not_compressed_though_it_says_so_is_a_typed_error(call: Call, encoding: bytes) -> None:
    error = await failure(asked(answer(b"plain", b"content-encoding: " + encoding), call))
    assert isinstance(error, (ProtocolError, DisconnectedError, StreamTruncatedError))


@pytest.mark.parametrize("cut", [4, 8, 20])
async def test_a_compressed_stream_without_its_end_is_truncated(cut: int) -> None:
    body = gzip.compress(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n' * 100)[:-cut]
    talk = answer(body, b"content-type: text/event-stream", b"content-encoding: gzip")
    error = await failure(asked(talk, CALLS[1]))
    assert type(error) is StreamTruncatedError


# Sizes


async def test_of_a_50_mb_error_body_64_kib_are_read_and_the_connection_is_closed() -> None:
    sent = 0

    async def talk(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 500 No\r\ncontent-length: %d\r\n\r\n" % (50 * MIB))
        for _ in range(50):
            await connection.send(b"x" * MIB)
            sent += MIB

    async with RawServer(talk) as server, once(server.url) as engine:
        error = await failure(engine.chat_completion("Hi"))
        await server.until_closed()
    assert error.body == "x" * 64 * 1024
    assert sent < 25 * MIB  # what the buffers of both sides hold


async def test_an_endless_line_ends_the_stream_and_its_connection() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"), chunk(b"data: "))
        while True:  # until the client closes
            await connection.send(chunk(b"x" * 65536))

    async with RawServer(talk) as server, once(server.url) as engine:
        with Peak() as peak:
            chunks, error = await drained(engine.stream_call("Hi"))
        await server.until_closed()
    assert text_of(chunks) == "a"
    assert type(error) is EventTooLargeError
    assert error.phase == "after_output"
    assert peak.bytes < 48 * MIB


HEADS = {
    "200 headers": b"".join(b"x-%d: a\r\n" % number for number in range(200)),
    "40 KB header": b"x: " + b"a" * 40_000 + b"\r\n",
    "NUL": b"x: a\0b\r\n",
    "bare CR": b"x: a\rb: c\r\n",
    "no name": b": a\r\n",
    "space in the name": b"x y: a\r\n",
    "length and chunks": b"content-length: 1\r\ntransfer-encoding: chunked\r\n",
    "negative length": b"content-length: -1\r\n",
}


@pytest.mark.parametrize("head", [pytest.param(head, id=name) for name, head in HEADS.items()])
@unary_and_streamed
async def test_a_head_that_is_none_is_a_protocol_error(head: bytes, call: Call) -> None:
    async with RawServer(saying(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")) as server, once(server.url) as engine:
        error = await failure(call(engine))
        await server.until_closed()
    assert type(error) is ProtocolError


@pytest.mark.parametrize("length", [b"1\r\ncontent-length: 2", b"9" * 400], ids=["two", "400 digits"])
@unary_and_streamed
async def test_a_length_that_is_none_is_a_typed_error(length: bytes, call: Call) -> None:
    """The parsers of aiohttp differ here: the one in C refuses the head, the one in Python waits for the body."""
    error = await failure(asked(saying(b"HTTP/1.1 200 OK\r\ncontent-length: " + length + b"\r\n\r\n"), call))
    assert isinstance(error, (ProtocolError, DisconnectedError, StreamTruncatedError))


async def test_a_long_reason_is_a_protocol_error() -> None:
    error = await failure(asked(saying(b"HTTP/1.1 200 " + b"a" * 60_000 + b"\r\n\r\n")))
    assert type(error) is ProtocolError


@pytest.mark.parametrize(
    "start, more, expected",
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: a\r\n" * 100, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 1000, ProtocolError),
        (b"HTTP/1.1 200 ", b"a" * 1000, ProtocolError),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", DeadlineExceededError),
    ],
    ids=["headers", "header", "reason", "100"],
)
async def test_an_endless_head_ends(start: bytes, more: bytes, expected: type[ModelEngineError]) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(start)
        while True:  # until the client closes
            await connection.send(more)
            await asyncio.sleep(0)

    async with RawServer(talk) as server, once(server.url) as engine:
        error = await failure(engine.chat_completion("Hi", timeout=0.5))
        await server.until_closed()
    assert type(error) is expected


# What is in the body

MALFORMED = {
    "100,000 levels": b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 levels without an end": b'{"a":' * 100_000,
    "400 digits": b'{"choices": [], "a": %b}' % (b"9" * 400),
    "1e400": b'{"choices": [], "a": 1e400}',
    "NaN": b'{"choices": [], "a": NaN}',
    "lone surrogate": rb'{"choices": [{"message": {"content": "\ud800"}, "delta": {"content": "\ud800"}}]}',
    "reversed surrogates": rb'{"choices": [{"message": {"content": "\udc00\ud800"}}]}',
    "two objects": b"{}{}",
    "a list": b"[]",
    "a number": b"7",
    "content of a wrong type": b'{"choices": [{"message": {"content": 7}, "delta": {"content": 7}}]}',
    "index of a wrong type": b'{"choices": [{"index": "0", "message": {"content": "a"}, "delta": {"content": "a"}}]}',
    "index beyond 64 bits": b'{"choices": [{"index": 18446744073709551616, "message": {}, "delta": {"content": "a"}}]}',
}
malformed = pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in MALFORMED.items()])


@malformed
async def test_a_malformed_answer_is_a_typed_error_with_its_beginning(body: bytes) -> None:
    error = await failure(asked(answer(body)))
    assert type(error) is MalformedResponseError
    assert error.body == body[:1000].decode()


@malformed
async def test_a_malformed_event_is_a_typed_error_and_what_came_before_is_kept(body: bytes) -> None:
    async with RawServer(streaming(text("a"), event(body))) as server, once(server.url) as engine:
        chunks, error = await drained(engine.stream_call("Hi"))
        await server.until_closed()
    assert text_of(chunks) == "a"
    assert type(error) is MalformedResponseError
    assert error.partial is not None
    assert error.partial.content == "a"


@malformed
async def test_a_malformed_error_body_does_not_change_what_its_status_means(body: bytes) -> None:
    error = await failure(asked(answer(body, b"retry-after: 7", status=b"429 No")))
    assert (type(error), error.status, error.retry_after) == (RateLimitError, 429, 7)


async def test_invalid_utf_8_in_a_unary_answer_is_malformed() -> None:
    error = await failure(asked(answer(b'{"choices": [{"message": {"content": "\xff"}}]}')))
    assert type(error) is MalformedResponseError


async def test_invalid_utf_8_in_a_stream_is_replaced_as_the_standard_wants_it() -> None:
    """HTML standard, 9.2.6: streams are decoded with "UTF-8 decode"."""
    data = b'{"choices": [{"delta": {"content": "a\xffb"}, "finish_reason": "stop"}]}'
    response = await asked(streaming(event(data), DONE), CALLS[1])
    assert response.content == "a\ufffdb"


@unary_and_streamed
async def test_a_page_in_a_success_is_malformed_and_named(call: Call) -> None:
    page = b"<!doctype html><html><title>Sign in</title></html>"
    error = await failure(asked(answer(page, b"content-type: text/html"), call))
    assert type(error) is MalformedResponseError
    assert "HTML page: Sign in" in error.message


# Token counts

NO_COUNTS = [2**64, 2**63 * 4, -1, 1.5, 3.0, True, "12", None, [], {}]


@pytest.mark.parametrize("count", NO_COUNTS, ids=repr)
@unary_and_streamed
async def test_what_is_no_count_is_not_reported_as_one(count: Any, call: Call) -> None:
    """2**64 reaches us as a float of another value."""
    usage = b'{"prompt_tokens": %b}' % (
        str(count).encode() if isinstance(count, int) and count > 2**63 else orjson.dumps(count)
    )
    assert (await usage_of(usage, call)) is None


@unary_and_streamed
async def test_one_count_that_is_none_makes_the_others_untrustworthy(call: Call) -> None:
    usage = b'{"prompt_tokens": 5, "completion_tokens": 18446744073709551616, "total_tokens": 5}'
    assert (await usage_of(usage, call)) is None


@unary_and_streamed
async def test_the_largest_count_is_exact(call: Call) -> None:
    usage = b'{"prompt_tokens": 18446744073709551615, "completion_tokens": 0, "total_tokens": 18446744073709551615}'
    assert (await usage_of(usage, call)) == UsageInfo(2**64 - 1, 0, 2**64 - 1)


@pytest.mark.parametrize("count", [b"18446744073709551616", b"-1", b"1.5", b"true", b'"12"'])
async def test_a_detail_that_is_no_count_is_left_out(count: bytes) -> None:
    usage = (
        b'{"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": %b}}' % count
    )
    assert (await usage_of(usage, CALLS[0])) == UsageInfo(5, 1, 6)


async def usage_of(usage: bytes, call: Call) -> UsageInfo | None:
    """The usage that a call reports, when the gateway writes this."""
    if call is CALLS[0]:
        talk = answer(COMPLETION[:-1] + b', "usage": %b}' % usage)
    else:
        talk = streaming(text("a", "stop"), event(b'{"choices": [], "usage": %b}' % usage), DONE)
    response = await asked(talk, call)
    found: UsageInfo | None = response.usage
    return found


# Heads that are allowed, and odd


async def test_http_1_0_without_a_length_ends_with_the_connection() -> None:
    response = await asked(saying(b"HTTP/1.0 200 OK\r\n\r\n" + COMPLETION))
    assert response.content == "a"


async def test_a_stream_over_http_1_0_that_is_cut_is_truncated() -> None:
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    data = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    error = await failure(asked(saying(head + data), CALLS[1]))
    assert type(error) is StreamTruncatedError


async def test_of_two_waits_the_longer_one_counts() -> None:
    error = await failure(asked(answer(b"", b"retry-after: 3", b"retry-after: 9", status=b"429 No")))
    assert error.retry_after == 9
    assert error.headers["retry-after"] == "3, 9"


@pytest.mark.parametrize("first", [b"text/event-stream", b"application/json"])
async def test_of_two_content_types_the_first_counts(first: bytes) -> None:
    types = [b"text/event-stream", b"application/json"]
    types.sort(key=lambda each: each != first)
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"content-type: %b\r\n" % each for each in types)
    body = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    talk = saying(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    outcome: Any = asked(talk, CALLS[1])
    if first == b"text/event-stream":
        assert (await outcome).content == "a"
    else:
        assert type(await failure(outcome)) is MalformedResponseError


# Time


def seconds_to_decode(size: int) -> float:
    """Processor time for one event of this size, read byte by byte; the least of three."""

    def decode() -> float:
        decoder = SSEDecoder()
        data = b"data: " + b"x" * size + b"\n\n"
        started = time.process_time()
        events = [found for at in range(len(data)) for found in decoder.feed(data[at : at + 1])]
        assert len(events[0].data) == size
        return time.process_time() - started

    return min(decode() for _ in range(3))


def test_an_event_of_256_kb_read_byte_by_byte_takes_linear_time() -> None:
    """Four times the bytes take four times the time; were the bytes before read again, sixteen times."""
    assert seconds_to_decode(256 * 1024) < 9 * seconds_to_decode(64 * 1024)


async def test_an_event_that_comes_byte_by_byte_is_whole() -> None:
    content = "é" * 500
    data = b"data: " + orjson.dumps({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]}) + b"\n\n"

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD)
        for byte in data:
            await connection.send(chunk(bytes([byte])))
            await asyncio.sleep(0)
        await connection.send(DONE, END)

    assert (await asked(talk, CALLS[1])).content == content
