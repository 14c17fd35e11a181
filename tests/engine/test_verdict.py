"""What error answers say, whatever their shape, and what they mean."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock.engine.errors import (
    Advice,
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    ContextWindowExceededError,
    IdempotencyInProgressError,
    IdempotencyKeyReuseError,
    IdempotencyNotSupportedError,
    InvalidRequestError,
    ModelEngineError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PolicyBlockedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RedirectError,
    RequestTimeoutError,
    SafetyBlockedError,
    ServerError,
    UnsupportedParameterError,
)
from penstock.engine.verdict import (
    Answer,
    Complaint,
    complaint_of,
    judge_event,
    judge_openai,
    plain_headers,
    read_complaint,
    snippet,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    ["error", "message", "detail", "title", "type", "code", "param", "status", "loc", "msg", "error_description"]
)
ERRORS = st.recursive(
    JSON, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=5), max_leaves=12
)


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDict(named), raw, received=1_760_000_000.0)


def error(message: str = "m", **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **members}}


# The bodies that servers were seen to send, by server.
COMPLAINTS: list[tuple[str, Any, Complaint]] = [
    (
        "OpenAI",
        error("Bad param", type="invalid_request_error", param="temperature"),
        Complaint("Bad param", "invalid_request_error", None, "temperature"),
    ),
    (
        "LiteLLM: code as text, param as the text None",
        error("slow", type="throttling_error", param="None", code="429"),
        Complaint("slow", "throttling_error", "429"),
    ),
    ("LiteLLM: 404 and 405", {"detail": "Not Found"}, Complaint("Not Found")),
    (
        "llama.cpp: code as a number",
        {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}},
        Complaint("too long", "exceed_context_size_error", "400"),
    ),
    ("transformers serve: a list", {"detail": ["a", {"msg": "b"}]}, Complaint("a; b")),
    ("transformers serve: plain text", b"Internal Server Error", Complaint("Internal Server Error")),
    ("transformers serve: in a stream", {"error": "the model died"}, Complaint("the model died")),
    (
        "FastAPI: a list",
        {"detail": [{"loc": ["body", "messages", 0], "msg": "field required", "type": "missing"}]},
        Complaint("body.messages.0: field required"),
    ),
    (
        "FastAPI: an object",
        {"detail": {"message": "no budget left", "code": "budget_exceeded"}},
        Complaint("no budget left", None, "budget_exceeded"),
    ),
    (
        "FastAPI: an error in the detail",
        {"detail": {"error": {"message": "no", "type": "t", "code": 7}}},
        Complaint("no", "t", "7"),
    ),
    (
        "Modelgov",
        {"error": {"code": "policy_blocked", "message": "blocked", "details": {"reasonCode": "x"}, "requestId": "r"}},
        Complaint("blocked", None, "policy_blocked"),
    ),
    (
        "Modelgov: 404",
        {"message": "Route GET:/x not found", "error": "Not Found", "statusCode": 404},
        Complaint("Route GET:/x not found"),
    ),
    (
        "NeMo Guardrails",
        error("Blocked.", type="guardrails_violation", param="self check output", code="content_blocked"),
        Complaint("Blocked.", "guardrails_violation", "content_blocked", "self check output"),
    ),
    ("NIM, hosted", {"status": 429, "title": "Too Many Requests"}, Complaint("Too Many Requests")),
    (
        "NIM, hosted, with detail",
        {"status": 403, "title": "Forbidden", "detail": "Authorization failed"},
        Complaint("Authorization failed"),
    ),
    ("OAuth", {"error": "invalid_token", "error_description": "it has expired"}, Complaint("it has expired")),
    (
        "Anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        Complaint("Overloaded", "overloaded_error"),
    ),
    (
        "vLLM, before 0.10",
        {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
        Complaint("too long", "BadRequestError", "400"),
    ),
    (
        "nginx",
        b"<html>\r\n<head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
        Complaint("HTML page: 502 Bad Gateway"),
    ),
    ("HAProxy", b"<html><body><h1>503</h1>\nNo server</body></html>", Complaint("HTML page: 503 No server")),
    ("doctype first", b"<!DOCTYPE html><p>Oops", Complaint("HTML page: Oops")),
    ("nothing", b"", Complaint()),
    ("white space", b" \r\n", Complaint()),
    ("a list", ["first", {"message": "second"}], Complaint("first; second")),
    ("a text", b'"no"', Complaint("no")),
    ("a number", b"500", Complaint("500")),
    ("an empty object", {}, Complaint("{}")),
    ("an error without words", {"error": {"code": "boom"}}, Complaint('{"error":{"code":"boom"}}', None, "boom")),
    ("an error that is a list", {"error": ["a", "b"]}, Complaint("a; b")),
    ("error: null", {"error": None, "message": "m"}, Complaint("m")),
    ("a code that is none", error(code=True, type=[], param={}), Complaint("m")),
    ("an empty code", error(code="", type=" "), Complaint("m")),
]


@pytest.mark.parametrize(("body", "expected"), [case[1:] for case in COMPLAINTS], ids=[case[0] for case in COMPLAINTS])
def test_complaints(body: Any, expected: Complaint) -> None:
    complaint = read_complaint(body if isinstance(body, bytes) else orjson.dumps(body))
    assert (complaint.message, complaint.type, complaint.code, complaint.param) == (
        expected.message,
        expected.type,
        expected.code,
        expected.param,
    )


def test_the_body_is_kept_decoded_or_as_text() -> None:
    assert read_complaint(b'{"detail": "x"}').body == {"detail": "x"}
    assert read_complaint(b"no \xff JSON").body == "no � JSON"
    assert read_complaint(b"").body is None


def assert_is_bounded(complaint: Complaint) -> None:
    for text in (complaint.message, complaint.type, complaint.code, complaint.param):
        assert text is None or 0 < len(text) <= 300
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text or "")


@given(st.binary(max_size=200))
@example(b"\x1b[2J\x1b]0;title\x07 a terminal")
@example(b'{"error": {"message": "\\u001b[31mred\\nblue", "code": "a\\nb"}}')
@example(b'{"error": {"message": "' + b"m" * 5000 + b'", "code": "' + b"c" * 5000 + b'"}}')
def test_reading_bytes_never_raises_and_stays_on_one_line(body: bytes) -> None:
    assert_is_bounded(read_complaint(body))


@given(ERRORS)
def test_reading_any_json_never_raises_and_stays_on_one_line(decoded: Any) -> None:
    assert_is_bounded(read_complaint(orjson.dumps(decoded)))
    assert isinstance(judge_openai(answer(500, decoded)), ModelEngineError)
    assert isinstance(judge_event(complaint_of(decoded)), ModelEngineError)


@pytest.mark.parametrize("name", ["error", "detail", "message"])
def test_deeply_nested_errors_are_read(name: str) -> None:
    body = b'{"%s":' % name.encode() * 900 + b"1" + b"}" * 900
    assert_is_bounded(read_complaint(body))


@pytest.mark.parametrize("depth", [1000, 20_000])
def test_nesting_that_json_readers_refuse_is_text(depth: int) -> None:
    assert_is_bounded(read_complaint(b'{"error":' * depth))
    assert_is_bounded(read_complaint(b"[" * depth + b"]" * depth))


@pytest.mark.parametrize(
    "bait",
    [b"<title>", b"<html>", b"<", b"<html><title", b" ", b"<!doctype ", b'{"a":', b"\xff", b"a ", b"exceeded budge"],
)
def test_64_kib_made_to_be_slow_are_read_in_linear_time(bait: bytes) -> None:
    """Passes, or takes minutes."""
    judge_openai(answer(429, bait * (64 * 1024 // len(bait))))
    judge_openai(answer(400, b"<html>" + bait * (64 * 1024 // len(bait))))


def test_a_snippet_is_one_line_of_300_characters() -> None:
    assert snippet("a\r\n\tb \u2028 c\x00d") == "a b c d"
    assert snippet("x" * 300) == "x" * 300
    assert snippet("x" * 301) == "x" * 299 + "…"
    assert snippet(" " * 10_000 + "late") == "late"


# (status, body, class, advice) of OpenAI-compatible gateways
OPENAI: list[tuple[int, Any, type[ModelEngineError], Advice]] = [
    (300, b"", RedirectError, "never"),
    (307, b"", RedirectError, "never"),
    (400, error("bad", type="invalid_request_error"), InvalidRequestError, "never"),
    (400, error(code="context_length_exceeded"), ContextWindowExceededError, "never"),
    (400, error(type="exceed_context_size_error"), ContextWindowExceededError, "never"),
    (400, error("This model's maximum context length is 8"), ContextWindowExceededError, "never"),
    (
        400,
        error("Unsupported parameter: 'max_tokens'", code="unsupported_parameter"),
        UnsupportedParameterError,
        "never",
    ),
    (400, error("the context length", code="unsupported_value"), UnsupportedParameterError, "never"),
    (400, error("Unrecognized request argument supplied: foo"), UnsupportedParameterError, "never"),
    (400, error(code="content_filter"), SafetyBlockedError, "never"),
    (400, error(type="budget_exceeded", code="400"), BudgetExceededError, "never"),
    (400, error(type="guardrails_violation", code="content_blocked"), PolicyBlockedError, "never"),
    (400, b"<html>Bad Request", InvalidRequestError, "never"),
    (401, error(code="invalid_api_key"), AuthenticationError, "refresh_auth"),
    (401, b"", AuthenticationError, "refresh_auth"),
    (402, error(), QuotaExceededError, "never"),
    (403, error(code="unsupported_country_region_territory"), PermissionDeniedError, "never"),
    (403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}, PermissionDeniedError, "never"),
    (404, error(code="model_not_found"), NotFoundError, "never"),
    (405, {"detail": "Method Not Allowed"}, InvalidRequestError, "never"),
    (408, error(type="timeout"), RequestTimeoutError, "after"),
    (409, error(type="conflict"), ConflictError, "after"),
    (409, error(code="idempotency_in_progress"), IdempotencyInProgressError, "wait_in_progress"),
    (400, error(code="idempotency_not_supported"), IdempotencyNotSupportedError, "never"),
    (413, b"", InvalidRequestError, "never"),
    (418, error("teapot"), InvalidRequestError, "never"),
    (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, InvalidRequestError, "never"),
    (422, {"detail": "Unexpected keys in the request: {'foo'}"}, UnsupportedParameterError, "never"),
    (422, error(code="idempotency_key_reuse"), IdempotencyKeyReuseError, "never"),
    (422, error(type="budget_exceeded"), BudgetExceededError, "never"),
    (425, b"", ConflictError, "after"),
    (429, error(code="rate_limit_exceeded", type="requests"), RateLimitError, "after"),
    (429, {"status": 429, "title": "Too Many Requests"}, RateLimitError, "after"),
    (429, b"", RateLimitError, "after"),
    (429, error("You exceeded your current quota"), RateLimitError, "after"),
    (429, error(code="insufficient_quota", type="insufficient_quota"), QuotaExceededError, "never"),
    (429, error(type="insufficient_quota"), QuotaExceededError, "never"),
    (
        429,
        error("Exceeded budget for deployment", type="internal_server_error", code="429"),
        BudgetExceededError,
        "never",
    ),
    (500, error(type="server_error"), ServerError, "after"),
    (500, b"Internal Server Error", ServerError, "after"),
    (501, error(), ServerError, "never"),
    (502, b"<html><title>502 Bad Gateway</title>", ProviderError, "after"),
    (503, error(type="service_unavailable_error", code="server_is_overloaded"), OverloadedError, "after"),
    (503, b"", OverloadedError, "after"),
    (504, b"", RequestTimeoutError, "after"),
    (505, b"", ServerError, "never"),
    (520, b"", ServerError, "after"),
    (529, error(type="overloaded_error"), OverloadedError, "after"),
    (599, b"", ServerError, "after"),
]


@pytest.mark.parametrize(("status", "body", "error_class", "advice"), OPENAI)
def test_the_verdict_of_openai(status: int, body: Any, error_class: type[ModelEngineError], advice: Advice) -> None:
    verdict = judge_openai(answer(status, body))
    assert (type(verdict), verdict.advice, verdict.status, verdict.phase) == (error_class, advice, status, "rejected")


# (error member of an event, class, status)
EVENTS: list[tuple[Any, type[ModelEngineError], int | None]] = [
    ({"type": "invalid_request_error"}, InvalidRequestError, 400),
    ({"type": "authentication_error"}, AuthenticationError, 401),
    ({"type": "billing_error"}, QuotaExceededError, 402),
    ({"type": "permission_error"}, PermissionDeniedError, 403),
    ({"type": "not_found_error"}, NotFoundError, 404),
    ({"type": "rate_limit_error"}, RateLimitError, 429),
    ({"type": "api_error"}, ServerError, 500),
    ({"type": "server_error"}, ServerError, 500),
    ({"type": "server_error", "code": 503}, ServerError, 500),
    ({"type": "overloaded_error"}, OverloadedError, 503),
    ({"type": "timeout_error"}, RequestTimeoutError, 504),
    ({"type": "BadGateway", "code": 429}, RateLimitError, 429),
    ({"type": "x", "code": "502"}, ProviderError, 502),
    ({"code": 200}, ProviderError, None),
    ({"code": "rate_limit_exceeded", "type": "tokens"}, RateLimitError, None),
    ({"type": "guardrails_violation", "code": "content_blocked"}, PolicyBlockedError, None),
    ({"type": "weird", "code": "x"}, ProviderError, None),
    ("the upstream died", ProviderError, None),
    ([], ProviderError, None),
    (True, ProviderError, None),
]


@pytest.mark.parametrize(("member", "error_class", "status"), EVENTS)
def test_the_verdict_of_error_events(member: Any, error_class: type[ModelEngineError], status: int | None) -> None:
    verdict = judge_event(complaint_of({"error": member}))
    assert (type(verdict), verdict.status) == (error_class, status)


def test_an_error_has_all_that_the_answer_says() -> None:
    body = error("slow down", type="tokens", param="p", code="rate_limit_exceeded")
    verdict = judge_openai(answer(429, body, X_Request_Id="req_1", Retry_After="20", Set_Cookie="secret"))

    assert (verdict.message, verdict.type, verdict.param, verdict.code) == (
        "slow down",
        "tokens",
        "p",
        "rate_limit_exceeded",
    )
    assert (verdict.request_id, verdict.retry_after, verdict.body) == ("req_1", 20.0, body)
    assert verdict.headers == {"x-request-id": "req_1", "retry-after": "20"}


def test_an_error_without_a_body_names_the_status() -> None:
    assert judge_openai(answer(503)).message == "the gateway answered HTTP 503 without saying why"


@pytest.mark.parametrize(
    ("status", "code", "should_retry", "advice"),
    [
        (400, None, "true", "after"),
        (500, None, "false", "never"),
        (500, None, "true", "after"),
        (409, "idempotency_in_progress", "true", "wait_in_progress"),
        (501, None, "true", "after"),
        (429, "insufficient_quota", "true", "after"),
        (429, None, "perhaps", "after"),
    ],
)
def test_x_should_retry_overrides_the_table(status: int, code: str | None, should_retry: str, advice: Advice) -> None:
    assert judge_openai(answer(status, error(code=code), x_should_retry=should_retry)).advice == advice


def test_a_gateway_can_bring_its_own_table() -> None:
    def table(status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        return PolicyBlockedError, "reroute"

    assert judge_openai(answer(409), table).advice == "reroute"
    assert type(judge_event(Complaint("no"), table)) is PolicyBlockedError


def test_plain_headers_join_lines_and_leave_cookies_out() -> None:
    headers = CIMultiDict([("Vary", "a"), ("vary", "b"), ("Set-Cookie", "c"), ("X-A", "")])
    assert plain_headers(headers) == {"vary": "a, b", "x-a": ""}
