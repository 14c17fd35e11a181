"""Atrium: OpenAI's chats with what was decided in headers."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import Gateway, Step, answer, block, error_event, fail, provider_error

from ..support import Exchange, chat, send, stream


def stated(got: Exchange) -> dict[str, str]:
    """The governance headers, without what they begin with."""
    prefix = "x-monago-"
    return {name[len(prefix) :]: value for name, value in got.exact_headers.items() if name.startswith(prefix)}


async def test_answers_and_streams_state_what_was_decided() -> None:
    async with Gateway(dialect="atrium", script=[answer("Ya."), answer("Ya.")]) as gateway:
        whole, streamed = await send(gateway, chat()), await stream(gateway)
    assert whole.json["choices"][0]["message"]["content"] == "Ya."
    assert stated(whole) == {
        "audit-id": "audit-0001",
        "pii-detected": "false",
        "policy-decision": "allowed",
        "provider": "openai",
        "latency-ms": "12.5",
        "cost-idr": "12.5",
    }
    assert (streamed.text, streamed.events[-1]) == ("Ya.", "[DONE]")
    assert stated(streamed) == {**stated(whole), "audit-id": "audit-0002"}


async def test_what_it_states_can_be_given() -> None:
    facts = answer(
        governance={
            "decision": "redacted",
            "audit_id": None,
            "provider": "anthropic",
            "redactions": ["NIK", "EMAIL"],
            "incidents": ["prompt_injection", "jailbreak"],
            "cost": None,
            "latency_ms": 412.3,
        },
        headers={"X-Monago-Latency-Ms": "NaN"},
    )
    async with Gateway(dialect="atrium", script=[facts]) as gateway:
        got = await send(gateway, chat())
    assert stated(got) == {
        "pii-detected": "true",
        "pii-redacted": "NIK, EMAIL",
        "policy-decision": "redacted",
        "provider": "anthropic",
        "security-incident": "prompt_injection, jailbreak",
        "latency-ms": "NaN",
    }


@pytest.mark.parametrize(
    ("cause", "status", "code", "headers"),
    [
        ("policy", 400, "policy_blocked", {"block-reason": "rule violation: r-42"}),
        (
            "pii",
            400,
            "pii_blocked",
            {"block-reason": "PII detected: NIK", "pii-detected": "true", "pii-redacted": "NIK"},
        ),
        (
            "security",
            422,
            "security_block",
            {"block-reason": "prompt injection detected", "security-incident": "prompt_injection"},
        ),
        ("model_not_allowed", 451, "model_not_allowed", {"block-reason": "model not allowed for workspace"}),
    ],
)
async def test_blocks(cause: Any, status: int, code: str, headers: dict[str, str]) -> None:
    async with Gateway(dialect="atrium", script=[block(cause)]) as gateway:
        got = await stream(gateway)
    assert (got.status, got.json["error"]["code"]) == (status, code)
    assert stated(got) == {"audit-id": "audit-0001", "policy-decision": "blocked", **headers}


async def test_a_block_as_a_later_gateway_may_send_it() -> None:
    step = block("pii", status=403, reason="found", findings=["EMAIL", "PHONE"], headers={"X-Monago-Audit-Id": "mine"})
    async with Gateway(dialect="atrium", script=[step]) as gateway:
        got = await send(gateway, chat())
    assert got.status == 403
    assert got.json == {"error": {"message": "PII detected and policy blocked", "code": "pii_blocked"}}
    assert (stated(got)["audit-id"], stated(got)["block-reason"]) == ("mine", "found")
    assert stated(got)["pii-redacted"] == "EMAIL, PHONE"


async def test_errors_have_an_audit_id_once_the_key_is_known() -> None:
    script: list[Step] = [fail(429, retry_after=2), fail(500, type="t", details={"x": 1}), provider_error(None)]
    async with Gateway(dialect="atrium", api_key="sk-mng-1", script=script) as gateway:
        stranger = await send(gateway, chat())
        got = [await send(gateway, chat(), authorization="Bearer sk-mng-1") for _ in range(3)]
    assert (stranger.status, stranger.json, stated(stranger)) == (401, {"error": {"message": "invalid api key"}}, {})
    assert [one.json["error"] for one in got] == [
        {"message": "too many requests"},
        {"message": "internal error", "type": "t", "x": 1},
        {"message": "Provider did not answer: upstream failed", "code": "provider_error"},
    ]
    assert [stated(one) for one in got] == [{"audit-id": f"audit-{number:04d}"} for number in (2, 3, 4)]


@pytest.mark.parametrize("option", [{"user": "u"}, {"stream_options": {"include_usage": True}}, {"seed": 1}])
async def test_members_it_does_not_know_are_refused(option: dict[str, Any]) -> None:
    async with Gateway(dialect="atrium", script=[answer()]) as gateway:
        got = await send(gateway, chat(**option))
        assert gateway.steps_left == 1
    (name,) = option
    assert (got.status, got.json["error"]["message"]) == (422, f"Extra inputs are not permitted: {name}")


async def test_a_missing_member_is_a_plain_400() -> None:
    async with Gateway(dialect="atrium") as gateway:
        got = await send(gateway, {"messages": []})
    assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")


async def test_an_error_inside_a_stream_is_framed_like_those_of_openai() -> None:
    async with Gateway(dialect="atrium", script=[error_event(), block(when="in_stream")]) as gateway:
        failed, blocked = await stream(gateway), await stream(gateway)
    assert failed.frames[-1] == {"error": {"message": "internal error"}}
    assert blocked.frames[-1] == {"error": {"message": "policy rule blocked", "code": "policy_blocked"}}
    assert "policy-decision" in stated(blocked)
