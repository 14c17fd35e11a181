"""What NVIDIA's endpoints say differently from OpenAI's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from penstock.engine.errors import (
    Advice,
    AuthenticationError,
    ContextWindowExceededError,
    InvalidRequestError,
    ModelEngineError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnsupportedParameterError,
)
from penstock.engine.gateways import NIMGateway
from penstock.engine.verdict import Answer, complaint_of

GATEWAY = NIMGateway()


def problem(status: int, title: str, detail: str | None = None) -> dict[str, Any]:
    """A problem document, as the hosted endpoints send them."""
    return {"status": status, "title": title} | ({} if detail is None else {"detail": detail})


def error(message: str, type: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


# (status, body, class, advice, message)
VERDICTS: list[tuple[int, Any, type[ModelEngineError], Advice, str]] = [
    (400, error("bad temperature", "invalid_request_error"), InvalidRequestError, "never", "bad temperature"),
    (400, error("too long", None, "context_length_exceeded"), ContextWindowExceededError, "never", "too long"),
    (
        400,
        error("Unsupported parameter: 'max_tokens'", None, "unsupported_parameter"),
        UnsupportedParameterError,
        "never",
        "Unsupported parameter: 'max_tokens'",
    ),
    (
        400,
        error("Unrecognized request argument supplied: foo"),
        UnsupportedParameterError,
        "never",
        "Unrecognized request argument supplied: foo",
    ),
    (
        400,
        {"detail": [{"loc": ["body", "nvext", "x"], "msg": "Extra inputs are not permitted"}]},
        UnsupportedParameterError,
        "never",
        "body.nvext.x: Extra inputs are not permitted",
    ),
    (401, problem(401, "Unauthorized"), AuthenticationError, "refresh_auth", "Unauthorized"),
    (402, problem(402, "Payment Required", "no credits"), QuotaExceededError, "never", "no credits"),
    (
        403,
        problem(403, "Forbidden", "Authorization failed"),
        AuthenticationError,
        "refresh_auth",
        "Authorization failed",
    ),
    (403, problem(403, "Forbidden", "not for this account"), PermissionDeniedError, "never", "not for this account"),
    (
        404,
        problem(404, "Not Found", "Function not found for account"),
        NotFoundError,
        "never",
        "Function not found for account",
    ),
    (404, b"404 page not found\n", NotFoundError, "never", "404 page not found"),
    (408, error("timeout"), RequestTimeoutError, "after", "timeout"),
    (
        422,
        {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "missing"}]},
        InvalidRequestError,
        "never",
        "body.messages: field required",
    ),
    (429, problem(429, "Too Many Requests"), RateLimitError, "after", "Too Many Requests"),
    (
        429,
        problem(429, "Too Many Requests", "ResourceExhausted: worker queue"),
        RateLimitError,
        "after",
        "ResourceExhausted: worker queue",
    ),
    (
        429,
        error("You exceeded your current quota", "insufficient_quota"),
        QuotaExceededError,
        "never",
        "You exceeded your current quota",
    ),
    (
        500,
        problem(500, "Internal Server Error", "ResourceExhausted: all workers are busy"),
        OverloadedError,
        "after",
        "ResourceExhausted: all workers are busy",
    ),
    (500, error("oops", "server_error"), ServerError, "after", "oops"),
    (503, error("RESOURCE_EXHAUSTED"), OverloadedError, "after", "RESOURCE_EXHAUSTED"),
    (504, b"", RequestTimeoutError, "after", "the gateway answered HTTP 504 without saying why"),
]


@pytest.mark.parametrize(("status", "body", "error_class", "advice", "message"), VERDICTS)
def test_the_verdict_of_nim(
    status: int, body: Any, error_class: type[ModelEngineError], advice: Advice, message: str
) -> None:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    verdict = GATEWAY.judge(Answer(status, CIMultiDict(), raw, 0.0))

    assert (type(verdict), verdict.advice, verdict.status) == (error_class, advice, status)
    assert verdict.message == message


@pytest.mark.parametrize(
    ("member", "error_class", "status"),
    [
        ({"message": "weird", "type": "ResourceExhausted", "code": "x"}, OverloadedError, None),
        ({"message": "ResourceExhausted", "type": "server_error"}, OverloadedError, 500),
        ({"message": "engine crashed", "type": "server_error"}, ServerError, 500),
        ({"message": "busy", "type": "BadGateway", "code": 429}, RateLimitError, 429),
    ],
)
def test_the_verdict_of_error_events(
    member: dict[str, Any], error_class: type[ModelEngineError], status: int | None
) -> None:
    for verdict in (
        GATEWAY.judge_event(complaint_of({"error": member})),
        failure_of(b"data: " + orjson.dumps({"error": member}) + b"\n\n"),
    ):
        assert (type(verdict), getattr(verdict, "status", None)) == (error_class, status)


def failure_of(body: bytes) -> ModelEngineError | None:
    decoder = GATEWAY.stream_decoder(Answer(200, CIMultiDict({"content-type": "text/event-stream"}), b"", 0.0))
    decoder.feed(body)
    decoder.close()
    return decoder.failure


def test_an_error_in_a_success_is_judged_by_nims_table() -> None:
    with pytest.raises(OverloadedError):
        GATEWAY.decode_chat(Answer(200, CIMultiDict(), b'{"error": "ResourceExhausted"}', 0.0))


def test_readiness_has_a_path_of_its_own() -> None:
    assert (GATEWAY.health.method, GATEWAY.health.path) == ("GET", "/v1/health/ready")
