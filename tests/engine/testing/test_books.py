"""What the gateway has seen, and the assertions on it."""

from __future__ import annotations

import aiohttp
import pytest

from penstock.engine.testing import Gateway, answer, fail, reset, stall

from .support import CHAT, chat, send, stream


async def test_a_call_tells_what_came_and_what_became_of_it(gateway: Gateway) -> None:
    await send(gateway, chat(stream=True), path=CHAT + "?api-version=1", X_Extra="1", idempotency_key="k")
    (call,) = gateway.calls
    assert (call.number, call.method, call.path, dict(call.query)) == (1, "POST", CHAT, {"api-version": "1"})
    assert (call.headers["x-extra"], call.idempotency_key, call.body) == ("1", "k", chat(stream=True))
    assert (call.attempt, call.connection, call.stream, call.status) == (1, 1, True, 200)
    assert (call.executed, call.replayed, call.outcome) == (True, False, "answer")
    assert call.finished is not None
    assert call.finished >= call.started
    assert call.raw.startswith(b'{"model":"tiny-mock"')


async def test_a_call_does_not_show_keys_or_prompts(gateway: Gateway) -> None:
    await send(gateway, chat("my secret"), authorization="Bearer sk-secret")
    assert "secret" not in repr(gateway.calls) + repr(gateway)


async def test_attempts_belong_together_by_key_or_else_by_body(gateway: Gateway) -> None:
    for text, headers in (("a", {}), ("b", {}), ("a", {}), ("a", {"idempotency_key": "k"}), ("a", {})):
        await send(gateway, chat(text), **headers)
    assert [call.attempt for call in gateway.calls] == [1, 1, 2, 1, 3]


async def test_waits_are_counted_between_attempts(gateway: Gateway) -> None:
    gateway.script(fail(429), fail(429))
    for key in ("k1", "k2", "k1", "k2"):
        await send(gateway, chat(), idempotency_key=key)
    assert [call.waited_s is None for call in gateway.calls] == [True, True, False, False]
    assert len(gateway.waits()) == 2
    assert gateway.waits("k1") == [gateway.calls[2].waited_s]
    assert gateway.calls[0].finished is not None
    assert gateway.waits("k1") == [gateway.calls[2].started - gateway.calls[0].finished]


async def test_keys_and_executions(gateway: Gateway) -> None:
    gateway.script(fail(503), answer("Hi"))
    for key in ("b", "b", "a", "a"):
        await send(gateway, chat(key), idempotency_key=key)
    await send(gateway, chat())
    assert gateway.keys == ["b", "a"]
    assert gateway.executions == {"b": 1, "a": 1}
    assert (gateway.requests, [call.executed for call in gateway.calls]) == (5, [False, True, True, False, True])


async def test_connections_are_counted(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    for _ in range(2):
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            await response.read()
    await stream(gateway)
    await gateway.until(lambda: gateway.open_connections == 1)
    assert (gateway.connections, [call.connection for call in gateway.calls]) == (2, [1, 1, 2])


async def test_reset_forgets_calls_keys_and_script(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(answer("A"), fail(503))
    async with session.post(gateway.url + CHAT, json=chat(), headers={"idempotency-key": "k"}):
        pass
    gateway.reset()
    assert (gateway.calls, gateway.keys, gateway.steps_left, gateway.waits()) == ([], [], 0, [])
    assert (gateway.connections, gateway.open_connections) == (1, 1)
    got = await send(gateway, chat(), idempotency_key="k")
    assert (got.status, got.headers["x-idempotent-replay"], got.headers["x-request-id"]) == (200, "false", "req_1")


async def test_reset_does_not_disturb_what_still_runs(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(stall(after_events=1))
    async with session.post(gateway.url + CHAT, json=chat(stream=True), headers={"idempotency-key": "k"}) as response:
        (call,) = gateway.calls.copy()
        gateway.reset()
        assert (gateway.requests, gateway.open_streams) == (0, 1)
        response.close()
    await gateway.assert_no_open_streams()
    assert call.outcome == "abandoned"
    assert (await stream(gateway, idempotency_key="k")).headers["x-idempotent-replay"] == "false"


class TestAssertions:
    async def test_executed_once(self, gateway: Gateway) -> None:
        with pytest.raises(AssertionError, match="no request came with an idempotency key, of 0"):
            gateway.assert_executed_once()
        await send(gateway, chat(), idempotency_key="k")
        await send(gateway, chat(), idempotency_key="k")
        gateway.assert_executed_once("k")
        gateway.assert_executed_once()
        with pytest.raises(AssertionError, match=r"no request came with idempotency key 'x'; keys that came: \['k'\]"):
            gateway.assert_executed_once("x")

    async def test_executed_more_or_less_than_once(self) -> None:
        async with Gateway(idempotency="ignore", script=[answer(), answer(), fail(503)]) as gateway:
            for key in ("twice", "twice", "never"):
                await send(gateway, chat(), idempotency_key=key)
            with pytest.raises(
                AssertionError, match=r"once per key, and ran \{'twice': 2\}\n  Call\(number=1"
            ) as caught:
                gateway.assert_executed_once("twice")
            assert str(caught.value).count("Call(") == 2
            with pytest.raises(AssertionError, match=r"\{'twice': 2, 'never': 0\}"):
                gateway.assert_executed_once()

    async def test_waited(self, gateway: Gateway) -> None:
        gateway.script(fail(429))
        await send(gateway, chat())
        with pytest.raises(AssertionError, match=r"no attempt was repeated.*\n  Call\(number=1.*status=429"):
            gateway.assert_waited(at_least=0)
        await send(gateway, chat())
        gateway.assert_waited(at_least=0)
        with pytest.raises(AssertionError, match=r"at least 60 s was expected, and there were \[0\."):
            gateway.assert_waited(at_least=60)

    async def test_no_open_connections(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        async with session.post(gateway.url + CHAT, json=chat()) as response:
            await response.read()
        with pytest.raises(AssertionError, match=r"1 connections are still open\n  Call\(number=1"):
            await gateway.assert_no_open_connections(within_s=0)
        await session.close()
        await gateway.assert_no_open_connections()

    async def test_no_open_streams(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        gateway.script(stall())
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            with pytest.raises(AssertionError, match=r"1 streams are still open\n  Call\(number=1"):
                await gateway.assert_no_open_streams(within_s=0)
            response.close()
        await gateway.assert_no_open_streams()

    async def test_until_says_how_things_stand(self, gateway: Gateway) -> None:
        gateway.script(reset())
        with pytest.raises(AssertionError, match=r"within 0 s: <Gateway http://.* requests=0 .*steps_left=1>"):
            await gateway.until(lambda: gateway.requests == 1, within_s=0)
