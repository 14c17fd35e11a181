"""What Monago Atrium says differently from OpenAI: its headers, its refusals, and what it does not offer."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock import ModelEngine, Retry, default_stack
from penstock.engine.errors import (
    Advice,
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    ContextWindowExceededError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ModelNotAllowedError,
    NotFoundError,
    PIIBlockedError,
    PolicyBlockedError,
    QuotaExceededError,
    RateLimitError,
    SafetyBlockedError,
    SecurityBlockedError,
    ServerError,
    StreamTruncatedError,
    UnsupportedParameterError,
)
from penstock.engine.gateways.atrium import AtriumGateway
from penstock.engine.types import Governance, LLMResponse
from penstock.engine.verdict import Answer
from penstock.testing import Gateway, Step, answer, block, cut, error_event, fail, reset, truncate
from tests.clocks import FakeClock
from tests.engine.streams import DONE, completion, head, run, sse, text, unary

GATEWAY = AtriumGateway()

FACTS = {
    "X-Monago-Audit-Id": "a-1",
    "X-Monago-Pii-Detected": "True",
    "X-Monago-Pii-Redacted": " NIK, ,EMAIL,",
    "X-Monago-Policy-Decision": "allowed",
    "X-Monago-Provider": "openai",
    "X-Monago-Latency-Ms": "412.3",
    "X-Monago-Cost-Idr": "1.5e3",
    "X-Monago-Security-Incident": "jailbreak",
    "X-Monago-Block-Reason": "",
}
RECORD = Governance(
    decision="allowed",
    audit_id="a-1",
    provider="openai",
    redactions=("NIK", "EMAIL"),
    pii_detected=True,
    incidents=("jailbreak",),
    cost=1500.0,
    currency="IDR",
    latency_ms=412.3,
)


def engine_at(gateway: Gateway, **options: Any) -> ModelEngine:
    return ModelEngine("gpt-5.4-mini", gateway=AtriumGateway(), base_url=gateway.url, clock=FakeClock(), **options)


def record(**headers: str) -> Governance | None:
    return GATEWAY.governance(
        CIMultiDict({f"X-Monago-{name.replace('_', '-')}": value for name, value in headers.items()})
    )


def test_the_headers_are_the_record() -> None:
    assert GATEWAY.governance(CIMultiDict(FACTS)) == RECORD


def test_without_headers_there_is_no_record() -> None:
    assert GATEWAY.governance(CIMultiDict({"X-Monago-Audit-Id": " ", "X-Request-Id": "1"})) is None


@pytest.mark.parametrize(
    ("word", "is_detected"),
    [("1", True), ("YES", True), ("y", True), ("t", True), ("true", True), ("false", False), ("maybe", False)],
)
def test_words_for_yes(word: str, is_detected: bool) -> None:
    assert record(pii_detected=word) == Governance(pii_detected=is_detected)


@pytest.mark.parametrize("number", ["NaN", "inf", "-Infinity", "1e999", "9" * 400, "1_000", "twelve", "1, 2", "٣", "."])
def test_what_is_not_a_finite_number_is_not_known(number: str) -> None:
    assert record(audit_id="a", cost_idr=number, latency_ms=number) == Governance(audit_id="a")


@pytest.mark.parametrize(("number", "value"), [("0", 0.0), ("12.", 12.0), (".5", 0.5), ("+1", 1.0), ("1E2", 100.0)])
def test_numbers(number: str, value: float) -> None:
    assert record(latency_ms=number) == Governance(latency_ms=value)


def test_bytes_that_are_no_text_can_be_printed() -> None:
    reason = record(block_reason=b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert reason == Governance(block_reason="caf?")


BLOCKED = {"Policy-Decision": "blocked"}


def because(reason: str) -> dict[str, str]:
    return {**BLOCKED, "Block-Reason": reason}


# (status, headers, error member, class, advice)
VERDICTS: list[tuple[int, dict[str, str], Any, type[ModelEngineError], Advice]] = [
    (401, {}, {"message": "m"}, AuthenticationError, "refresh_auth"),
    (401, BLOCKED, {"message": "m"}, AuthenticationError, "refresh_auth"),
    (403, {}, {"message": "m", "code": "forbidden"}, AuthenticationError, "never"),
    (403, {"Policy-Decision": "allowed"}, {"message": "m"}, AuthenticationError, "never"),
    (403, BLOCKED, {"message": "m"}, PolicyBlockedError, "never"),
    (403, {"Block-Reason": "rule r-1"}, {"message": "m"}, PolicyBlockedError, "never"),
    (403, because("PII found"), {"message": "m"}, PIIBlockedError, "never"),
    (403, {}, {"message": "m", "code": "model_not_allowed"}, ModelNotAllowedError, "never"),
    (400, {"Policy-Decision": "BLOCKED"}, {"message": "m"}, PolicyBlockedError, "never"),
    (400, {}, {"message": "m", "code": "PII_DETECTED"}, PIIBlockedError, "never"),
    (422, because("jailbreak"), None, SecurityBlockedError, "never"),
    (451, because("Model denied here"), "text", ModelNotAllowedError, "never"),
    (451, because("model x is not permitted"), {"code": "model_not_allowed"}, ModelNotAllowedError, "never"),
    (400, because("rule: pii-model-allow-list"), {"code": "policy_blocked"}, PolicyBlockedError, "never"),
    (400, because("model security-1 denied"), {"code": "model_not_allowed"}, ModelNotAllowedError, "never"),
    (400, {}, {"code": 42, "message": "m"}, InvalidRequestError, "never"),
    (400, BLOCKED, {"code": 42, "message": "m"}, PolicyBlockedError, "never"),
    (400, BLOCKED, {"code": "budget_exceeded"}, BudgetExceededError, "never"),
    (400, BLOCKED, {"code": "content_filter"}, SafetyBlockedError, "never"),
    (400, {}, {"message": "the policy, the model, pii: allowed"}, InvalidRequestError, "never"),
    (400, {}, {"code": "context_length_exceeded"}, ContextWindowExceededError, "never"),
    (422, {}, {"message": "Extra inputs are not permitted"}, UnsupportedParameterError, "never"),
    (402, {}, {"message": "no credit"}, QuotaExceededError, "never"),
    (404, {}, {"code": "model_not_found"}, NotFoundError, "never"),
    (409, {}, {"message": "conflict"}, ConflictError, "never"),
    (429, {}, {"message": "slow"}, RateLimitError, "after"),
    (429, BLOCKED, {"message": "slow"}, RateLimitError, "after"),
    (429, {}, {"code": "policy_blocked"}, PolicyBlockedError, "never"),
    (500, {}, {"message": "policy engine crashed", "code": "policy"}, ServerError, "after"),
    (500, BLOCKED, {"message": "m"}, PolicyBlockedError, "never"),
]


@pytest.mark.parametrize(("status", "facts", "error", "error_class", "advice"), VERDICTS)
def test_the_verdict(
    status: int, facts: dict[str, str], error: Any, error_class: type[ModelEngineError], advice: Advice
) -> None:
    headers = CIMultiDict({f"X-Monago-{name}": value for name, value in facts.items()})
    verdict = GATEWAY.judge(Answer(status, headers, orjson.dumps({"error": error}), 0.0))

    assert (type(verdict), verdict.advice, verdict.status) == (error_class, advice, status)
    assert verdict.governance == GATEWAY.governance(headers)


def test_a_block_is_final_whatever_a_header_says() -> None:
    headers = CIMultiDict({"X-Monago-Policy-Decision": "blocked", "x-should-retry": "true"})
    assert GATEWAY.judge(Answer(400, headers, b"", 0.0)).advice == "never"


def test_the_body_has_what_was_given_and_no_more() -> None:
    messages = [{"role": "user", "content": "hi", "name": None}, {"role": "user", "content": "ho", "name": "ana"}]
    request = GATEWAY.encode_chat("m", messages, {"temperature": None, "top_p": 0.5}, stream=True)
    assert request.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "ho", "name": "ana"}],
        "top_p": 0.5,
        "stream": True,
    }


def test_stream_options_are_sent_when_given() -> None:
    request = GATEWAY.encode_chat("m", [], {"stream_options": {"include_usage": True}}, stream=True)
    assert request.body is not None
    assert request.body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("operation", ["embeddings", "models", "health"])
async def test_what_it_does_not_offer_is_not_asked_for(operation: str) -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        calls: dict[str, Any] = {
            "embeddings": lambda: engine.embed("a"),
            "models": engine.models,
            "health": engine.health,
        }
        with pytest.raises(InvalidRequestError, match="gateway 'atrium' does not offer") as caught:
            await calls[operation]()
        assert caught.value.phase == "not_sent"
        assert gateway.requests == 0


async def test_an_answer_has_the_record() -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        facts: Any = {"audit_id": "a-9", "redactions": ["NIK"], "cost": 12.5, "decision": "redacted", "latency_ms": 3}
        gateway.script(answer("Hi", governance=facts))
        response = await engine.chat_completion("hi", extra_headers={"X-Tenant": "t"})
        assert response.content == "Hi"
        assert response.governance == Governance(
            decision="redacted",
            audit_id="a-9",
            provider="openai",
            redactions=("NIK",),
            pii_detected=True,
            cost=12.5,
            currency="IDR",
            latency_ms=3.0,
        )
        assert gateway.calls[0].headers["x-tenant"] == "t"


async def test_a_stream_has_the_record_of_its_head() -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        stream = engine.stream_call("hi")
        first = await stream.__anext__()
        assert first is not None
        assert stream.summary.governance is not None
        assert stream.summary.governance.audit_id == "audit-0001"
        response = await stream.response()
        assert response.governance == stream.summary.governance
        assert response.usage is None  # not asked for


BLOCKS: list[tuple[Any, type[ModelEngineError], str, int]] = [
    ("policy", PolicyBlockedError, "rule violation: r-42", 400),
    ("pii", PIIBlockedError, "PII detected: NIK", 400),
    ("security", SecurityBlockedError, "prompt injection detected", 422),
    ("model_not_allowed", ModelNotAllowedError, "model not allowed for workspace", 451),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("cause", "error_class", "reason", "status"), BLOCKS)
async def test_a_block_is_final(
    cause: Any, error_class: type[ModelEngineError], reason: str, status: int, stream: bool
) -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        gateway.script(block(cause))
        with pytest.raises(error_class) as caught:
            await (engine.stream_call("hi").response() if stream else engine.chat_completion("hi"))
        error = caught.value
        assert (type(error), error.status, gateway.requests) == (error_class, status, 1)
        assert error.governance is not None
        assert (error.governance.decision, error.governance.block_reason) == ("blocked", reason)
        assert error.governance.audit_id == "audit-0001"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", [fail(429, retry_after=2), fail(500), fail(502), fail(503)])
async def test_what_may_pass_is_sent_again(step: Step, stream: bool) -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        gateway.script(step)
        await (engine.stream_call("hi").response() if stream else engine.chat_completion("hi"))
        assert gateway.requests == 2


@pytest.mark.parametrize("step", [fail(400), fail(401), fail(402), fail(403), fail(404), fail(409), fail(422)])
async def test_the_rest_is_final(step: Step) -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        gateway.script(step)
        with pytest.raises(ModelEngineError):
            await engine.chat_completion("hi")
        assert gateway.requests == 1


async def test_a_lost_answer_was_billed_and_is_not_asked_for_again() -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        gateway.script(reset())
        with pytest.raises(ModelEngineError):
            await engine.chat_completion("hi")
        assert gateway.requests == 1


async def test_a_lost_answer_is_asked_for_again_where_that_is_allowed() -> None:
    stack = default_stack(retry=Retry(ambiguous="always"))
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway, middleware=stack) as engine:
        gateway.script(reset())
        await engine.chat_completion("hi")
        assert gateway.requests == 2


@pytest.mark.parametrize(
    ("step", "error_class"),
    [
        (block("pii", when="in_stream"), PIIBlockedError),
        (error_event(error={"message": "m", "code": "model_not_allowed"}), ModelNotAllowedError),
        (truncate(after_events=2), StreamTruncatedError),
        (cut(after_events=2), StreamTruncatedError),
    ],
)
async def test_a_stream_that_fails_has_its_text_and_the_record(step: Step, error_class: type[ModelEngineError]) -> None:
    async with Gateway(dialect="atrium") as gateway, engine_at(gateway) as engine:
        gateway.script(step)
        with pytest.raises(error_class) as caught:
            await engine.stream_call("hi").response()
        error = caught.value
        assert error.partial is not None
        assert error.partial.content
        assert error.governance is not None
        assert error.governance.audit_id == "audit-0001"


@pytest.mark.parametrize("body", [b"", b"<html>ok</html>", {"choices": None}, {"error": {"message": "m"}}, [1]])
def test_a_success_that_is_none_was_audited_all_the_same(body: Any) -> None:
    with pytest.raises(ModelEngineError) as caught:
        GATEWAY.decode_chat(unary(body, **FACTS))
    assert caught.value.governance == RECORD


def test_an_error_in_a_success_is_a_block_when_the_head_says_so() -> None:
    headers = {"X-Monago-Policy-Decision": "blocked", "X-Monago-Block-Reason": "PII detected: NIK"}
    with pytest.raises(PIIBlockedError):
        GATEWAY.decode_object(unary({"error": {"message": "m"}}, **headers))
    assert type(run(sse({"error": "m"}), GATEWAY.stream_decoder(head(**headers))).failure) is PIIBlockedError


def test_null_counts_are_no_counts() -> None:
    body = completion({"content": "4"}, usage={"prompt_tokens": None, "completion_tokens": None, "total_tokens": None})
    assert GATEWAY.decode_chat(unary(body)).usage is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
VALUES = st.text(max_size=20) | st.sampled_from(
    ["NaN", "inf", "-inf", "1e999", "true", "blocked", "a," * 9000, "9" * 9000]
)
HEADERS = st.dictionaries(st.sampled_from(sorted(FACTS)), VALUES)
MEMBERS = st.dictionaries(st.sampled_from(["message", "code", "type", "error", "choices", "usage", "id"]), JSON)


@given(HEADERS)
def test_any_header_gives_a_clean_record(headers: dict[str, str]) -> None:
    governance = GATEWAY.governance(CIMultiDict(headers)) or Governance()
    for number in (governance.cost, governance.latency_ms):
        assert number is None or abs(number) < float("inf")
    assert orjson.dumps(governance)


@given(st.integers(300, 599), HEADERS, MEMBERS | JSON | st.fixed_dictionaries({"error": MEMBERS | JSON}))
def test_any_error_answer_has_a_verdict(status: int, headers: dict[str, str], body: Any) -> None:
    error = GATEWAY.judge(Answer(status, CIMultiDict(headers), orjson.dumps(body), 0.0))
    assert isinstance(error, ModelEngineError)
    assert (error.status, error.phase) == (status, "rejected")
    assert str(error)


@given(HEADERS, MEMBERS | JSON)
def test_any_success_is_read_or_refused(headers: dict[str, str], body: Any) -> None:
    with contextlib.suppress(ModelEngineError):
        assert isinstance(GATEWAY.decode_chat(unary(body, **headers)), LLMResponse)
    with contextlib.suppress(ModelEngineError):
        assert isinstance(GATEWAY.decode_object(unary(body, **headers)), dict)


@given(HEADERS, st.lists(MEMBERS | JSON | st.just(text("4")), max_size=4), st.booleans())
def test_any_stream_is_read_or_refused(headers: dict[str, str], events: list[Any], is_ended: bool) -> None:
    result = run(sse(*events, *([DONE] if is_ended else [])), GATEWAY.stream_decoder(head(**headers)))
    assert result.finished or result.failure is None or isinstance(result.failure, ModelEngineError)


def test_the_error_of_a_malformed_answer_keeps_a_part_of_it() -> None:
    with pytest.raises(MalformedResponseError) as caught:
        GATEWAY.decode_chat(unary(b"<html>" + b"x" * 10_000_000))
    assert len(caught.value.body) == 1000
