"""What the gateway has seen, and the assertions on it."""

from __future__ import annotations

import aiohttp
import pytest

from penstock.engine.testing import Gateway, answer, fail, stall

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


async def test_charges_are_what_the_model_was_paid(gateway: Gateway) -> None:
    gateway.script(fail(503), answer("two words"))
    for _ in range(3):
        await send(gateway, chat("three words here"), idempotency_key="k")
    assert ([call.tokens for call in gateway.calls], gateway.charges) == ([0, 5, 0], {"k": 5})


class TestBounds:
    async def test_only_the_last_calls_are_kept(self) -> None:
        async with Gateway(keep_calls=2) as gateway:
            for key in "abcc":
                await send(gateway, chat(key), idempotency_key=key)
            assert [call.number for call in gateway.calls] == [3, 4]
            assert (gateway.requests, gateway.keys, gateway.executions) == (4, ["c"], {"c": 1})
            assert gateway.calls[1].attempt == 2
            assert (len(gateway._books._last), len(gateway._books._attempts)) == (1, 1)

    async def test_a_forgotten_key_is_a_new_one(self) -> None:
        async with Gateway(keep_calls=2) as gateway:
            for key in "abca":
                await send(gateway, chat(key), idempotency_key=key)
            assert (gateway.calls[-1].attempt, gateway.calls[-1].replayed) == (1, False)

    async def test_bodies_are_dropped_when_they_were_answered(self) -> None:
        async with Gateway(keep_bodies=False, script=[fail(503)]) as gateway:
            for _ in range(2):
                await send(gateway, chat("a"), idempotency_key="k")
            assert [(call.raw, call.body, call.attempt) for call in gateway.calls] == [(b"", None, 1), (b"", None, 2)]
            gateway.assert_same_body_and_key()

    def test_at_least_one_call_is_kept(self) -> None:
        with pytest.raises(ValueError, match="keep_calls is at least 1, not 0"):
            Gateway(keep_calls=0)
