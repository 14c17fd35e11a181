"""What an error answer means: the facts in its body, and the verdict of the OpenAI family.

Bodies come in every shape (`error` as an object, a text or missing; `detail` as a text, a list or an object; problem
documents; HTML; nothing), so reading one never raises. A verdict is decided by the machine-readable code first, by
the status second and by the words of the message last: words mislead.
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
from .hints import retry_hints

_SNIPPET = 300  # characters of a text or HTML page that go into a message
_LOOKED_AT = 4096  # characters in which its title or first words are looked for
_WORD = 200  # characters of a code; the longest known one has 40


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


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says, whatever its shape. Texts are `None` where it does not say."""

    message: str | None = None
    """One line of at most 300 characters."""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    body: Any = None
    """The body decoded, or its text, or `None` when it was empty."""


Judge = Callable[[Answer], ModelEngineError]
"""What an error answer means."""

JudgeEvent = Callable[[Complaint], ModelEngineError]
"""What an error inside a success means."""

VerdictTable = Callable[[int | None, Complaint], tuple[type[ModelEngineError], Advice | None]]
"""The class and advice for a status and what the body says.

The status is `None` for an error inside a success whose type stands for none. The advice is `None` for the default of
the class.
"""


def read_complaint(body: bytes) -> Complaint:
    """Find message, type, code and param in an error body of any shape. Never raises."""
    if not body.strip():
        return Complaint()
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
        return Complaint(message=snippet(text) or None, body=text)
    complaint = complaint_of(decoded)
    if complaint.message is None:
        complaint = replace(complaint, message=snippet(body.decode("utf-8", "replace")))
    return complaint


def complaint_of(decoded: Any) -> Complaint:
    """As `read_complaint`, of a body that is decoded already."""
    if not isinstance(decoded, dict):
        return Complaint(message=_text(decoded), body=decoded)
    facts = _innermost(decoded)
    return Complaint(
        message=_message(facts) or _message(decoded),
        type=_word(facts.get("type")),
        code=_word(facts.get("code")),
        param=_word(facts.get("param")),
        body=decoded,
    )


def openai_verdict(status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
    """The `VerdictTable` of OpenAI-compatible gateways."""
    for word in (complaint.code, complaint.type):
        if word in _BY_CODE:
            return _BY_CODE[word], None
    if status is None:
        return ProviderError, None
    error_class, advice = _BY_STATUS.get(status) or _by_range(status)
    for general, words, special in _BY_WORDS:
        if error_class is general and re.search(words, complaint.message or "", re.IGNORECASE):
            return special, None
    return error_class, advice


def judge_openai(answer: Answer, table: VerdictTable = openai_verdict) -> ModelEngineError:
    """What an error answer of an OpenAI-compatible gateway means."""
    complaint = read_complaint(answer.body)
    error_class, advice = table(answer.status, complaint)
    return build_error(error_class, answer, complaint, advice)


def judge_event(complaint: Complaint, table: VerdictTable = openai_verdict) -> ModelEngineError:
    """What an ``error`` inside a success means: by its code and type, as if it had come with the status its type
    stands for.
    """
    status = status_of_type(complaint)
    error_class, advice = table(status, complaint)
    return error_class(
        complaint.message or "the gateway sent an error without saying why",
        status=status,
        code=complaint.code,
        type=complaint.type,
        param=complaint.param,
        body=complaint.body,
        advice=advice,
    )


def build_error(
    error_class: type[ModelEngineError],
    answer: Answer,
    complaint: Complaint,
    advice: Advice | None = None,
) -> ModelEngineError:
    """Make the error, with the server's hints on it. ``x-should-retry`` overrides the advice."""
    hints = retry_hints(answer.headers, answer.received)
    if hints.should_retry is False:
        advice = "never"
    elif hints.should_retry and (advice or error_class.default_advice) not in _AGAIN:
        advice = "after"
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


def snippet(text: str) -> str:
    """One line of at most 300 characters, without control characters and what cannot be encoded; of an HTML page its
    title or its words.
    """
    text = text.lstrip()[:_LOOKED_AT]  # all below is linear in this
    if "<html" in text[:1000].lower() or text[:9].lower() == "<!doctype":
        title = re.search(r"<title[^<>]*>([^<]*)", text, re.IGNORECASE)
        text = f"HTML page: {title[1] if title else re.sub(r'<[^<>]*>', ' ', text)}"
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)  # bytes of a header that are no UTF-8 come as surrogates
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return line if len(line) <= _SNIPPET else line[: _SNIPPET - 1] + "…"


_AGAIN = ("now", "after", "once", "keyed", "wait_in_progress")

_BY_CODE: dict[str | None, type[ModelEngineError]] = {
    "context_length_exceeded": ContextWindowExceededError,
    "exceed_context_size_error": ContextWindowExceededError,  # llama.cpp
    "unsupported_parameter": UnsupportedParameterError,
    "unsupported_value": UnsupportedParameterError,
    "unknown_parameter": UnsupportedParameterError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": QuotaExceededError,
    "billing_hard_limit_reached": QuotaExceededError,
    "enforced_spend_limit_reached": QuotaExceededError,
    "budget_exceeded": BudgetExceededError,  # LiteLLM, with 400, 422 or 429
    "content_filter": SafetyBlockedError,  # Azure
    "content_policy_violation": SafetyBlockedError,
    "ResponsibleAIPolicyViolation": SafetyBlockedError,  # Azure, inside of its content_filter
    "guardrails_violation": PolicyBlockedError,  # NeMo Guardrails
    # Of governed gateways, when they are reached as servers of the OpenAI family
    "policy_violation": PolicyBlockedError,
    "policy_blocked": PolicyBlockedError,
    "input_blocked": PolicyBlockedError,
    "output_blocked": PolicyBlockedError,
    "safety_blocked": SafetyBlockedError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": NotFoundError,
    "overloaded_error": OverloadedError,
    "server_is_overloaded": OverloadedError,
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

# Asked last, and only where the class is the general one: (general class, words, special class)
_BY_WORDS: tuple[tuple[type[ModelEngineError], str, type[ModelEngineError]], ...] = (
    (
        InvalidRequestError,
        (  # OpenAI; OpenAI; transformers serve; pydantic, thus vLLM
            r"unrecognized request argument|un(?:supported|known) parameter|unexpected keys in the request"
            r"|extra inputs are not permitted"
        ),
        UnsupportedParameterError,
    ),
    (
        InvalidRequestError,
        r"maximum context length|context window|context length|context size|n_ctx",
        ContextWindowExceededError,
    ),
    (
        RateLimitError,  # LiteLLM's deployment past its budget is a 429 whose type is internal_server_error
        r"exceeded budget|budget (?:has been )?exceeded|crossed budget|over budget",
        BudgetExceededError,
    ),
)

# The types that OpenAI, Anthropic and their kin put into error events, where there is no status
_STATUS_BY_TYPE: dict[str | None, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 503,
    "service_unavailable_error": 503,
    "timeout_error": 504,
}


def _by_range(status: int) -> tuple[type[ModelEngineError], Advice | None]:
    if status >= 500:
        return ServerError, None
    if 300 <= status < 400:
        return RedirectError, None
    return InvalidRequestError, None


def _innermost(decoded: dict[str, Any]) -> dict[str, Any]:
    """The object that holds the facts: what is wrapped in ``error``, or in ``detail`` when there is no text beside."""
    facts = decoded
    while True:
        inner = facts.get("error")
        if not isinstance(inner, dict) and _message(facts) is None:
            inner = facts.get("detail")
        if not isinstance(inner, dict):
            return facts
        facts = inner


def _message(facts: dict[str, Any]) -> str | None:
    """What a person can read in it. ``error`` as a text may be a mere "Not Found", ``title`` is more general still."""
    for name in ("message", "detail", "error_description", "error", "title"):
        if (message := _text(facts.get(name))) is not None:
            return message
    return None


def _text(value: Any) -> str | None:
    """The text of a message member: a text, a complaint of FastAPI's, or a list of them."""
    if isinstance(value, str):
        return snippet(value) or None
    if isinstance(value, list):
        return snippet("; ".join(filter(None, map(_detail, value)))) or None
    return None


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
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    word = snippet(str(value))[:_WORD]
    return word if word not in ("", "None") else None
