"""Attempts on the wire: connections, bounds, clocks, and what is left when something ends early."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock import Auth, ChatStream, LLMResponse, ModelEngine, ModelEngineError, Retry, Timeouts, default_stack
from penstock.engine import pool
from penstock.engine.errors import (
    ConnectError,
    ConnectTimeoutError,
    DeadlineExceededError,
    DisconnectedError,
    FirstEventTimeoutError,
    IdleTimeoutError,
    ProgressTimeoutError,
    ProtocolError,
    RedirectError,
    ResponseTooLargeError,
    StreamTruncatedError,
    TLSError,
    WriteTimeoutError,
)
from penstock.engine.transport import Transport
from penstock.testing import Gateway, Script, answer, fail, reset, stall
from tests.awaits import CountedAwaits
from tests.clocks import FakeClock
from tests.conftest import API_KEY
from tests.outcomes import drained, failure, text_of
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, chunk, event, text

SHORT = 0.1
FILES = Path("/proc/self/fd")
Call = Callable[[ModelEngine], Awaitable[Any]]
CALLS: list[Call] = [lambda engine: engine.chat_completion("Hi"), lambda engine: engine.stream_call("Hi").response()]
unary_and_streamed = pytest.mark.parametrize("call", CALLS, ids=["unary", "streamed"])


def once(url: str, **options: Any) -> ModelEngine:
    """An engine that makes one attempt."""
    stack = default_stack(retry=Retry(max_attempts=1))
    return ModelEngine("m", base_url=url, api_key=API_KEY, middleware=stack, **options)


def clocks(**seconds: float | None) -> Timeouts:
    """Only the given clocks."""
    off: dict[str, Any] = {name: None for name in Timeouts.__slots__ if name != "answer"}
    return Timeouts(**{**off, **seconds})


async def read(stream: ChatStream) -> list[str]:
    return [chunk.delta_content async for chunk in stream if chunk.delta_content]


def streaming(*parts: bytes) -> Callable[[Connection], Awaitable[None]]:
    """A server that answers each request with a stream of these parts."""

    async def talk(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(STREAM_HEAD, *parts)

    return talk


ANSWER = (text("a"), text("b", "stop"), DONE)


# Connections


@pytest.mark.parametrize("milliseconds", [0, 3, 20])
async def test_streams_share_one_connection_though_the_body_ends_late(
    milliseconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LINGER", 5.0)  # for machines on which 20 ms take longer

    async def talk(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(STREAM_HEAD, *ANSWER)
            await asyncio.sleep(milliseconds / 1000)
            await connection.send(END)

    async with RawServer(talk) as server, once(server.url) as engine:
        for _ in range(6):
            assert await read(engine.stream_call("Hi")) == ["a", "b"]
        assert server.connections == 1


async def test_the_reader_does_not_wait_for_the_end_of_the_body() -> None:
    ended = asyncio.Event()

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER)
        await ended.wait()
        await connection.send(END)

    async with RawServer(talk) as server, once(server.url) as engine:
        assert await read(engine.stream_call("Hi")) == ["a", "b"]
        ended.set()


async def test_a_body_that_never_ends_costs_its_connection_and_then_no_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "LINGER", 0.5)
    async with RawServer(streaming(*ANSWER)) as server, once(server.url) as engine:
        await read(engine.stream_call("Hi"))
        await server.until_closed()
        started = time.monotonic()
        for _ in range(20):  # as many waits for the end would take ten seconds
            await read(engine.stream_call("Hi"))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("seconds", [0, 0.05], ids=["before", "meanwhile"])
async def test_the_wait_for_the_end_of_a_body_is_over_when_its_connection_is_lost(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LINGER", 60.0)

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER)
        await asyncio.sleep(seconds)
        connection.reset()

    async with RawServer(talk) as server, once(server.url) as engine:
        for _ in range(3):
            await asyncio.wait_for(engine.stream_call("Hi").response(), 10)
            await asyncio.sleep(0 if seconds else 0.02)
        assert server.connections == 3


async def test_stopping_does_not_wait_for_the_end_of_a_body() -> None:
    async with RawServer(streaming(*ANSWER)) as server:
        async with once(server.url) as engine:
            await read(engine.stream_call("Hi"))
        await server.until_closed()


async def test_in_a_session_of_the_users_a_body_may_end_late_too() -> None:
    async with RawServer(streaming(*ANSWER)) as server, aiohttp.ClientSession() as session:
        async with once(server.url, session=session) as engine:
            await read(engine.stream_call("Hi"))
        await server.until_closed()


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER, END)
        connection.close()

    async with RawServer(talk) as server, once(server.url) as engine:
        for _ in range(10):
            assert await read(engine.stream_call("Hi")) == ["a", "b"]
        assert server.connections == 10


async def test_a_kept_connection_lost_with_the_next_request_is_worth_another_try_at_once() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER, END)
        await connection.request()
        connection.close()

    async with RawServer(talk) as server, once(server.url) as engine:
        await read(engine.stream_call("Hi"))
        error = await failure(engine.stream_call("Hi").response())
        assert (type(error), error.phase, error.advice) == (DisconnectedError, "no_answer", "now")
        assert server.connections == 1


@pytest.mark.parametrize("is_read", [True, False], ids=["read by the loop", "still in the socket"])
async def test_bytes_that_nobody_asked_for_are_not_the_next_answer(is_read: bool) -> None:
    body = b'{"choices": [{"message": {"content": "%b"}}]}'
    own, foreign = (
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body % content), body % content)
        for content in (b"own", b"foreign")
    )

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(own)
        if connection.number == 1:
            await answered.wait()
            await connection.send(foreign)
            said.set()

    answered, said = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, once(server.url) as engine:
        assert (await engine.chat_completion("Hi")).content == "own"
        answered.set()
        await said.wait()
        if is_read:
            await asyncio.sleep(0.02)
        assert (await engine.chat_completion("Hi")).content == "own"


async def test_leaving_a_stream_closes_its_connection(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=stall(after_events=3))
    async with engine.stream_call("Hi") as stream:
        async for _ in stream:
            break
    await gateway.assert_no_open_connections()
    gateway.script()
    await engine.chat_completion("Hi")


async def test_failed_attempts_leave_no_connection_behind(gateway: Gateway) -> None:
    gateway.script(fail(500), stall(after_events=0), reset(), fail(503))
    async with ModelEngine(
        "m",
        base_url=gateway.url,
        api_key=API_KEY,
        clock=FakeClock(),
        middleware=default_stack(retry=Retry(max_attempts=5)),
        timeouts=clocks(first_event=SHORT),
    ) as engine:
        await engine.stream_call("Hi").response()
        await gateway.until(lambda: gateway.open_connections == 1)


async def test_a_reply_that_a_middleware_lost_is_closed(gateway: Gateway) -> None:
    async def lose(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        await handler(request)
        raise LookupError("a bug in a middleware")

    gateway.script(default=stall(after_events=3))
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, middleware=[lose, Auth()]) as engine:
        with pytest.raises(LookupError):
            await engine.stream_call("Hi").response()
        gc.collect()
        await gateway.assert_no_open_connections()


async def test_redirects_are_not_followed(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(fail(307, headers={"Location": f"{gateway.url}/v1/models"}))
    error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.status, gateway.requests) == (RedirectError, 307, 1)


async def test_cookies_are_not_kept(gateway: Gateway) -> None:
    gateway.script(answer(headers={"Set-Cookie": "session=1; Path=/"}))
    by_name = gateway.url.replace("127.0.0.1", "localhost")  # aiohttp keeps none of addresses
    async with ModelEngine("m", base_url=by_name, api_key=API_KEY) as engine:
        await engine.chat_completion("Hi")
        await engine.chat_completion("Hi")
        await engine.models()  # which takes aiohttp's whole way
    assert [call for call in gateway.calls if "Cookie" in call.headers] == []


# Failures to connect


async def test_a_refused_connection_is_tried_three_times_and_nothing_was_sent(gateway: Gateway) -> None:
    clock = FakeClock()
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=clock) as engine:
        await gateway.stop()
        error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.phase, len(error.attempts), len(clock.sleeps)) == (ConnectError, "not_sent", 3, 2)
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_connection_that_is_not_accepted_ends_by_its_clock() -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # nobody accepts: from here on the system lets further ones wait
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        async with once(f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts=clocks(connect=SHORT)) as engine:
            error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.phase) == (ConnectTimeoutError, "not_sent")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl program to make a certificate with")
    folder: Path = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    subprocess.run(
        [openssl, *options.split(), "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_a_certificate_that_is_not_trusted_ends_the_call_at_once(certificate: ssl.SSLContext) -> None:
    async with (
        RawServer(streaming(*ANSWER, END), tls=certificate) as server,
        ModelEngine("m", base_url=server.url, api_key=API_KEY) as engine,
    ):
        error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.phase, error.advice, len(error.attempts)) == (TLSError, "not_sent", "never", 1)
    assert "self-signed certificate" in str(error)


async def test_a_session_of_the_users_may_trust_it(certificate: ssl.SSLContext) -> None:
    async with (
        RawServer(streaming(*ANSWER, END), tls=certificate) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
        once(server.url, session=session) as engine,
    ):
        assert await read(engine.stream_call("Hi")) == ["a", "b"]


# Bounds


async def test_a_header_may_be_large_but_not_endless() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        size = 16_000 if connection.number == 1 else 100_000
        await connection.send(STREAM_HEAD[:-2], b"x-policy: ", b"a" * size, b"\r\n\r\n", *ANSWER, END)
        connection.close()

    async with RawServer(talk) as server, once(server.url) as engine:
        assert await read(engine.stream_call("Hi")) == ["a", "b"]
        error = await failure(engine.chat_completion("Hi"))
    assert isinstance(error, ProtocolError)
    assert API_KEY not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


async def test_a_unary_body_is_bounded(gateway: Gateway, engine: ModelEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.script(answer("x" * 5000), answer("short"))
    monkeypatch.setattr(engine._transport, "max_body_bytes", 4000)
    error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.phase) == (ResponseTooLargeError, "before_output")
    assert (await engine.chat_completion("Hi")).content == "short"


# Lost connections


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "after a pause"])
async def test_nothing_is_lost_of_what_came_before_a_reset(pause: bool) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *(text(f"{n} ") for n in range(50)))
        if pause:
            await asyncio.sleep(0.01)
        connection.reset()

    async with RawServer(talk) as server, once(server.url) as engine:
        chunks, error = await drained(engine.stream_call("Hi"))
    expected = "".join(f"{n} " for n in range(50))
    assert text_of(chunks) == expected
    assert isinstance(error, StreamTruncatedError)
    assert (error.partial and error.partial.content, error.phase) == (expected, "after_output")
    assert error.__suppress_context__  # what aiohttp raised is not shown


async def test_nothing_is_lost_for_a_reader_that_comes_late() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        await first_read.wait()
        await connection.send(text("b"), text("c"))
        connection.reset()
        was_reset.set()

    first_read, was_reset = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, once(server.url) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        first_read.set()
        await was_reset.wait()
        await asyncio.sleep(0.01)  # the loop hears of the reset while nobody reads
        chunks, error = await drained(stream)
    assert text_of(chunks) == "bc"
    assert isinstance(error, StreamTruncatedError)


async def test_a_failure_after_output_says_so_though_both_came_before_the_first_read() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        connection.reset()
        was_reset.set()

    async def late(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        reply = await handler(request)
        await was_reset.wait()
        await asyncio.sleep(0.02)
        return reply

    was_reset = asyncio.Event()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url, middleware=[late]) as engine:
        chunks, error = await drained(engine.stream_call("Hi"))
    assert text_of(chunks) == "a"
    assert isinstance(error, StreamTruncatedError)
    assert (error.phase, error.attempts[0].phase) == ("after_output", "after_output")


@pytest.mark.parametrize("is_late", [False, True], ids=["reader waits", "reader is late"])
async def test_a_connection_lost_after_the_terminal_mark_is_of_no_interest(is_late: bool) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        await first_read.wait()
        await connection.send(text("b", "stop"), DONE)
        connection.reset()
        was_reset.set()

    first_read, was_reset = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, once(server.url) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        first_read.set()
        if is_late:
            await was_reset.wait()
            await asyncio.sleep(0.02)
        assert await read(stream) == ["b"]
        assert stream.summary.verdict == "complete"


async def test_an_error_event_says_more_than_the_reset_after_it() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        error = event({"error": {"message": "out of memory", "type": "server_error", "code": None}})
        await connection.send(STREAM_HEAD, text("a"), error)
        connection.reset()

    async with RawServer(talk) as server, once(server.url) as engine:
        error = await failure(engine.stream_call("Hi").response())
    assert "out of memory" in str(error)


async def test_a_unary_answer_that_breaks_off_is_a_lost_connection() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"choices": [')
        connection.reset()

    async with RawServer(talk) as server, once(server.url) as engine:
        error = await failure(engine.chat_completion("Hi"))
    assert (type(error), error.phase) == (DisconnectedError, "before_output")


@pytest.mark.parametrize("when", ["with the first read", "while the reader waits", "while the reader is elsewhere"])
async def test_a_chunk_size_that_is_none_ends_the_stream(when: str) -> None:
    """The C parser of aiohttp does not wake the reader, so it is one of our clocks that does."""

    async def talk(connection: Connection) -> None:
        await connection.request()
        garbage = b"ZZZ\r\nwhat is this"
        if when == "with the first read":
            await connection.send(STREAM_HEAD, text("a"), garbage)
        else:
            await connection.send(STREAM_HEAD, text("a"))
            await first_read.wait()
            await connection.send(garbage)
            sent.set()

    first_read, sent = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, once(server.url, timeouts=clocks(first_event=1, idle=SHORT)) as engine:
        stream = engine.stream_call("Hi")
        if when == "with the first read":
            error = await failure(anext(stream))
            assert isinstance(error, ProtocolError)
        else:
            await anext(stream)
            first_read.set()
            if when == "while the reader is elsewhere":
                await sent.wait()
                await asyncio.sleep(0.02)
            error = await failure(anext(stream))
            assert isinstance(error, (IdleTimeoutError, ProtocolError, StreamTruncatedError))
            assert (error.phase, error.partial and error.partial.content) == ("after_output", "a")
        await server.until_closed()


# Clocks


@unary_and_streamed
async def test_silence_before_the_head_ends_by_the_first_event_clock(gateway: Gateway, call: Call) -> None:
    gateway.script(default=stall(when="before_headers"))
    async with once(gateway.url, timeouts=clocks(first_event=SHORT)) as engine:
        error = await failure(call(engine))
        assert (type(error), error.phase) == (FirstEventTimeoutError, "no_answer")
        await gateway.assert_no_open_connections()


async def test_silence_between_head_and_first_event_ends_by_the_first_event_clock(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))  # the role alone is no event that counts
    async with once(gateway.url, timeouts=clocks(first_event=SHORT, idle=30)) as engine:
        error = await failure(engine.stream_call("Hi").response())
        assert (type(error), error.phase) == (FirstEventTimeoutError, "before_output")
        await gateway.assert_no_open_connections()


async def test_a_ping_shows_life_before_the_first_event(gateway: Gateway) -> None:
    gateway.script(stall(after_events=0, for_s=4 * SHORT, ping_every_s=SHORT / 4))
    async with once(gateway.url, timeouts=clocks(first_event=SHORT * 2)) as engine:
        assert (await engine.stream_call("Hi").response()).finish_reason == "stop"


async def test_silence_after_output_ends_by_the_idle_clock(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=4))
    async with once(gateway.url, timeouts=clocks(first_event=30, idle=SHORT)) as engine:
        error = await failure(engine.stream_call("Hi").response())
        assert (type(error), error.phase) == (IdleTimeoutError, "after_output")
        assert error.partial is not None
        assert error.partial.content.startswith("You said")
        await gateway.assert_no_open_connections()


@pytest.mark.parametrize("clock", ["first_event", "idle", "progress"])
async def test_a_slow_reader_is_not_a_silent_gateway(clock: str) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        await reader_is_back.wait()
        await asyncio.sleep(SHORT / 5)
        await connection.send(*ANSWER)

    reader_is_back = asyncio.Event()
    async with RawServer(talk) as server, once(server.url, timeouts=clocks(**{clock: SHORT})) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        await asyncio.sleep(3 * SHORT)
        reader_is_back.set()
        assert await read(stream) == ["a", "b"]


@pytest.mark.parametrize("nothing", [b": ping\n\n", b"data: \n\n", b'data: {"choices":[{"index":0,"delta":{}}]}\n\n'])
@pytest.mark.parametrize("first", [b"", text("a")], ids=["before output", "after output"])
async def test_bytes_without_content_end_by_the_progress_clock(nothing: bytes, first: bytes) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, first)
        while True:
            await connection.send(chunk(nothing))
            await asyncio.sleep(0.01)

    timeouts = clocks(first_event=30, idle=30, progress=SHORT)
    async with RawServer(talk) as server, once(server.url, timeouts=timeouts) as engine:
        error = await failure(engine.stream_call("Hi").response())
        phase = "after_output" if first else "before_output"
        assert (type(error), error.phase) == (ProgressTimeoutError, phase)
        await server.until_closed()


async def test_pings_do_not_extend_the_deadline(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=3, ping_every_s=0.01))
    async with once(gateway.url, timeouts=clocks(first_event=30, idle=30, deadline=SHORT)) as engine:
        error = await failure(engine.stream_call("Hi").response())
        assert (type(error), error.phase) == (DeadlineExceededError, "after_output")
        await gateway.assert_no_open_connections()


@unary_and_streamed
async def test_the_deadline_is_over_all_attempts(gateway: Gateway, call: Call) -> None:
    gateway.script(fail(503), default=stall(when="before_headers"))
    at_once = default_stack(retry=Retry(random=lambda: 0.0))
    timeouts = clocks(first_event=30, deadline=3 * SHORT)
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, timeouts=timeouts, middleware=at_once) as engine:
        started = time.monotonic()
        error = await failure(call(engine))
        assert (type(error), error.phase, len(error.attempts)) == (DeadlineExceededError, "no_answer", 2)
        assert time.monotonic() - started >= 3 * SHORT
        await gateway.assert_no_open_connections()


async def test_the_deadline_closes_the_connection_of_a_stream_that_nobody_reads() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, text("a"))
        await first_read.wait()
        await connection.send(text("b"))

    first_read = asyncio.Event()
    async with RawServer(talk) as server, once(server.url, timeouts=clocks(deadline=5 * SHORT)) as engine:
        stream = engine.stream_call("Hi")
        await anext(stream)
        first_read.set()
        await server.until_closed()
        chunks, error = await drained(stream)
    assert text_of(chunks) == "b"
    assert isinstance(error, DeadlineExceededError)


@unary_and_streamed
async def test_interim_answers_without_end_stop_at_the_first_event_clock(call: Call) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        while True:
            await connection.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
            await asyncio.sleep(0.001)

    async with RawServer(talk) as server, once(server.url, timeouts=clocks(first_event=SHORT)) as engine:
        error = await failure(call(engine))
        assert (type(error), error.phase) == (FirstEventTimeoutError, "no_answer")
        await server.until_closed()


@pytest.mark.skipif(not FILES.exists(), reason="the system does not list open files")
@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        (clocks(write=3 * SHORT), WriteTimeoutError),
        (clocks(first_event=5 * SHORT), FirstEventTimeoutError),
        (clocks(deadline=5 * SHORT), DeadlineExceededError),
    ],
    ids=["write", "first event", "deadline"],
)
async def test_an_upload_that_nobody_reads_ends_and_frees_its_connection(
    timeouts: Timeouts, expected: type[ModelEngineError]
) -> None:
    async def talk(connection: Connection) -> None:
        connected.set()
        await ended.wait()

    connected, ended = asyncio.Event(), asyncio.Event()
    async with RawServer(talk) as server, once(server.url, timeouts=timeouts) as engine:
        before = open_sockets()
        call = asyncio.create_task(failure(engine.chat_completion("x" * 30_000_000)))
        await connected.wait()
        assert open_sockets() == before + 2
        error = await call
        assert (type(error), error.phase) == (expected, "no_answer")
        await asyncio.sleep(0.02)
        assert open_sockets() == before + 1  # the server's end, which reads nothing yet
        ended.set()
        await server.until_closed()


async def test_an_upload_that_is_read_slowly_is_not_given_up() -> None:
    async def talk(connection: Connection) -> None:
        for _ in range(5):  # longer than the clock together, and never below what counts as drained
            await connection.read(4 << 20)  # more than the system keeps on the way
            await asyncio.sleep(SHORT)
        await connection.read(9_000_000)
        await connection.send(b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n")

    async with RawServer(talk) as server, once(server.url, timeouts=clocks(write=2 * SHORT)) as engine:
        assert (await failure(engine.chat_completion("x" * 30_000_000))).status == 400


async def test_an_answer_before_the_upload_is_read_is_an_answer() -> None:
    async def talk(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await ended.wait()

    ended = asyncio.Event()
    async with RawServer(talk) as server, once(server.url, timeouts=clocks(write=2 * SHORT)) as engine:
        assert (await failure(engine.chat_completion("x" * 30_000_000))).status == 413
        ended.set()
        await server.until_closed()


def open_sockets() -> int:
    return sum(os.readlink(file).startswith("socket:") for file in FILES.iterdir() if file.is_symlink())


async def test_a_unary_body_that_stops_ends_by_a_clock() -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"choices": [')

    async with RawServer(talk) as server, once(server.url, timeouts=clocks(first_event=SHORT)) as engine:
        error = await failure(engine.chat_completion("Hi"))
        assert isinstance(error, FirstEventTimeoutError)
        await server.until_closed()


async def test_one_timer_serves_all_streams(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=stall(after_events=3))
    streams = [engine.stream_call("Hi") for _ in range(20)]
    for stream in streams:
        await anext(stream)
    loop: Any = asyncio.get_running_loop()
    if hasattr(loop, "_scheduled"):
        ticks = [handle for handle in loop._scheduled if "_tick" in repr(handle) and not handle.cancelled()]
        assert len(ticks) == 1
    for stream in streams:
        await stream.aclose()


# Cancellation


@unary_and_streamed
@pytest.mark.parametrize("script", [[], [fail(503)], [reset()]], ids=["at once", "503", "reset"])
async def test_a_call_cancelled_at_any_wait_leaves_nothing_behind(call: Call, script: list[Any]) -> None:
    """Cancels at the first wait, then at the second, ..., until the call ends before it comes to be cancelled."""
    waits = 0
    was_cancelled = True
    while was_cancelled:
        waits += 1
        steps = Script(tuple(script), default=answer(pieces=list("abc"), comments=["hello"]))
        async with (
            Gateway(script=steps) as gateway,
            ModelEngine("m", base_url=gateway.url, clock=FakeClock()) as engine,
        ):
            awaits = CountedAwaits(_run(call(engine)), cancel_at=waits)
            outcomes = await asyncio.gather(_run(awaits), return_exceptions=True)
            was_cancelled = awaits.count >= waits
            assert isinstance(outcomes[0], asyncio.CancelledError if was_cancelled else LLMResponse)
            await _assert_idle(engine, gateway)


async def _run(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _assert_idle(engine: ModelEngine, gateway: Gateway) -> None:
    """No stream is open at the server, no task of the client runs, and the transport holds nothing."""
    await gateway.assert_no_open_streams()
    transport: Transport = engine._transport
    assert (len(transport._replies), len(transport._sending)) == (0, 0)
    running = [repr(task) for task in asyncio.all_tasks()]
    assert [task for task in running if "aiohttp/client" in task or "penstock/engine/t" in task] == []


async def test_a_cancelled_call_is_not_tried_again(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=stall(when="before_headers"))
    call = asyncio.ensure_future(engine.chat_completion("Hi"))
    await gateway.until(lambda: gateway.requests == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gateway.assert_no_open_connections()
    assert gateway.requests == 1
