"""What an error answer means: the facts in its body, and the verdict of the OpenAI family.

Bodies come in every shape (`error` as an object, a text or missing; `detail` as a text or a list; problem documents;
HTML; nothing), so reading one never raises. A verdict is decided by the machine-readable code first, by the status
second and by the words of the message last: words mislead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .errors import (
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
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RedirectError,
    RequestTimeoutError,
    SafetyBlockedError,
    ServerError,
    UnsupportedParameterError,
)
from .hints import retry_hints

_SNIPPET = 300  # characters of a text or HTML page that go into a message


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request as plain facts: what verdict tables and decoders look at.

    Args:
        status: HTTP status.
        headers: Response headers; look-ups ignore case.
        body: The body, decompressed; of an error at most 64 KiB of it.
        received: Unix time in seconds at which the answer came, to read dates against.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: float


Judge = Callable[[Answer], ModelEngineError]
"""A verdict table: what an error answer means."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says, whatever its shape. Texts are `None` where it does not say."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    body: Any = None
    """The body decoded, or its text, or `None` when it was empty."""


def read_complaint(body: bytes) -> Complaint:
    """Find message, type, code and param in an error body of any shape. Never raises."""
    if not body.strip():
        return Complaint()
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
        return Complaint(message=_snippet(text), body=text)
    complaint = complaint_of(decoded)
    if complaint.message is None:
        complaint = replace(complaint, message=_snippet(body.decode("utf-8", "replace")))
    return complaint


def complaint_of(decoded: Any) -> Complaint:
    """As `read_complaint`, of a body that is decoded already."""
    if not isinstance(decoded, dict):
        return Complaint(message=_text(decoded), body=decoded)
    error = decoded.get("error")
    facts: Mapping[str, Any] = error if isinstance(error, dict) else decoded
    message = _text(error) if isinstance(error, str) and error else None
    for name in ("message", "detail", "title", "error_description"):
        if message:
            break
        message = _text(facts.get(name)) or _text(decoded.get(name))
    return Complaint(
        message=message,
        type=_word(facts.get("type")),
        code=_word(facts.get("code")),
        param=_word(facts.get("param")),
        body=decoded,
    )


def judge_openai(answer: Answer) -> ModelEngineError:
    """The verdict of an OpenAI-compatible gateway on an error status."""
    complaint = read_complaint(answer.body)
    error_class, advice = openai_verdict(answer.status, complaint)
    return build_error(error_class, answer, complaint, advice)


def openai_verdict(status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
    """The class and advice for a status and what the body says.

    Args:
        status: `None` for an error inside a success whose type stands for no status.
        complaint: What the body says.

    Returns:
        The class, and the advice, `None` for the default of the class.
    """
    for word in (complaint.code, complaint.type):
        if word in _BY_CODE:
            return _BY_CODE[word], None
    if status is None:
        return ProviderError, None
    if status in _BY_STATUS:
        error_class, advice = _BY_STATUS[status]
        if error_class is InvalidRequestError and _CONTEXT_WORDS.search(complaint.message or ""):
            return ContextWindowExceededError, None
        return error_class, advice
    if status >= 500:
        return ServerError, None
    if 300 <= status < 400:
        return RedirectError, None
    return InvalidRequestError, None


def build_error(
    error_class: type[ModelEngineError],
    answer: Answer,
    complaint: Complaint,
    advice: Advice | None = None,
) -> ModelEngineError:
    """Make the error, with the server's hints on it. ``x-should-retry`` overrides the advice."""
    hints = retry_hints(answer.headers, answer.received)
    if hints.should_retry is not None:
        advice = "after" if hints.should_retry else "never"
    return error_class(
        complaint.message or f"the gateway answered HTTP {answer.status} without saying why",
        status=answer.status,
        code=complaint.code,
        type=complaint.type,
        param=complaint.param,
        request_id=answer.headers.get("x-request-id"),
        retry_after=hints.after,
        headers=plain_headers(answer.headers),
        body=complaint.body,
        phase="rejected",
        advice=advice,
    )


def plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as a plain mapping with lower-case names; several lines of one name joined; cookies left out."""
    plain: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        if name != "set-cookie":
            plain[name] = f"{plain[name]}, {value}" if name in plain else value
    return plain


def status_of_type(complaint: Complaint) -> int | None:
    """The status that an error inside a success stands for: by its type, else by a number in its code. `None` if
    neither.
    """
    if complaint.type in _STATUS_BY_TYPE:
        return _STATUS_BY_TYPE[complaint.type]
    if complaint.code is not None and re.fullmatch("[45][0-9]{2}", complaint.code):
        return int(complaint.code)
    return None


_BY_CODE: dict[str | None, type[ModelEngineError]] = {
    "context_length_exceeded": ContextWindowExceededError,
    "exceed_context_size_error": ContextWindowExceededError,  # llama.cpp
    "unsupported_parameter": UnsupportedParameterError,
    "unsupported_value": UnsupportedParameterError,
    "unknown_parameter": UnsupportedParameterError,
    "insufficient_quota": QuotaExceededError,
    "billing_hard_limit_reached": QuotaExceededError,
    "enforced_spend_limit_reached": QuotaExceededError,
    "budget_exceeded": BudgetExceededError,  # LiteLLM, with 400, 422 or 429
    "content_filter": SafetyBlockedError,  # Azure
    "content_policy_violation": SafetyBlockedError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": NotFoundError,
    "overloaded_error": OverloadedError,
    "idempotency_in_progress": IdempotencyInProgressError,
    "idempotency_key_reuse": IdempotencyKeyReuseError,
    "idempotency_not_supported": IdempotencyNotSupportedError,
}

_BY_STATUS: dict[int, tuple[type[ModelEngineError], Advice | None]] = {
    400: (InvalidRequestError, None),
    401: (AuthenticationError, None),
    402: (QuotaExceededError, None),
    403: (PermissionDeniedError, None),
    404: (NotFoundError, None),
    408: (RequestTimeoutError, None),
    409: (ConflictError, None),  # a lock, in this family; gateways that mean something else have their own table
    413: (InvalidRequestError, None),
    422: (InvalidRequestError, None),
    425: (ConflictError, None),  # RFC 8470: too early, try again
    429: (RateLimitError, None),
    500: (ServerError, None),
    501: (ServerError, "never"),  # not implemented now is not implemented in a second
    502: (ProviderError, None),
    503: (OverloadedError, None),
    504: (RequestTimeoutError, None),
    505: (ServerError, "never"),
    529: (OverloadedError, None),
}

# The types that OpenAI, Anthropic and their kin put into error events, where there is no status
_STATUS_BY_TYPE: dict[str | None, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 503,
}

_CONTEXT_WORDS = re.compile(r"maximum context length|context window|context length|context size|n_ctx", re.IGNORECASE)


def _text(value: Any) -> str | None:
    """What a person can read in a message member: a text, or FastAPI's list of complaints."""
    if isinstance(value, str):
        return _snippet(value) or None
    if isinstance(value, list):
        return _snippet("; ".join(filter(None, map(_detail, value)))) or None
    return _detail(value)


def _detail(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return None
    message = item.get("msg") or item.get("message")
    if not isinstance(message, str):
        return None
    location = item.get("loc")
    where = ".".join(str(step) for step in location) if isinstance(location, list) else ""
    return f"{where}: {message}" if where else message


def _word(value: Any) -> str | None:
    """A code as text: gateways send texts, numbers, and the text ``"None"``."""
    if isinstance(value, bool) or value is None or value == "None":
        return None
    return str(value) if isinstance(value, (str, int)) else None


def _snippet(text: str) -> str:
    """One line of at most 300 characters; of an HTML page its title or its words."""
    if "<html" in text[:1000].lower() or text.lstrip()[:9].lower() == "<!doctype":
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = f"HTML page: {title[1] if title else re.sub(r'<[^>]*>', ' ', text)}"
    line = " ".join(text.split())
    return line if len(line) <= _SNIPPET else line[: _SNIPPET - 1] + "…"
