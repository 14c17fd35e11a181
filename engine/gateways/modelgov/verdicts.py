"""What Modelgov's errors mean: by the code first, by the reason in its details where one code means several things.

An exhausted budget is normally ``policy_blocked`` with a reason code; ``budget_exceeded`` comes only when requests
race for the last of it.
"""

from __future__ import annotations

from typing import Any

from ...errors import (
    Advice,
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
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
    SafetyBlockedError,
    SecurityBlockedError,
    ServerError,
)
from ...verdict import Complaint, openai_verdict
from .record import PII_REASONS, details_of

Verdict = tuple[type[ModelEngineError], "Advice | None"]

STREAM_ERROR = "stream_error"
"""Code of an error event that has none."""

_MAY_HAVE_RUN: Advice = "keyed"  # only with a key, since the model may have been paid

_USED_UP = ("daily_request_limit_reached", "daily_token_limit_reached")

_BY_CODE: dict[str, Verdict] = {
    "unauthorized": (AuthenticationError, None),
    "insufficient_credits": (QuotaExceededError, None),
    "budget_exceeded": (BudgetExceededError, None),
    "forbidden": (PermissionDeniedError, None),
    "user_forbidden": (PermissionDeniedError, None),
    "user_type_forbidden": (PermissionDeniedError, None),
    "project_mismatch": (PermissionDeniedError, None),
    "not_found": (NotFoundError, None),
    "payload_too_large": (InvalidRequestError, None),
    "rate_limit_exceeded": (RateLimitError, None),
    "internal_error": (ServerError, _MAY_HAVE_RUN),
    "not_implemented": (ServerError, "never"),
    "provider_unavailable": (ProviderError, None),  # what was reserved of the budget has been given back
    "upstream_rejected": (ProviderError, "never"),  # the provider answered 4xx, and will again
    "safety_unavailable": (OverloadedError, _MAY_HAVE_RUN),
    "budget_unavailable": (OverloadedError, _MAY_HAVE_RUN),
    "audit_unavailable": (OverloadedError, _MAY_HAVE_RUN),
    "ai_requests_paused": (OverloadedError, "never"),  # by an operator, and not for seconds
    "not_ready": (OverloadedError, "never"),
    STREAM_ERROR: (ServerError, None),
}

_STATUS_BY_CODE = {
    "internal_error": 500,
    "not_implemented": 501,
    "provider_unavailable": 502,
    "upstream_rejected": 502,
    STREAM_ERROR: 502,
    "safety_unavailable": 503,
    "budget_unavailable": 503,
    "audit_unavailable": 503,
    "database_unavailable": 503,
    "rate_limit_exceeded": 429,
    "policy_blocked": 403,
    "budget_exceeded": 403,
    "safety_blocked": 403,
}


def modelgov_verdict(status: int | None, complaint: Complaint) -> Verdict:
    """The `VerdictTable` of Modelgov."""
    code, details = complaint.code, details_of(complaint.body)
    if status == 400 and code == "provider_unavailable":
        return InvalidRequestError, None  # of documents: there is no such provider
    if code == "policy_blocked":
        return _policy(details), None
    if code == "safety_blocked":
        return _safety(details), None
    if code == "database_unavailable":
        return OverloadedError, "after" if details.get("retryable") is True else "never"
    if code is not None and code in _BY_CODE:
        return _BY_CODE[code]
    return openai_verdict(status, complaint)


def status_of_code(code: str | None) -> int | None:
    """The status that comes with a code, for errors inside a success. `None` of one that is not known."""
    return _STATUS_BY_CODE.get(code or "")


def _policy(details: dict[str, Any]) -> type[ModelEngineError]:
    reason = details.get("reasonCode")
    if not isinstance(reason, str):
        return PolicyBlockedError
    if reason.endswith("_budget_exceeded") or reason in _USED_UP:
        return BudgetExceededError
    if reason == "insufficient_credits":
        return QuotaExceededError
    return ModelNotAllowedError if reason == "model_class_not_permitted" else PolicyBlockedError


def _safety(details: dict[str, Any]) -> type[ModelEngineError]:
    reason = details.get("reason")
    if reason in PII_REASONS:
        return PIIBlockedError
    return SecurityBlockedError if reason == "prompt_injection" else SafetyBlockedError
