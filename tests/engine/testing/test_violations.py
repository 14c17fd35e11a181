"""What breaks HTTP, as it stands on the wire."""

from __future__ import annotations

import asyncio
import http.client
import socket
import zlib
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from penstock.engine.testing import (
    Answer,
    Gateway,
    answer,
    bad_chunk_size,
    cut,
    drip,
    endless,
    error_event,
    fail,
    huge_event,
    interim,
    key_echo,
    large_headers,
    raw,
    redirect,
    stall,
    stray_bytes,
    truncate,
)

from .support import CHAT, chat, send, stream


class TestRaw:
    async def test_says_what_it_is_given(self, gateway: Gateway) -> None:
        gateway.script(raw(b"HTTP/1.1 200 OK\r\nbroken", "\r\n", 0.001, b"\xff"))
        assert (await send(gateway, chat())).data == b"HTTP/1.1 200 OK\r\nbroken\r\n\xff"
        assert (gateway.calls[0].outcome, gateway.calls[0].executed) == ("raw", False)

    async def test_can_end_in_a_reset(self, gateway: Gateway) -> None:
        gateway.script(raw(b"HTTP/1.1 200 OK\r\n", end="reset"))
        assert (await send(gateway, chat())).was_reset

    async def test_can_keep_the_connection(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        gateway.script(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", end="keep"))
        for expected in (b"hi", b"{"):
            async with session.post(gateway.url + CHAT, json=chat()) as response:
                assert (await response.read()).startswith(expected)
        assert gateway.connections == 1

    async def test_can_hang(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        gateway.script(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", end="hang"))
        async with session.post(gateway.url + CHAT, json=chat()) as response:
            assert await response.content.readexactly(2) == b"hi"
            assert gateway.open_connections == 1
            response.close()
        await gateway.assert_no_open_connections()

    async def test_can_count_as_run(self, gateway: Gateway) -> None:
        gateway.script(raw(executed=True))
        await send(gateway, chat(), idempotency_key="k")
        assert (await send(gateway, chat(), idempotency_key="k")).headers["x-idempotent-replay"] == "true"
        gateway.assert_executed_once("k")


class TestDrip:
    async def test_sends_head_and_framing_in_small_writes(self, gateway: Gateway) -> None:
        gateway.script(drip(size=7, of=answer("a b")), answer("a b"))
        assert (await stream(gateway)).text == (await stream(gateway)).text == "a b"

    async def test_takes_its_time_between_two_bytes(self, gateway: Gateway) -> None:
        gateway.script(drip(0.0005, of=answer("a")))
        loop = asyncio.get_running_loop()
        started = loop.time()
        got = await send(gateway, chat())
        assert got.json["choices"][0]["message"]["content"] == "a"
        assert loop.time() - started >= 0.0005 * (len(got.data) - 2) * 0.9


class TestInterim:
    async def test_comes_before_the_answer(self, gateway: Gateway) -> None:
        gateway.script(interim(103, times=3, of=answer("a")))
        assert (await stream(gateway)).data.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + b"HTTP/1.1 200 OK")

    async def test_can_go_on_for_ever(self, gateway: Gateway) -> None:
        gateway.script(interim(102, times=None, every_s=0.001))
        reader, writer = await opened(gateway)
        for _ in range(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 102 Processing\r\n\r\n"
        writer.close()
        await gateway.assert_no_open_connections()
        assert (gateway.calls[0].outcome, gateway.calls[0].executed) == ("abandoned", False)

    @pytest.mark.parametrize("options", [{"status": 200}, {"status": 101}, {"times": 0}, {"times": None}])
    def test_what_cannot_be_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"interim\("):
            interim(**options)


class TestFraming:
    async def test_a_bad_chunk_size_after_good_ones(self, gateway: Gateway) -> None:
        gateway.script(bad_chunk_size(after_events=1, of=answer("a")))
        data = (await stream(gateway)).data
        assert data.count(b"data: ") == 1
        assert data.endswith(b"\r\nxyz\r\nwhat is this\r\n")

    async def test_a_bad_chunk_size_in_an_answer_that_is_not_streamed(self, gateway: Gateway) -> None:
        gateway.script(bad_chunk_size())
        got = await send(gateway, chat())
        assert (got.headers["transfer-encoding"], got.data.endswith(b"\r\nxyz\r\nwhat is this\r\n")) == (
            "chunked",
            True,
        )

    async def test_stray_bytes_follow_the_answer(self, gateway: Gateway) -> None:
        gateway.script(stray_bytes("junk", of=answer("a")), stray_bytes("junk"))
        assert (await stream(gateway)).data.endswith(b"0\r\n\r\njunk")
        assert (await send(gateway, chat())).data.endswith(b"}junk")

    async def test_large_headers(self, gateway: Gateway) -> None:
        gateway.script(large_headers(1000, count=3))
        headers = (await send(gateway, chat())).headers
        assert [len(headers[f"x-large-{number}"]) for number in (1, 2, 3)] == [1000] * 3


class TestConnections:
    async def test_are_closed_after_each_answer(self) -> None:
        async with Gateway(after_answer="close") as gateway, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(gateway.url + CHAT, json=chat()) as response:
                    assert response.headers["connection"] == "close"
                    await response.read()
            assert gateway.connections == 2

    async def test_are_closed_without_a_word(self) -> None:
        async with Gateway(after_answer="close_unsaid") as gateway:
            connection = http_client(gateway)
            assert await asyncio.to_thread(asked, connection) == (200, None)
            await gateway.assert_no_open_connections()
            connection.close()

    async def test_are_closed_when_they_are_idle(self) -> None:
        async with Gateway(idle_close_s=0.02) as gateway:
            connection = http_client(gateway)
            assert await asyncio.to_thread(asked, connection) == (200, None)
            await gateway.assert_no_open_connections()
            connection.close()

    def test_other_ways_are_refused(self) -> None:
        with pytest.raises(ValueError, match="after_answer is one of keep, close, close_unsaid, not 'never'"):
            Gateway(after_answer="never")  # type: ignore[arg-type]


class TestBodies:
    @pytest.mark.parametrize("encoding, bits", [("gzip", 31), ("deflate", 15)])
    async def test_compressed(self, gateway: Gateway, encoding: str, bits: int) -> None:
        gateway.script(default=Answer("a b", encoding=encoding))  # type: ignore[arg-type]
        for wanted in (True, False):
            got = await send(gateway, chat(stream=wanted))
            assert got.headers["content-encoding"] == encoding
            assert b"a" in zlib.decompress(got.body, bits)

    async def test_a_compressed_stream_can_be_read_as_it_comes(
        self, gateway: Gateway, session: aiohttp.ClientSession
    ) -> None:
        gateway.script(stall(after_events=2, of=answer("first second", encoding="gzip")))
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            lines = [await response.content.readline() for _ in range(3)]
            response.close()
        assert b'"content":"first"' in lines[2]

    async def test_a_stream_where_none_was_asked_for_and_the_other_way_round(self, gateway: Gateway) -> None:
        gateway.script(answer("a", form="stream"), answer("a", form="whole"))
        assert (await send(gateway, chat())).text == "a"
        assert (await stream(gateway)).json["choices"][0]["message"]["content"] == "a"

    async def test_a_huge_event(self, gateway: Gateway) -> None:
        gateway.script(huge_event(100_000))
        got = await stream(gateway)
        assert max(map(len, got.events)) > 100_000
        assert got.events[-1] == "[DONE]"

    async def test_a_role_and_nothing_else(self, gateway: Gateway) -> None:
        gateway.script(truncate(after_events=1, done=True))
        got = await stream(gateway)
        assert ([frame["choices"][0]["delta"]["role"] for frame in got.frames], got.events[-1]) == (
            ["assistant"],
            "[DONE]",
        )

    async def test_a_redirect(self, gateway: Gateway) -> None:
        gateway.script(redirect("http://localhost/x", status=308))
        got = await send(gateway, chat())
        assert (got.status, got.headers["location"]) == (308, "http://localhost/x")

    async def test_a_key_echo(self, gateway: Gateway) -> None:
        gateway.script(key_echo())
        got = await send(gateway, chat(), authorization="Bearer sk-mine")
        assert (got.status, "Bearer sk-mine" in got.json["error"]["message"]) == (401, True)
        assert got.exact_headers["x-echo"] == "Bearer sk-mine"


class TestEndless:
    @pytest.mark.parametrize("dialect", ["openai", "modelgov", "keeptrusts"])
    async def test_empty_deltas_until_the_client_goes(self, dialect: str) -> None:
        from penstock.engine.testing.dialects import DIALECTS

        path, body = DIALECTS[dialect]("tiny-mock").example("Hi")
        script = [endless(0.001)]
        async with Gateway(dialect=dialect, script=script) as gateway, aiohttp.ClientSession() as session:
            async with session.post(gateway.url + path, json=body) as response:
                lines = [await response.content.readline() for _ in range(16)]
                response.close()
            await gateway.assert_no_open_streams()
        assert lines[8] == lines[10] == lines[12] != b"\n"

    async def test_a_client_that_does_not_read_holds_it_back(self, gateway: Gateway) -> None:
        gateway.script(endless(0.0001, of=answer(pieces=["x" * 100_000])))
        reader, writer = await opened(gateway)
        await gateway.until(lambda: gateway.open_streams == 1)
        transport = next(iter(gateway._listener._open.values()))[1]  # type: ignore[union-attr]
        await gateway_buffers(transport)
        assert transport.get_write_buffer_size() < 1_000_000
        writer.close()
        await gateway.assert_no_open_streams()
        reader.feed_eof()


@pytest.mark.parametrize("done, last", [(True, "[DONE]"), (False, '{"error"')])
async def test_an_error_event_with_and_without_done(gateway: Gateway, done: bool, last: str) -> None:
    gateway.script(error_event(done=done))
    assert (await stream(gateway)).events[-1].startswith(last)


async def test_hints_in_every_form(gateway: Gateway) -> None:
    hints = {"retry-after": "2", "x-ratelimit-reset": "1s", "ratelimit": '"default";r=0;t=2'}
    gateway.script(fail(429, retry_after_ms=1500, should_retry=False, headers=hints))
    headers = (await send(gateway, chat())).headers
    assert {**hints, "retry-after-ms": "1500", "x-should-retry": "false"}.items() <= headers.items()


def test_pings_in_a_compressed_stream_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out one of the two"):
        stall(ping_every_s=1, of=answer(encoding="gzip"))
    with pytest.raises(ValueError, match="cannot be compressed"):
        endless(of=answer(encoding="gzip"))


async def test_a_cut_of_a_compressed_body_counts_what_was_compressed(gateway: Gateway) -> None:
    gateway.script(cut(after_events=1, of=answer("a b", encoding="gzip")))
    assert zlib.decompressobj(31).decompress((await stream(gateway)).body).count(b"data: ") == 1


async def opened(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a stream was asked for."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 12)
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    return reader, writer


async def gateway_buffers(transport: asyncio.Transport) -> None:
    """Wait until the gateway cannot write on; then give it the time of many more writes."""
    for _ in range(10_000):
        if transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0.0005)


def http_client(gateway: Gateway) -> http.client.HTTPConnection:
    address = urlsplit(gateway.url)
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)


def asked(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    connection.request("GET", "/v1/models")
    assert isinstance(connection.sock, socket.socket)
    response = connection.getresponse()
    response.read()
    return response.status, response.headers["connection"]
