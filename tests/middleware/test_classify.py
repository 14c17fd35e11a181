"""What comes back as typed errors, within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typing_extensions import Self

from penstock import ModelEngine, errors
from penstock.engine.verdict import Answer
from penstock.middleware import Auth, Classify
from penstock.middleware.classify import read_bounded
from penstock.testing import Gateway, answer, fail, hang_up, html, reset, stall

from .support import CHAT, KEY, engine_at, everything_shown, post, session_at


class Server:
    """A server that answers any request with these bytes, and then waits until the client leaves.

    Attributes:
        answered: Set when the bytes are written.
        left: Set when the client has closed the connection.
    """

    def __init__(self, answer: bytes) -> None:
        self.url = ""
        self.answered = asyncio.Event()
        self.left = asyncio.Event()
        self._answer = answer

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._listener.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._listener.close()
        await asyncio.wait_for(self.left.wait(), 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        self.answered.set()
        try:
            while await reader.read(65536):
                pass
        except ConnectionResetError:
            pass
        finally:
            writer.close()
            self.left.set()


@pytest.mark.parametrize(
    "step, error",
    [
        (fail(400), errors.InvalidRequestError),
        (fail(401), errors.AuthenticationError),
        (fail(403), errors.PermissionDeniedError),
        (fail(404), errors.NotFoundError),
        (fail(408), errors.RequestTimeoutError),
        (fail(409), errors.ConflictError),
        (fail(429), errors.RateLimitError),
        (fail(429, code="insufficient_quota"), errors.QuotaExceededError),
        (fail(500), errors.ServerError),
        (fail(503), errors.OverloadedError),
        (html(status=502), errors.ProviderError),
        (fail(302), errors.RedirectError),
        (fail(304, body=b""), errors.RedirectError),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
async def test_a_status_becomes_an_error(gateway: Gateway, step: Any, error: type[errors.ModelEngineError]) -> None:
    gateway.script(step)
    async with session_at(gateway, Classify()) as session:
        with pytest.raises(errors.ModelEngineError) as caught:
            await post(session)
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.phase) == (step.status, "rejected")
    assert caught.value.request_id == "req_1"


async def test_success_passes_untouched(gateway: Gateway) -> None:
    gateway.script(answer("Hello."))
    async with session_at(gateway, Classify()) as session:
        status, completion = await post(session)
    assert (status, completion["choices"][0]["message"]["content"]) == (200, "Hello.")


async def test_the_answer_to_a_websocket_handshake_is_a_success() -> None:
    async def greet(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("Hello.")
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/", greet)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        async with (
            aiohttp.ClientSession(middlewares=(Classify(),)) as session,
            session.ws_connect(f"ws://{host}:{port}/") as socket,
        ):
            assert await socket.receive_str() == "Hello."
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "step, phase",
    [(hang_up(), "no_answer"), (reset("before_headers"), "no_answer"), (reset("before_request_read"), "no_answer")],
    ids=["hang_up", "reset", "reset_unread"],
)
async def test_a_lost_connection_becomes_an_error_with_its_phase(gateway: Gateway, step: Any, phase: str) -> None:
    gateway.script(step)
    async with session_at(gateway, Auth(KEY), Classify()) as session:
        with pytest.raises(errors.DisconnectedError) as caught:
            await post(session)
    assert caught.value.phase == phase
    assert not isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert KEY not in everything_shown(caught.value)


async def test_a_refused_connection_becomes_an_error_that_says_nothing_was_sent(gateway: Gateway) -> None:
    async with session_at(gateway, Classify()) as session:
        await gateway.stop()
        with pytest.raises(errors.ConnectError) as caught:
            await post(session)
    assert caught.value.phase == "not_sent"


async def test_what_is_not_http_is_an_error_that_does_not_hold_aiohttps() -> None:
    async with (
        Server(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n") as server,
        aiohttp.ClientSession(middlewares=(Auth(KEY), Classify())) as session,
    ):
        with pytest.raises(errors.ProtocolError) as caught:
            await post(session, server.url)
    assert caught.value.__cause__ is None
    assert KEY not in everything_shown(caught.value)


async def test_of_an_error_body_a_bounded_part_is_kept(gateway: Gateway) -> None:
    gateway.script(fail(400, body="x" * 1_000_000))
    async with session_at(gateway, Classify()) as session:
        with pytest.raises(errors.InvalidRequestError) as caught:
            await post(session)
        await gateway.assert_no_open_connections()  # the rest is not read
    assert caught.value.body == "x" * 65536
    assert len(caught.value.message) <= 300


async def test_an_error_body_that_breaks_off_counts_as_far_as_it_came() -> None:
    async with (
        Server(b"HTTP/1.1 429 Busy\r\nretry-after: 7\r\ncontent-length: 100\r\n\r\nslow down") as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=0.2), middlewares=(Classify(),)) as session,
    ):
        with pytest.raises(errors.RateLimitError, match="slow down") as caught:
            await post(session, server.url)
    assert (caught.value.retry_after, caught.value.body) == (7, "slow down")


async def test_an_error_body_that_never_ends_is_left_in_time() -> None:
    async with (
        Server(b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nabc") as server,
        aiohttp.ClientSession() as session,
        session.get(server.url) as response,
    ):
        assert await read_bounded(response.content, timeout=0.01) == b"abc"


async def test_an_error_body_that_never_ends_does_not_outlast_the_deadline() -> None:
    async with (
        Server(b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\n") as server,
        ModelEngine("tiny-mock", base_url=server.url, api_key=KEY) as engine,
    ):
        with pytest.raises(errors.OverloadedError):
            await engine.chat_completion("Hi", timeout=0.2)


async def test_the_connection_of_an_error_is_used_again(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    async with session_at(gateway, Classify()) as session:
        for _ in range(3):
            with pytest.raises(errors.ServerError):
                await post(session)
    assert gateway.connections == 1


async def test_cancelled_while_it_reads_an_error_it_leaves_at_once() -> None:
    async with (
        Server(b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\n") as server,
        aiohttp.ClientSession(middlewares=(Classify(),)) as session,
    ):
        call = asyncio.create_task(post(session, server.url))
        await server.answered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 5)


async def test_a_verdict_table_can_be_given(gateway: Gateway) -> None:
    def judge(facts: Answer) -> errors.ModelEngineError:
        return errors.PolicyBlockedError("blocked", status=facts.status, body=facts.body)

    gateway.script(fail(409, body=b"why"), fail(409, body=b"why"))
    async with session_at(gateway, Classify(judge)) as session:
        with pytest.raises(errors.PolicyBlockedError) as caught:
            await post(session)
    assert (caught.value.status, caught.value.body) == (409, b"why")
    async with engine_at(gateway, Classify(judge)) as engine:
        with pytest.raises(errors.PolicyBlockedError, match=r"HTTP 409, gateway openai, model 'tiny-mock'"):
            await engine.chat_completion("Hi")


async def test_a_redirect_is_not_followed(gateway: Gateway) -> None:
    async with Gateway() as other, session_at(gateway, Classify()) as session:
        gateway.script(fail(308, headers={"location": other.url + CHAT}))
        with pytest.raises(errors.RedirectError):
            await post(session)
    assert other.requests == 0


@pytest.mark.parametrize("error", [errors.ServerError("ours"), KeyError("a mistake"), asyncio.CancelledError()])
async def test_what_is_not_of_the_connection_passes(gateway: Gateway, error: BaseException) -> None:
    async def inner(request: Any, handler: Any) -> Any:
        raise error

    async with session_at(gateway, Classify(), inner) as session:
        with pytest.raises(type(error)) as caught:
            await post(session)
    assert caught.value is error


async def test_a_timeout_of_the_session_becomes_an_error(gateway: Gateway) -> None:
    gateway.script(stall(when="before_headers"))
    timeout = aiohttp.ClientTimeout(sock_read=0.05)
    async with aiohttp.ClientSession(gateway.url, timeout=timeout, middlewares=(Classify(),)) as session:
        with pytest.raises(errors.IdleTimeoutError) as caught:
            await post(session)
    assert caught.value.phase == "no_answer"


@pytest.mark.parametrize("judge", ["table", {401: errors.AuthenticationError}])
def test_a_verdict_table_is_a_function(judge: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="is a function, not"):
        Classify(judge)


@pytest.mark.parametrize(
    "options", [{"headers": {"x-api-key": KEY}}, {"params": {"api_key": KEY}}], ids=["header", "query"]
)
async def test_a_credential_of_the_callers_that_comes_back_is_not_shown(gateway: Gateway, options: Any) -> None:
    gateway.script(fail(400, message=f"what is {KEY}?", headers={"x-echo": KEY}))
    async with session_at(gateway, Classify()) as session:
        with pytest.raises(errors.InvalidRequestError) as caught:
            await post(session, **options)
    assert KEY not in everything_shown(caught.value)
