"""Modelgov: requests as they go out, answers and streams as they come in, and calls against the testing gateway."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock import ModelEngine
from penstock.engine.errors import (
    AuthenticationError,
    BudgetExceededError,
    EmptyResponseError,
    IdempotencyInProgressError,
    IdempotencyKeyReuseError,
    IdempotencyNotSupportedError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ModelNotAllowedError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PIIBlockedError,
    PolicyBlockedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ReplayedWithoutContentError,
    SafetyBlockedError,
    SecurityBlockedError,
    ServerError,
    StreamTruncatedError,
)
from penstock.engine.gateways.modelgov import ModelgovGateway, ModelgovOperations
from penstock.engine.types import Governance, Health, LLMResponseChunk, ModelInfo, UsageInfo
from penstock.engine.verdict import Answer
from penstock.testing import (
    Gateway,
    answer,
    block,
    cut,
    empty,
    error_event,
    fail,
    garbage_frame,
    html,
    in_progress,
    no_done,
    provider_error,
    replay_without_content,
    reset,
    truncate,
)
from tests.clocks import FakeClock

DIALECT = ModelgovGateway()
API_KEY = "mg-test-0123456789abcdef"
ASKER: dict[str, Any] = {"user_id": "u-9", "user_type": "free", "feature": "support_chat"}
ASKED = {"userId": "u-9", "userType": "free", "feature": "support_chat"}
MESSAGES = [{"role": "user", "content": "How do I cancel?"}]


class Modelgov(ModelgovOperations, ModelEngine):  # type: ignore[misc]  # embed() asks for the identity
    pass


@pytest.fixture
async def server() -> AsyncIterator[Gateway]:
    async with Gateway(dialect="modelgov", api_key=API_KEY) as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def engine(server: Gateway, clock: FakeClock) -> AsyncIterator[Modelgov]:
    async with Modelgov(None, gateway=DIALECT, base_url=server.url, api_key=API_KEY, clock=clock) as running:
        yield running


def whole(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), raw, 0.0)


def refusal(status: int, code: str, **details: Any) -> Answer:
    return whole({"error": {"code": code, "message": "No", "details": details, "requestId": "trace-1"}}, status)


def decoded(*reads: bytes, **headers: str) -> tuple[list[LLMResponseChunk], Any]:
    """Chunks and decoder of a body that has ended."""
    decoder = DIALECT.stream_decoder(whole(b"", 200, **headers))
    chunks = [chunk for read in reads for chunk in decoder.feed(read)]
    chunks += decoder.close()
    return chunks, decoder


def text_of(chunks: list[LLMResponseChunk]) -> str:
    return "".join(chunk.delta_content or "" for chunk in chunks)


ANSWER = {
    "message": {"role": "assistant", "content": "Open Billing."},
    "model": "openai/gpt-4o-mini",
    "provider": "openai",
    "decision": "degrade",
    "reason": "cheaper class used",
    "usage": {"inputTokens": 14, "outputTokens": 4},
    "cost": {"estimatedUsd": 0.0002, "actualUsd": 0.00011},
    "budgetRemaining": {"userDailyUsd": 0.9, "featureMonthlyUsd": None},
    "safety": {"piiMasked": True, "injectionBlocked": False},
    "requestId": "req_501",
}
VECTORS = {"embeddings": [[0.5, 1], [2.0, -1.0]], "model": "openai/small", "usage": {"inputTokens": 4}}
STREAM = (
    b'data: {"delta":"Open "}\n\ndata: {"delta":"Billing."}\n\n'
    b'data: {"done":true,"model":"openai/gpt-4o-mini","usage":{"inputTokens":14,"outputTokens":4},'
    b'"requestId":"req_502"}\n\ndata: [DONE]\n\n'
)
DONE_FRAME = {
    "done": True,
    "model": "openai/gpt-4o-mini",
    "usage": {"inputTokens": 14, "outputTokens": 4},
    "requestId": "req_502",
}


def test_names_become_camel_case_at_the_top_level_alone() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}]
    messages = [{"role": "user", "content": parts}]
    params = {**ASKER, "budget_node_id": "n", "metadata": {"trace_id": "t"}, "response_format": {"json_schema": 1}}

    request = DIALECT.encode_chat(None, messages, params, stream=False)

    assert request.body == {
        **ASKED,
        "budgetNodeId": "n",
        "metadata": {"trace_id": "t"},
        "responseFormat": {"json_schema": 1},
        "messages": messages,
    }


def test_none_is_left_out_and_what_is_merely_empty_is_sent() -> None:
    params = {**ASKER, "temperature": 0.0, "environment": "", "context": [], "metadata": {}, "project_id": None}

    request = DIALECT.encode_chat(None, MESSAGES, params, stream=True)

    sent = {"temperature": 0.0, "environment": "", "context": [], "metadata": {}, "stream": True}
    assert request.body == {**ASKED, **sent, "messages": MESSAGES}


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        (None, {}, None),
        (None, {"model_class": "cheap", "requested_model_class": "premium"}, "cheap"),
        (None, {"model_class": "", "requested_model_class": "premium"}, "premium"),
        ("standard", {}, "standard"),
        ("standard", {"requested_model_class": "premium"}, "premium"),
        ("standard", {"modelClass": "cheap"}, "cheap"),
    ],
)
def test_the_class_of_models(model: str | None, params: dict[str, Any], expected: str | None) -> None:
    body = DIALECT.encode_embeddings(model, "text", {**ASKER, **params}).body or {}
    assert body == {**ASKED, "input": "text", **({"modelClass": expected} if expected else {})}


@pytest.mark.parametrize("name", ["user_id", "user_type", "feature"])
@pytest.mark.parametrize("value", [None, "", 7])
async def test_who_asks_and_for_what_is_checked_before_sending(
    server: Gateway, engine: Modelgov, name: str, value: Any
) -> None:
    asker = {**ASKER, name: value}
    document: Any = {"url": "https://files.example/a.pdf"}
    calls: list[Callable[[], Any]] = [
        lambda: engine.chat(MESSAGES, **asker),
        lambda: engine.chat_completion(MESSAGES, **asker),
        lambda: engine.chat_stream(MESSAGES, **asker).response(),
        lambda: engine.embed("text", **asker),
        lambda: engine.explain(**asker),
        lambda: engine.extract_document(provider="tesseract", document=document, **asker),
    ]
    for call in calls:
        with pytest.raises(InvalidRequestError, match=f"{name} has to be given") as caught:
            await call()
        assert (caught.value.param, caught.value.phase) == (name, "not_sent")
    assert server.calls == []


@pytest.mark.parametrize("request_id", ["a" * 129, "two words", "line\nbreak", "é", 7])
def test_a_request_id_that_cannot_be_sent(request_id: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        DIALECT.encode_explain({**ASKER, "request_id": request_id})
    assert caught.value.param == "request_id"


@pytest.mark.parametrize(("request_id", "headers"), [("txn-7", {"x-request-id": "txn-7"}), ("", {}), (None, {})])
def test_a_request_id_is_a_header(request_id: str | None, headers: dict[str, str]) -> None:
    request = DIALECT.encode_explain({**ASKER, "request_id": request_id})
    assert (request.headers, request.body) == (headers, ASKED)


def test_stream_is_what_the_method_says() -> None:
    for stream in (True, False):
        assert DIALECT.encode_chat(None, MESSAGES, {**ASKER, "stream": stream}, stream=stream)
        with pytest.raises(InvalidRequestError, match=f"stream is always {stream}") as caught:
            DIALECT.encode_chat(None, MESSAGES, {**ASKER, "stream": not stream}, stream=stream)
        assert caught.value.param == "stream"


def test_an_answer_and_its_record() -> None:
    response = DIALECT.decode_chat(whole(ANSWER, x_idempotent_replay="false", x_modelgov_request_id="req_501"))

    assert (response.content, response.model, response.request_id) == ("Open Billing.", ANSWER["model"], "req_501")
    assert response.usage == UsageInfo(14, 4, 18)
    assert response.governance == Governance(
        decision="degrade",
        audit_id="req_501",
        provider="openai",
        model="openai/gpt-4o-mini",
        pii_detected=True,
        cost=0.00011,
        currency="USD",
        budget_remaining={"userDailyUsd": 0.9, "featureMonthlyUsd": None},
        replayed=False,
        extra={"reason": "cheaper class used", "safety": ANSWER["safety"], "estimatedUsd": 0.0002},
    )


def test_members_of_the_record_that_are_not_what_they_should_be_are_left_out() -> None:
    odd = {"decision": 1, "requestId": None, "cost": {"actualUsd": "1"}, "budgetRemaining": [1], "safety": 3}
    response = DIALECT.decode_chat(whole({**odd, "message": {"content": "Hi"}, "usage": {"inputTokens": None}}))

    assert (response.content, response.usage, response.request_id) == ("Hi", None, None)
    assert response.governance == Governance(extra={"safety": 3})


def test_an_answer_without_a_record() -> None:
    assert DIALECT.decode_chat(whole({"message": {"content": ""}})).governance is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"message": None},
        {"message": "Hi"},
        {"message": {"content": None}},
        {"message": {"content": ["Hi"]}},
        {"message": {"content": "Hi"}, "model": 7},
        b'{"message": {"cont',
        b"<html><title>Sign in</title></html>",
    ],
)
def test_a_success_that_is_no_answer(body: Any) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        DIALECT.decode_chat(whole(body))
    assert isinstance(caught.value.body, str)


@pytest.mark.parametrize("body", [{}, {"embeddings": 1}, {"embeddings": [1]}, {"embeddings": [["a"]]}])
def test_a_success_that_has_no_vectors(body: Any) -> None:
    with pytest.raises(MalformedResponseError):
        DIALECT.decode_embeddings(whole(body))


def test_vectors() -> None:
    response = DIALECT.decode_embeddings(whole(VECTORS))
    assert response.embeddings == ([0.5, 1.0], [2.0, -1.0])
    assert response.usage == UsageInfo(4, 0, 4)


@pytest.mark.parametrize(
    "body",
    [
        {**ANSWER, "message": {"role": "assistant", "content": ""}},
        {**VECTORS, "embeddings": []},
        {"text": "", "pages": 1, "usage": {"inputTokens": 14, "outputTokens": 4}},
    ],
)
def test_a_replay_without_its_content_is_an_error(body: dict[str, Any]) -> None:
    replay = whole(body, x_idempotent_replay="true", x_modelgov_request_id="req_501")
    for decode in (DIALECT.decode_object, DIALECT.decode_chat, DIALECT.decode_embeddings):
        with pytest.raises(ReplayedWithoutContentError) as caught:
            decode(replay)
        governance = caught.value.governance
        assert governance is not None
        assert (governance.replayed, governance.audit_id) == (True, "req_501")
        assert governance.extra["usage"] == body["usage"]
        assert caught.value.body == body


def test_a_replay_that_has_its_content_is_an_answer() -> None:
    response = DIALECT.decode_chat(whole(ANSWER, x_idempotent_replay="true"))
    assert response.content == "Open Billing."
    assert response.governance is not None
    assert response.governance.replayed is True


VERDICTS: list[tuple[Answer, type[ModelEngineError], str]] = [
    (refusal(403, "policy_blocked", reasonCode="daily_budget_exceeded"), BudgetExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="feature_monthly_budget_exceeded"), BudgetExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="global_daily_budget_exceeded"), BudgetExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="daily_request_limit_reached"), BudgetExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="daily_token_limit_reached"), BudgetExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="insufficient_credits"), QuotaExceededError, "never"),
    (refusal(403, "policy_blocked", reasonCode="model_class_not_permitted"), ModelNotAllowedError, "never"),
    (refusal(403, "policy_blocked", reasonCode="data_sensitivity_not_permitted"), PolicyBlockedError, "never"),
    (refusal(403, "policy_blocked", reasonCode=["odd"]), PolicyBlockedError, "never"),
    (refusal(403, "policy_blocked"), PolicyBlockedError, "never"),
    (refusal(403, "budget_exceeded"), BudgetExceededError, "never"),
    (refusal(403, "safety_blocked", reason="pii_detected"), PIIBlockedError, "never"),
    (refusal(403, "safety_blocked", reason="output_pii_detected"), PIIBlockedError, "never"),
    (refusal(403, "safety_blocked", reason="prompt_injection"), SecurityBlockedError, "never"),
    (refusal(403, "safety_blocked", reason={"odd": 1}), SafetyBlockedError, "never"),
    (refusal(403, "user_type_forbidden"), PermissionDeniedError, "never"),
    (refusal(403, "project_mismatch"), PermissionDeniedError, "never"),
    (refusal(403, "something_new"), PermissionDeniedError, "never"),
    (refusal(400, "grounding_required"), InvalidRequestError, "never"),
    (refusal(400, "provider_unavailable"), InvalidRequestError, "never"),
    (refusal(400, "idempotency_not_supported"), IdempotencyNotSupportedError, "never"),
    (refusal(401, "unauthorized"), AuthenticationError, "refresh_auth"),
    (refusal(402, "insufficient_credits"), QuotaExceededError, "never"),
    (refusal(409, "idempotency_in_progress"), IdempotencyInProgressError, "wait_in_progress"),
    (refusal(422, "idempotency_key_reuse"), IdempotencyKeyReuseError, "never"),
    (refusal(429, "rate_limit_exceeded"), RateLimitError, "after"),
    (refusal(500, "internal_error"), ServerError, "keyed"),
    (refusal(501, "not_implemented"), ServerError, "never"),
    (refusal(502, "provider_unavailable"), ProviderError, "after"),
    (refusal(502, "upstream_rejected"), ProviderError, "never"),
    (refusal(503, "safety_unavailable"), OverloadedError, "keyed"),
    (refusal(503, "budget_unavailable"), OverloadedError, "keyed"),
    (refusal(503, "audit_unavailable"), OverloadedError, "keyed"),
    (refusal(503, "database_unavailable", retryable=True), OverloadedError, "after"),
    (refusal(503, "database_unavailable", retryable=False), OverloadedError, "never"),
    (refusal(503, "database_unavailable"), OverloadedError, "never"),
    (refusal(503, "ai_requests_paused"), OverloadedError, "never"),
    (
        whole({"message": "Route POST:/v1/x not found", "error": "Not Found", "statusCode": 404}, 404),
        NotFoundError,
        "never",
    ),
    (whole({"error": "policy"}, 403), PermissionDeniedError, "never"),
    (whole({"error": {"code": 7, "details": "none"}}, 502), ProviderError, "after"),
    (whole(b"<html><title>Bad Gateway</title></html>", 502), ProviderError, "after"),
]


@pytest.mark.parametrize(("given_answer", "error_class", "advice"), VERDICTS)
def test_verdicts(given_answer: Answer, error_class: type[ModelEngineError], advice: str) -> None:
    error = DIALECT.judge(given_answer)
    assert (type(error), error.advice) == (error_class, advice)


def test_what_an_error_says_about_the_decision() -> None:
    details = {
        "decision": "block",
        "feature": "support_chat",
        "reasonCode": "daily_budget_exceeded",
        "reason": "used up",
        "budgetRemaining": {"userDailyUsd": 0.0, "odd": "x"},
        "auditRequestId": "req_44",
    }
    error = DIALECT.judge(refusal(403, "policy_blocked", **details))

    assert (error.code, error.message, error.request_id) == ("policy_blocked", "No", "trace-1")
    assert error.governance == Governance(
        decision="block",
        audit_id="req_44",
        request_id="trace-1",
        block_reason="daily_budget_exceeded",
        budget_remaining={"userDailyUsd": 0.0},
        extra={"feature": "support_chat", "reasonCode": "daily_budget_exceeded", "reason": "used up"},
    )


def test_an_error_with_its_audit_id_in_a_header_alone() -> None:
    headers = CIMultiDict({"X-Modelgov-Request-Id": "req_7"})
    error = DIALECT.judge(Answer(502, headers, b'{"error": {"code": "provider_unavailable"}}', 0.0))
    assert error.governance == Governance(audit_id="req_7")


def test_an_error_in_a_success() -> None:
    with pytest.raises(ProviderError) as caught:
        DIALECT.decode_chat(whole({"error": {"code": "upstream_rejected", "message": "No", "requestId": "trace-1"}}))
    assert (caught.value.status, caught.value.advice, caught.value.request_id) == (502, "never", "trace-1")


def test_a_stream() -> None:
    chunks, decoder = decoded(STREAM, content_type="text/event-stream")

    assert (text_of(chunks), decoder.finished, decoder.failure) == ("Open Billing.", True, None)
    assert chunks[-1].extra == {"done": DONE_FRAME}
    assert chunks[-1].usage == UsageInfo(14, 4, 18)
    assert (chunks[-1].model, chunks[-1].request_id) == ("openai/gpt-4o-mini", "req_502")
    assert decoder.governance == Governance(audit_id="req_502", model="openai/gpt-4o-mini")
    assert (decoder.usage, decoder.feed(STREAM)) == (UsageInfo(14, 4, 18), [])


@given(st.lists(st.integers(0, len(STREAM)), max_size=6).map(sorted))
def test_a_stream_does_not_depend_on_the_cuts(cuts: list[int]) -> None:
    borders = [0, *cuts, len(STREAM)]
    chunks, decoder = decoded(*(STREAM[begin:end] for begin, end in zip(borders, borders[1:])))
    assert (chunks, decoder.failure) == (decoded(STREAM)[0], None)


def test_a_stream_that_ends_after_its_done_frame_is_complete() -> None:
    for end in (b"\n\ndata: [DONE]\n\n", b"[DONE]\n\n", b"\n\n"):
        assert decoded(STREAM.removesuffix(end))[1].failure is None


def test_a_done_frame_without_any_text_is_an_empty_answer() -> None:
    chunks, decoder = decoded(b'data: {"done":true,"model":null,"usage":null,"requestId":7}\n\ndata: [DONE]\n\n')
    assert (text_of(chunks), decoder.finished, decoder.failure) == ("", True, None)


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        (b"", EmptyResponseError),
        (b": ping\n\n", EmptyResponseError),
        (b"data: [DONE]\n\n", EmptyResponseError),
        (b"data: [DONE]", EmptyResponseError),
        (b'data: {"delta":""}\n\ndata: [DONE]\n\n', EmptyResponseError),
        (b'data: {"delta":"a"}\n\n', StreamTruncatedError),
        (b'data: {"delta":"a"}\n\ndata: {"del', StreamTruncatedError),
        (b'data: {"delta":"a"}\n\ndata: {"delta":"b"}', StreamTruncatedError),
        (b"data: plain\n\n", StreamTruncatedError),
        (b'data: {"delta":"a\n\n', MalformedResponseError),
        (b'data: {"delta":1}\n\n', MalformedResponseError),
        (b'data: {"choices":[1]}\n\n', MalformedResponseError),
        (b'data: {"choices":{}}\n\n', MalformedResponseError),
        (b'{"message":{"content":"Hi"}}', MalformedResponseError),
        (b"<html>", MalformedResponseError),
        (b'{"error":{"code":"safety_blocked"}}', SafetyBlockedError),
        (b'data: {"error":{"code":"provider_unavailable","message":"No"}}\n\n', ProviderError),
        (b'event: error\ndata: {"code":"upstream_rejected","message":"No"}\n\n', ProviderError),
        (b'event: error\ndata: {"code":"safety_blocked","details":{"reason":"pii_detected"}}', PIIBlockedError),
        (b"event: error\ndata: gone\n\n", ServerError),
        (b"event: error\ndata:\n\n", ServerError),
    ],
)
def test_a_stream_that_fails(body: bytes, error_class: type[ModelEngineError]) -> None:
    assert type(decoded(body)[1].failure) is error_class


def test_an_error_event_without_a_code() -> None:
    _, decoder = decoded(b'data: {"delta":"a"}\n\nevent: error\ndata: {"oops":true}\n\n', x_modelgov_request_id="req_9")
    error = decoder.failure
    assert (error.code, error.status, error.governance) == ("stream_error", 502, Governance(audit_id="req_9"))


def test_a_page_in_place_of_a_stream() -> None:
    _, decoder = decoded(b"<html><title>Sign in</title></html>", content_type="text/html")
    assert type(decoder.failure) is MalformedResponseError


def test_frames_that_are_not_known_are_kept() -> None:
    chunks, decoder = decoded(b'data: {"delta":"a","seq":1}\n\ndata: {"ping":true}\n\ndata: 7\n\ndata: [DONE]\n\n')
    assert chunks == [
        LLMResponseChunk(delta_content="a", extra={"seq": 1}),
        LLMResponseChunk(extra={"ping": True}),
        LLMResponseChunk(delta_content="7"),
    ]
    assert decoder.failure is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ERROR = {"error": {"code": "policy_blocked", "message": "No", "details": {"reasonCode": "x", "reason": "y"}}}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, member in members for found in paths_of(member, (*path, name)))]


@st.composite
def mutated(draw: st.DrawFn, body: dict[str, Any]) -> Any:
    """The body with one of its values replaced."""
    path = draw(st.sampled_from(paths_of(body)))
    value = draw(JSON_VALUES)
    if not path:
        return value
    changed = copy.deepcopy(body)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@given(
    st.one_of(*(mutated(body) for body in (ANSWER, VECTORS, ERROR, {"models": [{"model": "a", "provider": "b"}]}))),
    st.sampled_from(["true", "false", "odd"]),
)
def test_mutated_answers_give_an_answer_or_an_error_of_ours(body: Any, replayed: str) -> None:
    for decode in (DIALECT.decode_chat, DIALECT.decode_embeddings, DIALECT.decode_models, DIALECT.decode_object):
        with contextlib.suppress(ModelEngineError):
            decode(whole(body, x_idempotent_replay=replayed))
    for status in (400, 403, 503):
        error = DIALECT.judge(whole(body, status))
        assert str(error)


FRAMES = (
    {"delta": "a"},
    DONE_FRAME,
    {"code": "provider_unavailable", "message": "No"},
    {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
    ERROR,
)
EVENTS = st.one_of(*(mutated(frame) for frame in FRAMES)).map(orjson.dumps) | st.binary(max_size=20)


@given(st.lists(st.tuples(st.sampled_from([b"", b"event: error\n"]), EVENTS), max_size=4), st.booleans())
def test_mutated_streams_give_chunks_or_an_error_of_ours(events: list[tuple[bytes, bytes]], is_ended: bool) -> None:
    body = b"".join(name + b"data: " + data + b"\n\n" for name, data in events)
    _, decoder = decoded(body + b"data: [DONE]\n\n" * is_ended)
    assert decoder.finished or decoder.failure is None or isinstance(decoder.failure, ModelEngineError)


async def test_a_chat(server: Gateway, engine: Modelgov) -> None:
    server.script(answer("Open Billing.", governance={"cost": 0.5, "audit_id": "req_77"}))

    response = await engine.chat("How do I cancel?", **ASKER, temperature=0.0, request_id="txn-7", metadata={"a": 1})

    assert (response.content, response.request_id) == ("Open Billing.", "req_77")
    assert response.governance is not None
    assert (response.governance.cost, response.governance.replayed) == (0.5, False)
    (call,) = server.calls
    assert call.body == {**ASKED, "messages": MESSAGES, "temperature": 0.0, "metadata": {"a": 1}}
    assert call.headers["x-request-id"] == "txn-7"
    assert call.idempotency_key == response.idempotency_key


async def test_the_calls_of_every_engine(server: Gateway, clock: FakeClock) -> None:
    server.script(answer("Hi"), answer("Hi"), answer("Hi"))
    async with ModelEngine("cheap", gateway=DIALECT, base_url=server.url, api_key=API_KEY, params=ASKER) as engine:
        assert (await engine.chat_completion(MESSAGES)).content == "Hi"
        assert (await engine.stream_call(MESSAGES).response()).content == "Hi"
        assert (await engine.call(MESSAGES))["message"]["content"] == "Hi"
        assert len((await engine.embed(["a", "b"], **ASKER)).embeddings) == 2
        assert await engine.models() == (ModelInfo("tiny-mock", owned_by="openai", extra={"healthy": True}),)
        assert (await engine.health()).ready
    assert {call.body["modelClass"] for call in server.calls[:4]} == {"cheap"}


async def test_a_streamed_chat(server: Gateway, engine: Modelgov) -> None:
    server.script(answer("Open Billing.", governance={"audit_id": "req_77"}))

    stream = engine.chat_stream(MESSAGES, **ASKER)
    response = await stream.response()

    assert response.content == "Open Billing."
    done = (response.provider_metadata or {})["done"]
    assert (done["requestId"], response.request_id, response.usage) == (
        "req_77",
        "req_77",
        UsageInfo(done["usage"]["inputTokens"], done["usage"]["outputTokens"], sum(done["usage"].values())),
    )
    assert stream.summary.verdict == "complete"
    assert server.keys == []


async def test_the_record_of_a_stream_is_that_of_its_done_frame(server: Gateway, engine: Modelgov) -> None:
    server.script(answer("Open Billing.", chunking="whole"))

    stream = engine.chat_stream(MESSAGES, **ASKER)
    response = await stream.response()

    assert response.governance == Governance(audit_id="req_1", model="openai/tiny-mock")
    assert stream.summary.governance == response.governance


async def test_a_key_for_a_stream_is_refused_before_anything_is_sent(server: Gateway, engine: Modelgov) -> None:
    with pytest.raises(IdempotencyNotSupportedError, match="refuses an idempotency key on a chat stream"):
        await engine.chat_stream(MESSAGES, **ASKER, idempotency_key="k-1").response()
    assert server.calls == []


async def test_everything_else_that_can_be_asked(server: Gateway, engine: Modelgov) -> None:
    embedded = await engine.embed(["a", "b"], **ASKER, dimensions=3, idempotency_key="k-1")
    assert [len(vector) for vector in embedded.embeddings] == [3, 3]
    document = await engine.extract_document(
        **ASKER, provider="tesseract", document={"base64": "aGVsbG8="}, model="layout", pages=2
    )
    assert (document["text"], document["pages"], document.get("model")) == ("hello", 2, "layout")
    assert (await engine.explain(**ASKER, model_class="cheap"))["wouldCallModel"] is True
    assert (await engine.get_usage(user_id="u-9", feature="f", project_id="p")).get("projectId") == "p"
    assert (await engine.get_usage_summary(feature="f", user_type="free", since="7d")).get("feature") == "f"
    assert (await engine.get_usage_transactions(since="7d", limit=7))["limit"] == 7
    assert (await engine.get_provider_health())["status"] == "ok"
    assert (await engine.health()).ready
    assert (await engine.ready()).ready
    paths = [(call.method, call.path, "authorization" in call.headers) for call in server.calls]
    assert paths[-2:] == [("GET", "/health", False), ("GET", "/ready", False)]
    assert server.keys[0] == "k-1"


async def test_a_gateway_that_is_not_ready(server: Gateway, clock: FakeClock) -> None:
    async with Modelgov(None, gateway=DIALECT, base_url=f"{server.url}/elsewhere", clock=clock) as engine:
        health = await engine.ready()
    assert isinstance(health, Health)
    assert (health.ready, health.status) == (False, 404)


async def test_vectors_that_are_too_few(server: Gateway, engine: Modelgov) -> None:
    server.script(fail(200, body={"embeddings": [[1.0]]}))
    with pytest.raises(MalformedResponseError, match="1 vectors came for 2 inputs"):
        await engine.embed(["a", "b"], **ASKER)
    with pytest.raises(InvalidRequestError, match="nothing to embed"):
        await engine.embed([], **ASKER)


@pytest.mark.parametrize(
    ("step", "error_class"),
    [
        (block("policy"), PolicyBlockedError),
        (block("budget"), BudgetExceededError),
        (block("model_not_allowed"), ModelNotAllowedError),
        (block("pii"), PIIBlockedError),
        (block("security"), SecurityBlockedError),
        (block("safety"), SafetyBlockedError),
        (block("output"), PIIBlockedError),
        (provider_error(400), ProviderError),
        (html(), MalformedResponseError),
    ],
)
async def test_final_failures(
    server: Gateway, engine: Modelgov, step: Any, error_class: type[ModelEngineError]
) -> None:
    for ask in (engine.chat(MESSAGES, **ASKER), engine.chat_stream(MESSAGES, **ASKER).response()):
        server.reset()
        server.script(step)
        with pytest.raises(ModelEngineError) as caught:
            await ask
        assert type(caught.value) is error_class
        assert server.requests == 1
        if caught.value.code in ("policy_blocked", "safety_blocked"):
            assert caught.value.governance is not None
            assert caught.value.governance.audit_id == "req_1"


async def test_passing_failures_are_asked_again_with_the_same_key(server: Gateway, engine: Modelgov) -> None:
    server.script(provider_error(None), fail(500), answer("Hi"))
    assert (await engine.chat(MESSAGES, **ASKER)).content == "Hi"
    assert (server.requests, len(server.keys)) == (3, 1)


async def test_a_request_that_is_still_running_is_asked_for_again(
    server: Gateway, engine: Modelgov, clock: FakeClock
) -> None:
    server.script(in_progress(times=2), answer("Hi"))
    assert (await engine.chat(MESSAGES, **ASKER, idempotency_key="k-1")).content == "Hi"
    assert (server.requests, server.keys, len(clock.sleeps)) == (3, ["k-1"], 2)


async def test_a_lost_answer_whose_replay_has_no_text(server: Gateway, engine: Modelgov) -> None:
    server.script(reset("before_headers", executed=True))
    with pytest.raises(ReplayedWithoutContentError) as caught:
        await engine.chat(MESSAGES, **ASKER, idempotency_key="k-1")
    assert caught.value.governance is not None
    assert caught.value.governance.replayed is True
    assert (server.requests, server.executions) == (2, {"k-1": 1})


async def test_a_lost_answer_whose_replay_has_its_text() -> None:
    steps = [reset("before_headers", executed=True, of=answer("Hi"))]
    async with (
        Gateway(dialect="modelgov", keep_content=True, script=steps) as server,
        Modelgov(None, gateway=DIALECT, base_url=server.url, clock=FakeClock()) as engine,
    ):
        response = await engine.chat(MESSAGES, **ASKER)
    assert response.content == "Hi"
    assert response.governance is not None
    assert response.governance.replayed is True


@pytest.mark.parametrize("operation", ["chat", "embed", "extract_document"])
async def test_a_replay_without_content(server: Gateway, engine: Modelgov, operation: str) -> None:
    server.script(replay_without_content())
    asks: dict[str, Callable[[], Any]] = {
        "chat": lambda: engine.chat(MESSAGES, **ASKER),
        "embed": lambda: engine.embed("a", **ASKER),
        "extract_document": lambda: engine.extract_document(**ASKER, provider="t", document={"url": "https://a.b/c"}),
    }
    with pytest.raises(ReplayedWithoutContentError):
        await asks[operation]()
    assert server.requests == 1


async def test_another_request_under_the_same_key(server: Gateway, engine: Modelgov) -> None:
    await engine.chat("One", **ASKER, idempotency_key="k-1")
    with pytest.raises(IdempotencyKeyReuseError):
        await engine.chat("Two", **ASKER, idempotency_key="k-1")
    assert server.requests == 2


@pytest.mark.parametrize(
    ("step", "error_class", "partial"),
    [
        (error_event(after_events=1, of=answer("One two.")), ServerError, "One"),
        (provider_error(None, when="in_stream", after_events=1, of=answer("One two.")), ProviderError, "One"),
        (block("pii", when="in_stream", after_events=1, of=answer("One two.")), SafetyBlockedError, "One"),
        (truncate(after_events=1, of=answer("One two.")), StreamTruncatedError, "One"),
        (cut(after_events=1, of=answer("One two.")), StreamTruncatedError, "One"),
        (garbage_frame(after_events=1, data='{"delta":"tw', of=answer("One two.")), MalformedResponseError, "One"),
        (empty(), EmptyResponseError, None),
    ],
)
async def test_streams_that_fail_on_the_way(
    server: Gateway, engine: Modelgov, step: Any, error_class: type[ModelEngineError], partial: str | None
) -> None:
    server.script(step)
    with pytest.raises(error_class) as caught:
        await engine.chat_stream(MESSAGES, **ASKER).response()
    assert (caught.value.partial.content if caught.value.partial is not None else None) == partial
    assert server.requests == 1


@pytest.mark.parametrize("step", [no_done(of=answer("Hi")), cut(after_events=2, of=answer("Hi"))])
async def test_a_stream_is_complete_after_its_done_frame(server: Gateway, engine: Modelgov, step: Any) -> None:
    server.script(step)
    stream = engine.chat_stream(MESSAGES, **ASKER)
    assert (await stream.response()).content == "Hi"
    assert stream.summary.verdict == "complete"


@pytest.mark.parametrize("code", ["internal_error", "audit_unavailable"])
async def test_a_stream_that_may_have_run_is_not_asked_for_again(server: Gateway, engine: Modelgov, code: str) -> None:
    server.script(fail(500 if code == "internal_error" else 503, code=code))
    with pytest.raises(ServerError):
        await engine.chat_stream(MESSAGES, **ASKER).response()
    assert server.requests == 1
