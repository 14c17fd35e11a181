"""A proxy for any client: what it hands on, what it records, and what it plays."""

from __future__ import annotations

import asyncio
import socket
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from penstock import ModelEngine, Replay, Retry, Timeouts, default_stack, errors
from penstock.engine.cassette.deck import Deck
from penstock.engine.cassette.library import load
from penstock.engine.cassette.lines import Answered, Left, Lost, Read
from penstock.engine.cassette.proxy import Proxy
from penstock.testing import Gateway, cut, fail, hang_up, reset, stall
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, text

KEY = "sk-test-0123456789abcdef"
CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassette.jsonl"


def recorder(path: Path, to: str, **options: Any) -> Proxy:
    return Proxy(Deck("Record", path, "all"), to, **options)


def player(path: Path, *, speed: float = 0, **options: Any) -> Proxy:
    return Proxy(Deck("Record", path, "none", speed=speed), **options)


async def said(url: str) -> tuple[str, list[float], list[str]]:
    """What the openai client hears: a stream after a repetition, a vector, and the names of models."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=1) as client:
        stream = await client.chat.completions.create(**CHAT)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        vector = (await client.embeddings.create(model="m", input="a")).data[0].embedding
        return "".join(pieces), vector, [model.id async for model in client.models.list()]


async def test_another_client_is_recorded_and_played(path: Path) -> None:
    async with Gateway(api_key=KEY, script=[fail(503)]) as gateway, recorder(path, gateway.url) as proxy:
        recorded = await said(proxy.url)
        assert (gateway.requests, gateway.connections) == (4, 4)
    async with player(path) as proxy:
        assert await said(proxy.url) == recorded
    assert KEY[8:].encode() not in b"".join(repr(each).encode() for each in load(path))


async def test_what_a_proxy_recorded_an_engine_plays(path: Path) -> None:
    async with (
        Gateway(api_key=KEY) as gateway,
        recorder(path, gateway.url) as proxy,
        ModelEngine("tiny-mock", base_url=proxy.url, api_key=KEY) as engine,
    ):
        recorded = (await engine.chat_completion("Name a prime.")).content
    stack: list[Any] = [*default_stack(), Replay(path, speed=0)]
    async with ModelEngine("tiny-mock", base_url="http://127.0.0.1:9", api_key=KEY, middleware=stack) as engine:
        assert (await engine.chat_completion("Name a prime.")).content == recorded


async def test_a_client_that_asks_whether_to_send_its_body_is_told_to(path: Path) -> None:
    async with (
        Gateway() as gateway,
        recorder(path, gateway.url) as proxy,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
        session.post(f"{proxy.url}/v1/chat/completions", json=CHAT, expect100=True) as response,
    ):
        await response.read()
        assert response.status == 200
        assert "expect" not in gateway.calls[0].headers


async def test_reads_are_handed_on_as_they_come(path: Path) -> None:
    """Each is sent when the client has got the one before."""
    got = asyncio.Queue[None]()

    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(STREAM_HEAD, text("Zw"))
        await got.get()
        await connection.send(text("ei", "stop"), DONE, END)

    async with (
        RawServer(talk) as server,
        recorder(path, server.url) as proxy,
        aiohttp.ClientSession() as session,
        session.post(f"{proxy.url}/v1/chat/completions", json=CHAT) as response,
    ):
        pieces = []
        async for piece in response.content.iter_any():
            pieces.append(piece)
            got.put_nowait(None)
    recorded = [event.data for event in load(path)[0].events if isinstance(event, Read)]
    assert recorded == pieces


async def test_the_head_is_handed_on_as_it_is(path: Path) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(b"HTTP/1.1 299 Fine\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 2\r\n\r\nok")

    async def head(url: str) -> tuple[int, str | None, list[tuple[str, str]], bytes]:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models?limit=2") as response:
            return response.status, response.reason, list(response.headers.items()), await response.read()

    async with RawServer(talk) as server, recorder(path, server.url) as proxy:
        handed_on = await head(proxy.url)
    async with player(path) as proxy:
        assert await head(proxy.url) == handed_on
    names = [("X-Two", "a"), ("X-Two", "b"), ("Content-Length", "2"), ("Connection", "close")]
    assert handed_on == (299, "Fine", names, b"ok")
    assert load(path)[0].asked.url.endswith("/v1/models?limit=2")


async def test_the_gateway_gets_what_the_client_sent_and_is_asked_not_to_compress(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, recorder(path, gateway.url) as proxy:
        headers = {"Authorization": f"Bearer {KEY}", "X-Tenant": "blue", "Accept": "text/event-stream"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{proxy.url}/v1/chat/completions", json=CHAT, headers=headers) as response,
        ):
            await response.read()
        sent = gateway.calls[0].headers
    assert {name: sent[name] for name in headers} == headers
    assert (sent["Accept-Encoding"], "Transfer-Encoding" in sent) == ("identity", False)


@pytest.mark.parametrize("step", [reset(), hang_up(), cut(after_events=3), cut(after_events=3, by="reset")], ids=repr)
async def test_what_is_lost_is_lost_for_the_client_and_again_when_it_is_played(path: Path, step: Any) -> None:
    async def failure(url: str) -> tuple[type[BaseException], int | None]:
        stack = default_stack(retry=Retry(max_attempts=1))
        async with ModelEngine("tiny-mock", base_url=url, api_key=KEY, middleware=stack) as engine:
            with pytest.raises(errors.ModelEngineError) as raised:
                await engine.stream_call("?").response()
        partial = raised.value.partial
        return type(raised.value), None if partial is None else len(partial.content or "")

    async with Gateway(api_key=KEY, script=[step]) as gateway, recorder(path, gateway.url) as proxy:
        direct_again = await failure(proxy.url)
        gateway.script(step)
        direct = await failure(gateway.url)
    async with player(path) as proxy:
        assert await failure(proxy.url) == direct_again
    assert direct_again[0] is direct[0]
    assert isinstance(load(path)[0].events[-1], Lost)


async def test_a_gateway_that_is_not_there_is_a_lost_connection(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with recorder(path, url) as proxy, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(proxy.url)
    (lost,) = load(path)[0].events
    assert isinstance(lost, Lost)
    assert (lost.how, lost.why) == ("connect", "ECONNREFUSED")


async def test_a_client_that_goes_takes_the_gateways_connection_along(path: Path) -> None:
    outcomes: list[str] = []
    async with (
        Gateway(script=[stall(after_events=2)]) as gateway,
        recorder(path, gateway.url, told=lambda *told: outcomes.append(told[-1])) as proxy,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{proxy.url}/v1/chat/completions", json=CHAT) as response:
            await response.content.readany()
        await gateway.assert_no_open_connections()
    assert type(load(path)[0].events[-1]) is Left
    assert outcomes == ["200, left"]


async def test_where_a_client_lost_patience_it_loses_patience_again(path: Path) -> None:
    async def ask(url: str) -> None:
        stack = default_stack(retry=Retry(max_attempts=1))
        short = Timeouts(first_event=0.1)
        engine = ModelEngine("tiny-mock", base_url=url, api_key=KEY, middleware=stack, timeouts=short)
        async with engine:
            with pytest.raises(errors.FirstEventTimeoutError):
                await engine.stream_call("?").response()

    async with Gateway(script=[stall(when="before_headers")]) as gateway, recorder(path, gateway.url) as proxy:
        await ask(proxy.url)
    async with player(path) as proxy:
        await ask(proxy.url)
    assert [type(event) for event in load(path)[0].events] == [Left]


async def test_a_request_that_is_not_recorded_is_answered_with_the_difference_and_not_repeated(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, recorder(path, gateway.url) as proxy:
        await said(proxy.url)
    outcomes: list[str] = []
    async with (
        player(path, told=lambda *told: outcomes.append(told[-1])) as proxy,
        openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=KEY) as client,
    ):
        with pytest.raises(openai.InternalServerError) as raised:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Bye"}])
    assert raised.value.code == "CassetteMismatchError"
    assert '+   "content": "Bye",' in str(raised.value)
    assert len(outcomes) == 1


async def test_a_compressed_answer_is_handed_on_in_the_clear(path: Path) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        body = zlib.compress(b'{"data": []}')
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\ncontent-length: {len(body)}\r\n\r\n"
        await connection.send(head.encode(), body)

    async with (
        RawServer(talk) as server,
        recorder(path, server.url) as proxy,
        aiohttp.ClientSession() as session,
        session.get(proxy.url) as response,
    ):
        assert await response.read() == b'{"data": []}'
        assert "Content-Encoding" not in response.headers


async def test_a_redirect_is_handed_on_and_not_followed(path: Path) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    async with (
        RawServer(talk) as server,
        recorder(path, server.url) as proxy,
        aiohttp.ClientSession() as session,
        session.get(proxy.url, allow_redirects=False) as response,
    ):
        assert (response.status, response.headers["Location"]) == (307, "/elsewhere")
        assert server.connections == 1


@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
async def test_answers_without_a_body_are_handed_on(path: Path, method: str) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        head = b"200 OK\r\nContent-Length: 7" if method == "HEAD" else b"204 No Content"
        await connection.send(b"HTTP/1.1 " + head + b"\r\n\r\n")

    async def status(url: str) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session, session.request(method, url) as response:
            return response.status, await response.read()

    async with RawServer(talk) as server, recorder(path, server.url) as proxy:
        recorded = await status(proxy.url)
    async with player(path) as proxy:
        assert await status(proxy.url) == recorded
    assert isinstance(load(path)[0].events[0], Answered)


@pytest.mark.parametrize("to", ["", "localhost:8080", "ftp://host", "http://"])
def test_a_root_that_is_none_is_refused(path: Path, to: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="a gateway's root is"):
        Proxy(Deck("Record", path, "all"), to)


async def test_starting_and_stopping_twice_is_harmless(path: Path) -> None:
    proxy = recorder(path, "http://127.0.0.1:9")
    await proxy.start()
    await proxy.start()
    await proxy.stop()
    await proxy.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = proxy.url
