"""What only a governing gateway does, in the dialect of OpenAI and for all dialects alike."""

from __future__ import annotations

from typing import Any, cast

import pytest

from penstock.engine.testing import (
    Gateway,
    Step,
    answer,
    block,
    fail,
    in_progress,
    provider_error,
    replay_without_content,
)
from penstock.engine.testing.dialects import DIALECTS

from .support import chat, send, stream

REPLAY = "x-idempotent-replay"


def request_of(dialect: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of a chat."""
    path, body = DIALECTS[dialect]("tiny-mock").example("Hi")
    return path, {**body, "stream": False, **options}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: block(after_events=-1), "after_events cannot be negative"),
        (lambda: provider_error(200), "400 to 599, not 200"),
        (lambda: provider_error(times=0), "at least once"),
        (lambda: in_progress(times=0), "at least once"),
        (lambda: answer(governance=cast(Any, {"desicion": "allow"})), "no gateway states desicion"),
    ],
)
def test_what_cannot_be_played_is_refused_when_it_is_written(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("dialect", "cause"), [("atrium", "budget"), ("omnigate", "pii"), ("modelgov", "escalation"), ("openai", "pii")]
)
def test_a_block_that_the_dialect_lacks_is_refused_when_it_is_scripted(dialect: str, cause: Any) -> None:
    with pytest.raises(ValueError, match=rf"{dialect} has no block for '{cause}'; it has "):
        Gateway(dialect=dialect, script=[block(cause)])
    with pytest.raises(ValueError, match=f"no block for '{cause}'"):
        Gateway(dialect=dialect).script(default=block(cause))


@pytest.mark.parametrize(
    ("step", "runs"),
    [
        (block(), False),
        (block("output"), True),
        (block("output", executed=False), False),
        (block(when="in_stream"), True),
        (block(executed=True), True),
    ],
)
async def test_the_model_runs_for_blocks_on_the_way_out(gateway: Gateway, step: Step, runs: bool) -> None:
    gateway.script(step)
    await stream(gateway)
    assert (gateway.calls[0].executed, gateway.calls[0].outcome) == (runs, "block")


async def test_blocks_of_openai(gateway: Gateway) -> None:
    gateway.script(block(), block("budget"), block("model_not_allowed", message="No.", code="no", status=404))
    got = [await send(gateway, chat()) for _ in range(3)]
    assert [(one.status, one.json["error"]["code"]) for one in got] == [
        (400, "content_policy_violation"),
        (429, "insufficient_quota"),
        (404, "no"),
    ]
    assert got[2].json["error"]["message"] == "No."


async def test_a_reason_and_headers_are_told(gateway: Gateway) -> None:
    gateway.script(block(reason="Because.", headers={"x-why": "1"}, details={"policy": "p"}))
    got = await send(gateway, chat())
    assert (got.json["error"]["message"], got.json["error"]["policy"], got.headers["x-why"]) == ("Because.", "p", "1")


async def test_a_block_in_a_stream_is_an_error_after_some_events(gateway: Gateway) -> None:
    gateway.script(
        block(when="in_stream", after_events=3, of=answer(pieces=["a", "b", "c"])),
        block(when="in_stream", after_events=0, done=True),
        block(when="in_stream"),
    )
    late, early, unary = await stream(gateway), await stream(gateway), await send(gateway, chat())
    assert (late.status, late.text, late.frames[-1]["error"]["code"]) == (200, "ab", "content_policy_violation")
    assert "[DONE]" not in late.events
    assert (len(early.frames), early.events[-1]) == (1, "[DONE]")
    assert (unary.status, unary.json) == (400, late.frames[-1])


async def test_a_block_is_kept_under_its_key_and_a_provider_error_is_not(gateway: Gateway) -> None:
    gateway.script(provider_error(), block("budget"), answer("late"))
    got = [await send(gateway, chat(), idempotency_key="k") for _ in range(3)]
    assert [(one.status, one.headers[REPLAY]) for one in got] == [(502, "false"), (429, "false"), (429, "true")]
    assert got[1].body == got[2].body
    assert gateway.executions == {"k": 0}
    assert [call.outcome for call in gateway.calls] == ["provider_error", "block", "replay"]


async def test_a_block_in_a_stream_is_not_kept(gateway: Gateway) -> None:
    gateway.script(block(when="in_stream"), answer("second"))
    await stream(gateway, idempotency_key="k")
    assert (await stream(gateway, idempotency_key="k")).text == "second"


@pytest.mark.parametrize("step", [block(), provider_error()])
async def test_a_replay_meets_no_policy_and_no_provider(gateway: Gateway, step: Step) -> None:
    gateway.script(answer("A"), step)
    got = [await send(gateway, chat(), idempotency_key="k") for _ in range(2)]
    assert (got[1].body, gateway.calls[1].outcome) == (got[0].body, "replay")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_provider_error_is_told_before_and_inside_a_stream(dialect: str) -> None:
    path, body = request_of(dialect, stream=True)
    script = [provider_error(times=2), provider_error(when="in_stream", of=answer(pieces=["a", "b", "c"]))]
    async with Gateway(dialect=dialect, script=script) as gateway:
        before = [await send(gateway, body, path=path) for _ in range(2)]
        inside = await send(gateway, body, path=path)
    assert {one.status for one in before} == {500 if dialect == "omnigate" else 502}
    assert (inside.status, inside.is_complete) == (200, True)
    error = [frame for frame in inside.frames if "delta" not in frame and "choices" not in frame]
    assert len(error) == 1
    assert b'"a"' in inside.body
    assert b'"c"' not in inside.body


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_in_progress_is_a_409_until_it_is_not(dialect: str) -> None:
    path, body = request_of(dialect)
    async with Gateway(dialect=dialect, script=[in_progress(times=2)]) as gateway:
        got = [await send(gateway, body, path=path, idempotency_key="k") for _ in range(3)]
        assert [one.status for one in got] == [409, 409, 200]
        gateway.assert_executed_once("k")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_failures_have_the_envelope_of_the_dialect(dialect: str) -> None:
    path, body = request_of(dialect)
    async with Gateway(dialect=dialect, script=[fail(418, message="Teapot.")]) as gateway:
        got = await send(gateway, body, path=path)
    assert (got.status, got.headers["content-type"]) == (418, "application/json")
    assert b"Teapot." in got.body


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_example_of_a_dialect_is_a_chat_it_streams(dialect: str) -> None:
    path, body = DIALECTS[dialect]("tiny-mock").example("Hello")
    async with Gateway(dialect=dialect) as gateway:
        got = await send(gateway, body, path=path)
        assert (got.status, gateway.calls[0].stream, b"Hello" in got.body) == (200, True, True)


@pytest.mark.parametrize(
    ("dialect", "replays"),
    [
        ("openai", True),
        ("nim", True),
        ("modelgov", True),
        ("atrium", False),
        ("omnigate", False),
        ("keeptrusts", False),
    ],
)
async def test_a_key_counts_where_the_gateway_honours_it(dialect: str, replays: bool) -> None:
    path, body = request_of(dialect)
    async with Gateway(dialect=dialect) as plain, Gateway(dialect=dialect, idempotency="honour") as honouring:
        for gateway, honours in ((plain, replays), (honouring, True)):
            got = [await send(gateway, body, path=path, idempotency_key="k") for _ in range(2)]
            assert [one.headers.get(REPLAY) for one in got] == (["false", "true"] if honours else [None, None])
            assert gateway.executions == {"k": 1 if honours else 2}


async def test_a_replay_without_content(gateway: Gateway) -> None:
    gateway.script(replay_without_content(of=answer("text")), replay_without_content(of=answer("text")))
    whole, streamed = await send(gateway, chat()), await stream(gateway)
    assert (whole.headers[REPLAY], streamed.headers[REPLAY]) == ("true", "true")
    assert whole.json["choices"][0]["message"]["content"] == ""
    assert whole.json["usage"]["completion_tokens"] == 1
    assert (streamed.text, streamed.events[-1]) == ("", "[DONE]")
    assert [call.executed for call in gateway.calls] == [False, False]


async def test_replays_can_be_told_to_come_without_content() -> None:
    async with Gateway(keep_content=False) as gateway:
        got = [await send(gateway, chat(), idempotency_key="k") for _ in range(2)]
    assert [bool(one.json["choices"][0]["message"]["content"]) for one in got] == [True, False]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_lost_in_a_replay_is_the_text(dialect: str) -> None:
    path, body = request_of(dialect)
    async with Gateway(dialect=dialect, idempotency="honour", keep_content=False, script=[answer("secret")]) as gateway:
        first, second = [await send(gateway, body, path=path, idempotency_key="k") for _ in range(2)]
    assert b"secret" in first.body
    assert second.body == first.body.replace(b"secret", b"").replace(b',"refusal":null', b"")


async def test_vectors_are_lost_in_a_replay_too() -> None:
    body = {"model": "m", "input": "a"}
    async with Gateway(keep_content=False) as gateway:
        got = [await send(gateway, body, path="/v1/embeddings", idempotency_key="k") for _ in range(2)]
    assert [len(one.json["data"]) for one in got] == [1, 0]


async def test_omnigates_own_chat_loses_its_text_too() -> None:
    async with Gateway(dialect="omnigate", idempotency="honour", keep_content=False) as gateway:
        got = [await send(gateway, chat(), path="/v1/chat", idempotency_key="k") for _ in range(2)]
    assert [bool(one.json["content"]) for one in got] == [True, False]
    assert got[0].json["usage"] == got[1].json["usage"]
