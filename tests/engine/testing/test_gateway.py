"""Starting, stopping, and what is refused whatever the script says."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import orjson
import pytest

from penstock.engine.testing import Gateway, answer, fail, stall

from .support import CHAT, Exchange, chat, send, stream


def error(got: Exchange) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(got.body)["error"]
    return found


class TestLifecycle:
    async def test_starting_and_stopping_twice_is_harmless(self) -> None:
        gateway = Gateway()
        await gateway.start()
        url = gateway.url
        await gateway.start()
        assert gateway.url == url
        await gateway.stop()
        await gateway.stop()
        assert repr(gateway).startswith("<Gateway stopped requests=0")

    async def test_can_be_started_again(self) -> None:
        gateway = Gateway()
        for _ in range(2):
            async with gateway:
                assert (await send(gateway, chat())).status == 200
        assert gateway.requests == 2

    async def test_has_no_url_when_it_is_not_running(self) -> None:
        with pytest.raises(RuntimeError, match="the gateway is not running"):
            _ = Gateway().url

    async def test_takes_the_port_it_is_told(self, gateway: Gateway) -> None:
        port = int(gateway.url.rpartition(":")[2])
        taken = Gateway(port=port)
        with pytest.raises(OSError, match="address already in use"):
            await taken.start()
        await gateway.stop()
        async with taken:
            assert taken.url == f"http://127.0.0.1:{port}"

    async def test_stopping_drops_streams_and_leaves_no_task(self, caplog: pytest.LogCaptureFixture) -> None:
        tasks = asyncio.all_tasks()
        async with aiohttp.ClientSession() as session, Gateway(script=[stall(after_events=1)] * 3) as gateway:
            responses = [await session.post(gateway.url + CHAT, json=chat(stream=True)) for _ in range(3)]
            assert gateway.open_streams == 3
            await gateway.stop()
            assert (gateway.open_streams, gateway.open_connections) == (0, 0)
            assert asyncio.all_tasks() == tasks
            assert {call.outcome for call in gateway.calls} == {"abandoned"}
            for response in responses:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
        assert caplog.records == []

    async def test_serves_until_it_is_cancelled(self) -> None:
        gateway = Gateway()
        serving = asyncio.ensure_future(gateway.serve_forever())
        await asyncio.wait({serving}, timeout=0)
        await gateway.start()
        assert (await send(gateway, chat())).status == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert repr(gateway).startswith("<Gateway stopped")

    async def test_clients_that_leave_are_not_reported(
        self, gateway: Gateway, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "aiohttp")
        gateway.script(default=answer("word " * 50_000))
        for _ in range(3):
            async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
                await response.content.readline()
                response.close()
        await gateway.assert_no_open_connections()
        assert {call.outcome for call in gateway.calls} == {"abandoned"}
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    def test_wrong_options_are_refused_at_construction(self) -> None:
        with pytest.raises(ValueError, match="no dialect is called 'morse'; there are openai, nim"):
            Gateway(dialect="morse")
        with pytest.raises(ValueError, match="idempotency is 'honour' or 'ignore', not 'maybe'"):
            Gateway(idempotency="maybe")  # type: ignore[arg-type]


class TestRefusals:
    async def test_an_unknown_path(self, gateway: Gateway) -> None:
        got = await send(gateway, chat(), path="/v2/chat")
        assert (got.status, error(got)["message"]) == (404, "there is nothing at POST /v2/chat")

    async def test_a_wrong_method(self, gateway: Gateway) -> None:
        got = await send(gateway, path=CHAT, method="GET")
        assert (got.status, error(got)["message"]) == (405, f"{CHAT} does not take GET")

    async def test_a_head_request_gets_no_body(self, gateway: Gateway) -> None:
        got = await send(gateway, path=CHAT, method="HEAD")
        assert (got.status, got.body) == (405, b"")

    @pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic sk-right"}])
    async def test_a_wrong_key_is_refused_and_not_repeated(self, sent: dict[str, str]) -> None:
        async with Gateway(api_key="sk-right") as gateway:
            got = await send(gateway, chat(), **sent)
            assert (got.status, error(got)) == (
                401,
                {
                    "message": "Incorrect API key provided.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "invalid_api_key",
                },
            )
            assert b"sk-" not in got.data
            assert "sk-" not in repr(gateway)
            assert (await send(gateway, path="/health", method="GET")).status == 200
            assert (await send(gateway, chat(), authorization="Bearer sk-right")).status == 200

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b"{not json", None),
            (b"", None),
            (b"[]", None),
            ({"messages": [{"role": "user", "content": "Hi"}]}, "model"),
            ({"model": "m"}, "messages"),
            ({"model": "m", "messages": []}, "messages"),
            ({"model": "m", "messages": "Hi"}, "messages"),
            ({"model": "m", "messages": ["Hi"]}, "messages[0]"),
            ({"model": "m", "messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
            (chat(n=0), "n"),
            (chat(max_tokens="many"), "max_tokens"),
        ],
    )
    async def test_an_invalid_body(self, gateway: Gateway, body: object, param: str | None) -> None:
        got = await send(gateway, body)
        assert (got.status, error(got)["param"], error(got)["type"]) == (400, param, "invalid_request_error")


class TestAnswers:
    async def test_every_answer_has_an_id_of_its_own(self, gateway: Gateway) -> None:
        gateway.script(fail(503))
        got = [await send(gateway, chat()), await stream(gateway), await send(gateway, path="/nowhere")]
        assert [one.headers["x-request-id"] for one in got] == ["req_1", "req_2", "req_3"]

    async def test_headers_are_added_or_replaced(self, gateway: Gateway) -> None:
        gateway.script(answer(headers={"X-Request-Id": "mine", "Content-Type": "text/plain", "x-extra": "1"}))
        got = await stream(gateway)
        assert (got.headers["x-request-id"], got.headers["content-type"], got.headers["x-extra"]) == (
            "mine",
            "text/plain",
            "1",
        )
        assert got.head.lower().count("x-request-id") == 1

    async def test_two_gateways_answer_alike(self) -> None:
        bodies = []
        for _ in range(2):
            async with Gateway() as gateway:
                bodies.append((await stream(gateway, "Think of the same.")).body)
        assert bodies[0] == bodies[1]

    async def test_health(self, gateway: Gateway) -> None:
        got = [await send(gateway, path=path, method="GET") for path in ("/health", "/v1/health/ready")]
        assert [one.body for one in got] == [b'{"status":"ok"}', b'{"status":"ready"}']
