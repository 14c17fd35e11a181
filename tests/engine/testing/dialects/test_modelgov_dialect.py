"""Modelgov: chats and streams of its own, policy in the body, idempotency keys."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    Step,
    answer,
    block,
    cut,
    empty,
    error_event,
    fail,
    in_progress,
    no_done,
    provider_error,
    replay_without_content,
    stall,
    truncate,
)

from ..support import Exchange, send

IDENTITY = {"userId": "u-9", "userType": "free", "feature": "support_chat"}
CHAT = "/v1/chat"
REPLAY = "x-idempotent-replay"
BUDGET = {
    "userDailyUsd": 1.0,
    "featureMonthlyUsd": None,
    "globalMonthlyUsd": 100.0,
    "userDailyTokens": None,
    "featureMonthlyTokens": None,
    "globalMonthlyTokens": None,
}


def chat(text: str = "Hi", **options: Any) -> dict[str, Any]:
    return {**IDENTITY, "messages": [{"role": "user", "content": text}], **options}


async def ask(gateway: Gateway, body: Any = None, *, key: str | None = None, path: str = CHAT) -> Exchange:
    headers = {} if key is None else {"idempotency_key": key}
    return await send(gateway, chat() if body is None else body, path=path, **headers)


class TestChat:
    async def test_the_body_is_that_of_the_contract(self) -> None:
        async with Gateway(dialect="modelgov", script=[answer("Open Billing.")]) as gateway:
            got = await ask(gateway)
        assert got.headers["x-modelgov-request-id"] == "req_1"
        assert got.headers["x-ratelimit-remaining"] == "119"
        assert "x-request-id" not in got.headers
        assert got.json == {
            "message": {"role": "assistant", "content": "Open Billing."},
            "model": "openai/tiny-mock",
            "provider": "openai",
            "decision": "allow",
            "usage": {"inputTokens": 1, "outputTokens": 2},
            "cost": {"estimatedUsd": 3e-06, "actualUsd": 3e-06},
            "budgetRemaining": BUDGET,
            "safety": {"piiMasked": False, "injectionBlocked": False},
            "requestId": "req_1",
        }

    async def test_what_the_gateway_states_can_be_given(self) -> None:
        facts = answer(
            governance={
                "decision": "degrade",
                "reason": "cheaper class used",
                "audit_id": "req_42",
                "provider": "anthropic",
                "model": "anthropic/haiku",
                "redactions": ["EMAIL"],
                "cost": None,
                "budget_remaining": None,
                "grounded": False,
            },
            usage={"inputTokens": None, "outputTokens": None},
        )
        async with Gateway(dialect="modelgov", script=[facts, answer(usage=None)]) as gateway:
            got, bare = await ask(gateway), await ask(gateway, chat(context=["A passage."]))
        assert got.headers["x-modelgov-request-id"] == "req_42"
        body = got.json
        assert (body["decision"], body["reason"], body["requestId"]) == ("degrade", "cheaper class used", "req_42")
        assert (body["provider"], body["model"]) == ("anthropic", "anthropic/haiku")
        assert (body["cost"]["actualUsd"], body["budgetRemaining"]) == (None, None)
        assert body["safety"] == {"piiMasked": True, "injectionBlocked": False, "grounded": False}
        assert body["usage"] == {"inputTokens": None, "outputTokens": None}
        assert ("usage" in bare.json, bare.json["safety"]["grounded"]) == (False, True)

    async def test_parts_and_members_it_does_not_know_are_taken(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
        messages = [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "Extract"}, image, {"type": "text", "text": "it."}]},
        ]
        async with Gateway(dialect="modelgov") as gateway:
            got = await ask(gateway, {**IDENTITY, "messages": messages, "brandNew": 1, "temperature": 0})
        assert 'You said: "Extract it."' in got.json["message"]["content"]
        assert got.json["usage"]["inputTokens"] == 4

    @pytest.mark.parametrize(
        ("wrong", "detail"),
        [
            ({"userId": ""}, "userId: too few characters"),
            ({"feature": 1}, "feature: must be string"),
            ({"messages": []}, "messages: too few items"),
            ({"messages": "Hi"}, "messages: must be array"),
            ({"messages": [{"role": "developer", "content": "Hi"}]}, "messages: [0] must have a role"),
            ({"messages": [{"role": "user", "content": 1}]}, "messages: [0] must be string"),
            ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages: [0] [0] must be a part"),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
                "messages: [0] [0] must have an image_url.url",
            ),
            ({"messages": [{"role": "user", "content": "Hi"}] * 65}, "messages: too many items"),
            ({"context": []}, "context: too few items"),
            ({"temperature": 2.5}, "temperature: must be from 0 to 2"),
            ({"temperature": "hot"}, "temperature: must be number"),
            ({"inputTokensEstimate": 0}, "inputTokensEstimate: must be >= 1"),
            ({"inputTokensEstimate": 10_000_001}, "inputTokensEstimate: must be <= 10000000"),
            ({"inputTokensEstimate": 1.5}, "inputTokensEstimate: must be integer"),
            ({"metadata": {str(n): n for n in range(33)}}, "metadata: too many keys"),
            ({"metadata": []}, "metadata: must be object"),
            ({"stream": "yes"}, "stream: must be boolean"),
        ],
    )
    async def test_a_wrong_member_is_named(self, wrong: dict[str, Any], detail: str) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            got = await ask(gateway, chat(**wrong))
        error = got.json["error"]
        assert (got.status, error["code"], error["message"]) == (400, "invalid_request", "Invalid request")
        assert error["details"]["detail"].startswith(detail)
        assert "x-modelgov-request-id" not in got.headers

    @pytest.mark.parametrize("missing", [*IDENTITY, "messages"])
    async def test_a_required_member_is_required(self, missing: str) -> None:
        body = chat()
        del body[missing]
        async with Gateway(dialect="modelgov") as gateway:
            got = await ask(gateway, body)
        assert got.json["error"]["details"] == {"detail": f"{missing}: is required"}

    @pytest.mark.parametrize("body", [b"{broken", b"[]", b'"text"'])
    async def test_what_is_no_object_is_refused(self, body: bytes) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            got = await ask(gateway, body)
        assert (got.status, got.json["error"]["code"]) == (400, "invalid_request")


class TestStream:
    async def test_the_frames_in_order(self) -> None:
        async with Gateway(dialect="modelgov", script=[answer(pieces=["Hel", "lo"])]) as gateway:
            got = await ask(gateway, chat(stream=True))
        assert got.headers["content-type"] == "text/event-stream"
        assert got.headers["cache-control"] == "no-cache, no-transform"
        assert got.headers["x-modelgov-request-id"] == "req_1"
        done = {
            "done": True,
            "model": "openai/tiny-mock",
            "usage": {"inputTokens": 1, "outputTokens": 1},
            "requestId": "req_1",
        }
        assert got.frames == [{"delta": "Hel"}, {"delta": "lo"}, done]
        assert got.events[-1] == "[DONE]"

    async def test_faults_keep_its_framing(self) -> None:
        of = answer(pieces=["a", "b", "c"], comments=["hello"])
        script: list[Step] = [
            truncate(of=of),
            no_done(of=of),
            cut(after_events=1, of=of),
            stall(for_s=0.02, ping_every_s=0.005),
        ]
        async with Gateway(dialect="modelgov", script=script) as gateway:
            truncated, unmarked, broken, stalled = [await ask(gateway, chat(stream=True)) for _ in range(4)]
        assert truncated.body.startswith(b': hello\n\ndata: {"delta":"a"}\n\n')
        assert truncated.frames == [{"delta": "a"}, {"delta": "b"}, {"delta": "c"}]
        assert (unmarked.frames[-1]["done"], unmarked.events[-1] == "[DONE]") == (True, False)
        assert (broken.frames, broken.is_complete) == ([{"delta": "a"}], False)
        assert b": ping\n\n" in stalled.body

    async def test_an_error_is_a_named_event_that_is_not_wrapped(self) -> None:
        script: list[Step] = [
            provider_error(
                message="Stream interrupted", when="in_stream", after_events=1, of=answer(pieces=["a", "b"])
            ),
            error_event(after_events=0),
            error_event(after_events=0, error={"oops": True}),
            block(when="in_stream", after_events=0, cause="output"),
        ]
        async with Gateway(dialect="modelgov", script=script) as gateway:
            bodies = [(await ask(gateway, chat(stream=True))).body for _ in range(4)]
        error = b'event: error\ndata: {"code":"%b","message":"%b"}\n\n'
        assert bodies == [
            b'data: {"delta":"a"}\n\n' + error % (b"provider_unavailable", b"Stream interrupted"),
            error % (b"internal_error", b"Internal server error"),
            b'event: error\ndata: {"oops":true}\n\n',
            error % (b"safety_blocked", b"Output blocked"),
        ]

    async def test_the_empty_200_of_gateway_1_7_2(self) -> None:
        async with Gateway(dialect="modelgov", script=[empty()]) as gateway:
            got = await ask(gateway, chat(stream=True))
        assert (got.status, got.headers["content-length"], "content-type" in got.headers) == (200, "0", False)


class TestErrors:
    async def test_the_envelope(self) -> None:
        async with Gateway(
            dialect="modelgov", api_key="mg-1", script=[fail(503, code="database_unavailable")]
        ) as gateway:
            stranger = await ask(gateway)
            failed = await send(gateway, chat(), path=CHAT, authorization="Bearer mg-1", x_request_id="trace-7")
        assert (stranger.status, stranger.json) == (
            401,
            {
                "error": {
                    "code": "unauthorized",
                    "message": "Missing or invalid API key",
                    "details": {},
                    "requestId": "00000000-0000-4000-8000-000000000001",
                }
            },
        )
        assert failed.json["error"]["message"] == "Database unavailable"
        assert failed.json["error"]["requestId"] == "trace-7"

    async def test_a_failure_has_details_and_limits(self) -> None:
        script: list[Step] = [
            fail(503, code="database_unavailable", details={"retryable": True}),
            fail(429, retry_after=7),
            fail(499),
        ]
        async with Gateway(dialect="modelgov", script=script) as gateway:
            down, busy, odd = [await ask(gateway) for _ in range(3)]
        assert down.json["error"]["details"] == {"retryable": True}
        assert busy.json["error"]["code"] == "rate_limit_exceeded"
        assert (busy.headers["retry-after"], busy.headers["x-ratelimit-remaining"]) == ("7", "0")
        assert odd.json["error"]["message"] == "Status 499"

    @pytest.mark.parametrize(("method", "path"), [("GET", CHAT), ("POST", "/v1/nothing")])
    async def test_a_path_it_does_not_have(self, method: str, path: str) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            got = await send(gateway, method=method, path=path)
        message = f"Route {method}:{path} not found"
        assert (got.status, got.json) == (404, {"message": message, "error": "Not Found", "statusCode": 404})

    @pytest.mark.parametrize(
        ("status", "code"),
        [(None, "provider_unavailable"), (500, "provider_unavailable"), (429, "provider_unavailable"),
         (400, "upstream_rejected"), (401, "upstream_rejected")],
    )  # fmt: skip
    async def test_a_provider_that_refuses_is_told_from_one_that_fails(self, status: int | None, code: str) -> None:
        async with Gateway(dialect="modelgov", script=[provider_error(status)]) as gateway:
            got = await ask(gateway)
        assert (got.status, got.json["error"]["code"], got.headers["x-modelgov-request-id"]) == (502, code, "req_1")


class TestBlocks:
    @pytest.mark.parametrize(
        ("cause", "code", "details"),
        [
            ("policy", "policy_blocked", {"reasonCode": "data_sensitivity_not_permitted"}),
            ("budget", "policy_blocked", {"reasonCode": "daily_budget_exceeded"}),
            ("model_not_allowed", "policy_blocked", {"reasonCode": "model_class_not_permitted"}),
            ("pii", "safety_blocked", {"stage": "input", "reason": "pii_detected"}),
            ("security", "safety_blocked", {"stage": "input", "reason": "prompt_injection"}),
            ("safety", "safety_blocked", {"stage": "input"}),
            ("input", "safety_blocked", {"stage": "input"}),
            ("output", "safety_blocked", {"stage": "output", "reason": "output_pii_detected"}),
        ],
    )
    async def test_a_cause_is_told_by_code_and_details(self, cause: Any, code: str, details: dict[str, Any]) -> None:
        async with Gateway(dialect="modelgov", script=[block(cause)]) as gateway:
            got = await ask(gateway)
        asked = {"decision": "block", **IDENTITY, "budgetRemaining": BUDGET} if code == "policy_blocked" else {}
        assert (got.status, got.json["error"]["code"]) == (403, code)
        assert got.json["error"]["details"] == {"auditRequestId": "req_1", **asked, **details}
        assert got.headers["x-modelgov-request-id"] == "req_1"

    async def test_the_race_for_the_last_of_a_budget(self) -> None:
        race = block("budget", code="budget_exceeded", reason="gone", details={"scope": "user_daily"})
        async with Gateway(dialect="modelgov", script=[race]) as gateway:
            error = (await ask(gateway)).json["error"]
        details = error["details"]
        assert (error["code"], details["reasonCode"]) == ("budget_exceeded", "daily_budget_exceeded")
        assert (details["reason"], details["scope"], details["userId"]) == ("gone", "user_daily", "u-9")

    async def test_findings(self) -> None:
        async with Gateway(dialect="modelgov", script=[block("pii", findings=["EMAIL"], message="No.")]) as gateway:
            error = (await ask(gateway)).json["error"]
        assert (error["message"], error["details"]["findings"]) == ("No.", ["EMAIL"])

    async def test_embeddings_and_streams_are_blocked_before_they_begin(self) -> None:
        async with Gateway(dialect="modelgov", script=[block(), block()]) as gateway:
            embedding = await ask(gateway, {**IDENTITY, "input": "a"}, path="/v1/embeddings")
            streamed = await ask(gateway, chat(stream=True))
        assert (embedding.status, streamed.status) == (403, 403)
        assert streamed.headers["content-type"] == "application/json"


class TestIdempotency:
    async def test_a_replay_brings_ids_and_usage_and_no_text(self) -> None:
        async with Gateway(dialect="modelgov", script=[answer("text")]) as gateway:
            first, second = [await ask(gateway, key="k") for _ in range(2)]
            gateway.assert_executed_once("k")
        assert (first.headers[REPLAY], second.headers[REPLAY]) == ("false", "true")
        assert second.json == {**first.json, "message": {"role": "assistant", "content": ""}}
        assert second.headers["x-modelgov-request-id"] == "req_1"

    async def test_content_is_kept_when_told_so(self) -> None:
        async with Gateway(dialect="modelgov", keep_content=True) as gateway:
            first, second = [await ask(gateway, key="k") for _ in range(2)]
        assert (first.body, second.headers[REPLAY]) == (second.body, "true")

    async def test_vectors_and_documents_are_not_kept_either(self) -> None:
        embed = {**IDENTITY, "input": ["a", "b"]}
        extract = {**IDENTITY, "provider": "tesseract", "document": {"url": "https://x.example/a.pdf"}}
        async with Gateway(dialect="modelgov") as gateway:
            vectors = [await ask(gateway, embed, key="e", path="/v1/embeddings") for _ in range(2)]
            texts = [await ask(gateway, extract, key="d", path="/v1/documents/extract") for _ in range(2)]
        assert [len(one.json["embeddings"]) for one in vectors] == [2, 0]
        assert [one.json["text"] for one in texts] == ["The text of https://x.example/a.pdf.", ""]

    async def test_a_replay_of_that_kind_can_be_scripted(self) -> None:
        async with Gateway(dialect="modelgov", script=[replay_without_content(of=answer("one two"))]) as gateway:
            got = await ask(gateway)
        assert (got.headers[REPLAY], got.json["message"]["content"]) == ("true", "")
        assert got.json["usage"]["outputTokens"] == 2

    @pytest.mark.parametrize("key", ["k", "k" * 300])
    async def test_a_key_on_a_stream_is_refused(self, key: str) -> None:
        async with Gateway(dialect="modelgov", script=[answer("next")]) as gateway:
            got = await ask(gateway, chat(stream=True), key=key)
            assert gateway.steps_left == 1
        assert (got.status, got.json["error"]["code"]) == (400, "idempotency_not_supported")
        assert REPLAY not in got.headers

    @pytest.mark.parametrize(
        ("path", "body", "most"), [(CHAT, chat(), 255), ("/v1/embeddings", {**IDENTITY, "input": "a"}, 256)]
    )
    async def test_a_key_has_a_longest(self, path: str, body: Any, most: int) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            got = [await ask(gateway, body, key="k" * size, path=path) for size in (most, most + 1)]
        assert [one.status for one in got] == [200, 400]
        assert got[1].json["error"]["code"] == "invalid_request"

    async def test_a_key_belongs_to_a_user_and_a_body(self) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            await ask(gateway, key="k")
            other_user = await ask(gateway, chat(userId="u-10"), key="k")
            other_body = await ask(gateway, chat("Bye"), key="k")
        assert (other_user.status, other_user.headers[REPLAY]) == (200, "false")
        assert (other_body.status, other_body.json["error"]["code"]) == (422, "idempotency_key_reuse")
        assert other_body.headers[REPLAY] == "false"

    async def test_blocks_are_replayed_and_failures_run_again(self) -> None:
        async with Gateway(dialect="modelgov", script=[provider_error(), in_progress(), block("budget")]) as gateway:
            got = [await ask(gateway, key="k") for _ in range(4)]
        codes = [(one.status, one.json["error"]["code"], one.headers[REPLAY]) for one in got]
        assert codes == [
            (502, "provider_unavailable", "false"),
            (409, "idempotency_in_progress", "false"),
            (403, "policy_blocked", "false"),
            (403, "policy_blocked", "true"),
        ]

    async def test_explaining_takes_no_key(self) -> None:
        async with Gateway(dialect="modelgov") as gateway:
            got = await ask(gateway, IDENTITY, key="k", path="/v1/explain")
            assert gateway.executions == {"k": 0}
        assert REPLAY not in got.headers
