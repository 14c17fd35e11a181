"""Keeptrusts: OpenAI's format with blocks of 409."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import Gateway, Step, answer, block, error_event, fail, provider_error

from ..support import chat, send, stream


async def test_answers_are_those_of_openai() -> None:
    async with Gateway(dialect="keeptrusts", script=[answer("Hello there"), answer("Hello there")]) as gateway:
        whole, streamed = await send(gateway, chat()), await stream(gateway)
        models = await send(gateway, method="GET", path="/v1/models")
        embedding = await send(gateway, {"model": "m", "input": "a"}, path="/v1/embeddings")
    assert whole.json["choices"][0]["message"]["content"] == streamed.text == "Hello there"
    assert (models.json["data"][0]["id"], len(embedding.json["data"])) == ("tiny-mock", 1)


@pytest.mark.parametrize(
    ("cause", "code", "policy"),
    [
        ("policy", "input_blocked", "content-policy"),
        ("input", "input_blocked", "content-policy"),
        ("security", "input_blocked", "block-prompt-injection"),
        ("output", "output_blocked", "output-policy"),
        ("budget", "budget_exceeded", "team-budget"),
        ("escalation", "escalation_required", "escalation"),
    ],
)
async def test_blocks(cause: Any, code: str, policy: str) -> None:
    async with Gateway(dialect="keeptrusts", script=[block(cause)]) as gateway:
        got = await stream(gateway)
    error = got.json["error"]
    assert (got.status, error["type"], error["code"], error["policy"]) == (409, "policy_violation", code, policy)
    assert list(error) == ["type", "message", "code", "policy"]


async def test_a_block_of_another_policy() -> None:
    step = block("pii", reason="Request blocked: IBAN", details={"policy": "pci"}, headers={"x-should-retry": "false"})
    async with Gateway(dialect="keeptrusts", script=[step]) as gateway:
        got = await send(gateway, chat())
    assert (got.json["error"]["message"], got.json["error"]["policy"]) == ("Request blocked: IBAN", "pci")
    assert got.headers["x-should-retry"] == "false"


async def test_a_late_block_ends_the_stream_and_is_marked_as_done() -> None:
    late = block("pii", when="in_stream", after_events=2, of=answer(pieces=["The SSN is ", "1"]))
    async with Gateway(dialect="keeptrusts", script=[late, error_event(), error_event(done=False)]) as gateway:
        blocked, failed, unmarked = [await stream(gateway) for _ in range(3)]
    assert (blocked.text, blocked.frames[-1]["error"]["code"]) == ("The SSN is ", "output_blocked")
    assert (blocked.events[-1], failed.events[-1]) == ("[DONE]", "[DONE]")
    assert "[DONE]" not in unmarked.events


async def test_errors() -> None:
    script: list[Step] = [fail(429), fail(503), fail(418), provider_error(500)]
    async with Gateway(dialect="keeptrusts", api_key="kt_gk_1", script=script) as gateway:
        bearer = {"authorization": "Bearer kt_gk_1"}
        stranger = await send(gateway, chat())
        invalid = await send(gateway, {"model": "m"}, **bearer)
        got = [(await send(gateway, chat(), **bearer)).json["error"] for _ in range(4)]
    assert (stranger.status, stranger.json["error"]) == (
        401,
        {"type": "authentication_error", "message": "Invalid gateway key", "code": "invalid_api_key"},
    )
    assert (invalid.status, invalid.json["error"]["type"]) == (422, "validation_error")
    assert [error["type"] for error in got] == ["rate_limit", "upstream_error", "upstream_error", "upstream_error"]
    assert got[3] == {
        "type": "upstream_error",
        "message": "Provider returned 500: upstream failed",
        "code": "provider_error",
    }
