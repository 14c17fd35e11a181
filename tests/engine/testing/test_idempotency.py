"""One key, one execution."""

from __future__ import annotations

import aiohttp
import orjson
import pytest

from penstock.engine.testing import Gateway, Step, answer, cut, error_event, fail, hang_up, html, reset, stall, truncate
from penstock.engine.testing.idempotency import KeyStore
from penstock.engine.testing.reply import Reply

from .support import CHAT, Exchange, chat, send, stream

REPLAY = "x-idempotent-replay"


def content(got: Exchange) -> str:
    text: str = orjson.loads(got.body)["choices"][0]["message"]["content"]
    return text


def error_code(got: Exchange) -> str:
    code: str = orjson.loads(got.body)["error"]["code"]
    return code


async def test_a_finished_answer_is_replayed_and_not_made_again(gateway: Gateway) -> None:
    gateway.script(answer("A"), answer("B"))
    first, second = [await send(gateway, chat(), idempotency_key="k") for _ in range(2)]
    assert (first.headers[REPLAY], second.headers[REPLAY]) == ("false", "true")
    assert first.body == second.body
    assert [(call.executed, call.replayed, call.outcome) for call in gateway.calls] == [
        (True, False, "answer"),
        (False, True, "replay"),
    ]
    gateway.assert_executed_once("k")


async def test_the_order_of_members_does_not_make_another_request(gateway: Gateway) -> None:
    body = chat(temperature=0)
    await send(gateway, body, idempotency_key="k")
    got = await send(gateway, dict(reversed(body.items())), idempotency_key="k")
    assert (got.status, got.headers[REPLAY]) == (200, "true")


async def test_a_key_with_another_request_is_refused(gateway: Gateway) -> None:
    await send(gateway, chat("a"), idempotency_key="k")
    got = await send(gateway, chat("b"), idempotency_key="k")
    assert (got.status, error_code(got)) == (422, "idempotency_key_reuse")
    assert gateway.calls[1].outcome == "refused"


async def test_a_key_that_runs_is_refused_until_it_is_done(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(stall(after_events=1))
    headers = {"idempotency-key": "k"}
    async with session.post(gateway.url + CHAT, json=chat(stream=True), headers=headers) as response:
        got = await stream(gateway, idempotency_key="k")
        assert (got.status, error_code(got)) == (409, "idempotency_in_progress")
        response.close()
    await gateway.assert_no_open_streams()
    assert (await stream(gateway, idempotency_key="k")).headers[REPLAY] == "true"
    gateway.assert_executed_once("k")


@pytest.mark.parametrize("fault", [fail(503), fail(400), reset(), hang_up(), html(), reset("after_headers")])
async def test_a_failure_sets_the_key_free(gateway: Gateway, fault: Step) -> None:
    gateway.script(fault, answer("B"))
    await send(gateway, chat(), idempotency_key="k")
    got = await send(gateway, chat(), idempotency_key="k")
    assert (content(got), got.headers[REPLAY]) == ("B", "false")
    gateway.assert_executed_once("k")


@pytest.mark.parametrize(
    "fault",
    [
        reset(executed=True, of=answer("A")),
        hang_up(executed=True, of=answer("A")),
        cut(after_bytes=20, of=answer("A")),
        truncate(of=answer("A")),
    ],
)
async def test_an_answer_that_was_lost_on_the_way_is_replayed_whole(gateway: Gateway, fault: Step) -> None:
    gateway.script(fault, answer("B"))
    await send(gateway, chat(), idempotency_key="k")
    got = await send(gateway, chat(), idempotency_key="k")
    assert (content(got), got.headers[REPLAY]) == ("A", "true")
    gateway.assert_executed_once("k")


async def test_faults_spoil_a_replay_too(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b"]), cut(after_events=2), fail(503))
    got = [await stream(gateway, idempotency_key="k") for _ in range(4)]
    assert [(one.status, one.text if one.status == 200 else "") for one in got] == [
        (200, "ab"),
        (200, "a"),
        (503, ""),
        (200, "ab"),
    ]
    assert [call.outcome for call in gateway.calls] == ["answer", "cut", "fail", "replay"]
    gateway.assert_executed_once("k")


async def test_a_model_that_failed_has_run_and_keeps_nothing(gateway: Gateway) -> None:
    gateway.script(error_event())
    for _ in range(2):
        await stream(gateway, idempotency_key="k")
    assert gateway.executions == {"k": 2}


def test_a_replay_comes_without_pace() -> None:
    keys = KeyStore()
    assert keys.claim("k", "request") is None
    keys.keep("k", Reply(b"{}", answer("A", ttft_s=1, delay_s=1, slow_terminator_s=1), work_s=1))
    assert keys.claim("k", "request") == Reply(b"{}", answer("A"))


async def test_embeddings_are_protected_and_lists_are_not(gateway: Gateway) -> None:
    body = {"model": "m", "input": "text"}
    got = [await send(gateway, body, path="/v1/embeddings", idempotency_key="k") for _ in range(2)]
    assert [one.headers[REPLAY] for one in got] == ["false", "true"]
    listed = await send(gateway, path="/v1/models", method="GET", idempotency_key="k")
    assert (listed.status, REPLAY in listed.headers) == (200, False)


async def test_a_blank_key_is_no_key(gateway: Gateway) -> None:
    got = await send(gateway, chat(), idempotency_key=" ")
    assert (gateway.calls[0].idempotency_key, REPLAY in got.headers) == (None, False)


async def test_a_gateway_that_ignores_keys_runs_every_request() -> None:
    async with Gateway(idempotency="ignore") as gateway:
        got = [await send(gateway, chat(), idempotency_key="k") for _ in range(2)]
        assert [REPLAY in one.headers for one in got] == [False, False]
        assert gateway.executions == {"k": 2}
