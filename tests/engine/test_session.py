"""Requests on connections that have served one before: the same bytes as on a new one, whatever way they take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from penstock import ModelEngine, default_stack
from penstock.engine.session import AT_ONCE_BYTES, LARGE_BODY_BYTES, OwnSession, is_known_aiohttp
from penstock.testing import Gateway, answer, reset
from tests.conftest import API_KEY
from tests.raw_server import Connection, RawServer, Request

ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"7"},"finish_reason":"stop"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
WHOLE_WAYS = "_request"  # the method of aiohttp's session that makes a request


def engine_for(url: str, **options: Any) -> ModelEngine:
    return ModelEngine("m", base_url=url, api_key=API_KEY, **options)


def answering(requests: list[Request]) -> Callable[[Connection], Awaitable[None]]:
    async def talk(connection: Connection) -> None:
        while True:
            requests.append(await connection.receive())
            await connection.send(HEAD, ANSWER)

    return talk


def session_of(engine: ModelEngine) -> OwnSession:
    opened = engine._transport._opened
    assert opened is not None
    assert isinstance(opened.session, OwnSession)
    return opened.session


@pytest.fixture
def whole_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of requests that take aiohttp's whole way."""
    paths: list[str] = []
    original = aiohttp.ClientSession._request

    async def counted(self: Any, method: str, url: Any, **options: Any) -> Any:
        paths.append(url.path)
        return await original(self, method, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, WHOLE_WAYS, counted)
    return paths


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "headers": {"extra_headers": {"X-Team": "prime", "accept-language": "de"}},
    "headers that aiohttp sets by itself": {"extra_headers": {"user-agent": "us", "Accept-Encoding": "identity"}},
    "a cookie": {"extra_headers": {"Cookie": "a=b; c=d"}},
    "a query": {"extra_query": {"version": "1 2", "empty": ""}},
    "a name beyond ASCII": {"extra_headers": {"X-Name": "J\u00fcrgen"}},
    "a long body": {"user": "x" * AT_ONCE_BYTES},
    "a body that is written in pieces": {"user": "x" * LARGE_BODY_BYTES},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_a_kept_connection_gets_the_same_bytes_as_a_new_one(options: dict[str, Any]) -> None:
    requests: list[Request] = []
    async with RawServer(answering(requests)) as server, engine_for(server.url) as engine:
        for _ in range(3):
            await engine.call("Name a prime.", idempotency_key="k", **options)
        assert server.connections == 1
    assert requests[1:] == requests[:1] * 2


class Sets:
    """A middleware that sets a header which is not for callers to set."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        request.headers[self._name] = self._value
        return await handler(request)


@pytest.mark.parametrize("header", [("Host", "gateway.test"), ("content-encoding", "gzip")])
async def test_headers_that_say_how_a_body_is_written_are_left_to_aiohttp(
    header: tuple[str, str], whole_ways: list[str]
) -> None:
    requests: list[Request] = []
    stack = [*default_stack(), Sets(*header)]
    async with RawServer(answering(requests)) as server, engine_for(server.url, middleware=stack) as engine:
        await engine.call("Name a prime.", idempotency_key="k")
        await engine.call("Name a prime.", idempotency_key="k")
    assert requests[1:] == requests[:1]
    assert requests[0].header(header[0]) == header[1]
    assert len(whole_ways) == 2


async def test_a_kept_connection_is_written_to_without_the_session(whole_ways: list[str]) -> None:
    async with Gateway(api_key=API_KEY) as gateway, engine_for(gateway.url) as engine:
        await engine.chat_completion("Hi")
        await engine.chat_completion("Hi")
        await engine.stream_call("Hi").response()
        await engine.embed("Hi")
        assert gateway.connections == 1
    assert len(whole_ways) == 1


async def test_what_is_no_short_body_takes_the_whole_way(whole_ways: list[str]) -> None:
    async with Gateway(api_key=API_KEY) as gateway, engine_for(gateway.url) as engine:
        await engine.chat_completion("Hi")
        await engine.models()
        await engine.chat_completion("Hi", extra_headers={"Expect": "100-continue"})
        await engine.chat_completion("x" * AT_ONCE_BYTES)
        assert [call.status for call in gateway.calls] == [200] * 4
    assert len(whole_ways) == 4


async def test_a_new_connection_is_made_where_the_kept_one_was_closed(whole_ways: list[str]) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD, ANSWER)
        connection.close()

    async with RawServer(talk) as server, engine_for(server.url) as engine:
        for _ in range(3):
            await engine.chat_completion("Hi")
            await server.until_open(0)
        assert server.connections == 3
    assert len(whole_ways) == 3


async def test_a_kept_connection_that_is_lost_is_closed_and_made_good() -> None:
    async with Gateway(api_key=API_KEY, script=[answer("a"), reset(), answer("b")]) as gateway:
        async with engine_for(gateway.url) as engine:
            assert (await engine.chat_completion("Hi")).content == "a"
            assert (await engine.chat_completion("Hi")).content == "b"
            assert session_of(engine).connector._acquired == set()
        await gateway.assert_no_open_connections()


async def shortened(self: Any, data: bytes = b"") -> None:
    raise AssertionError("it is not to be called")


async def renamed(self: Any, conn: Any) -> None:
    raise AssertionError("it is not to be called")


CHANGES = {
    "StreamWriter.write_eof": shortened,
    "ClientResponse.start": renamed,
    "BaseConnector._get": renamed,
    "ResponseHandler.set_response_params": renamed,
}


@pytest.fixture
def known_anew() -> Iterator[None]:
    is_known_aiohttp.cache_clear()
    yield
    is_known_aiohttp.cache_clear()


@pytest.mark.usefixtures("known_anew")
@pytest.mark.parametrize("changed", CHANGES)
def test_an_aiohttp_that_is_made_otherwise_is_noticed(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_known_aiohttp()
    is_known_aiohttp.cache_clear()
    monkeypatch.setattr(f"penstock.engine.session.{changed}", CHANGES[changed])
    assert not is_known_aiohttp()


async def test_with_an_aiohttp_that_is_not_known_everything_takes_the_whole_way(whole_ways: list[str]) -> None:
    async with Gateway(api_key=API_KEY) as gateway, engine_for(gateway.url) as engine:
        session_of(engine)._is_known = False
        await engine.chat_completion("Hi")
        await engine.stream_call("Hi").response()
        assert gateway.connections == 1
    assert len(whole_ways) == 2
