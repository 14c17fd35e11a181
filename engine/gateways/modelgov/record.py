"""What Modelgov says about its decision: in the body of an answer, in the details of an error, in the last frame of a
stream and in headers. Nothing of it is trusted to have its type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...types import Governance, UsageInfo
from ...usage import read_usage

AUDIT_HEADER = "x-modelgov-request-id"
_REPLAY_HEADER = "x-idempotent-replay"
PII_REASONS = ("pii_detected", "output_pii_detected")

_NAMED_IN_ANSWERS = ("decision", "requestId", "provider", "model", "budgetRemaining")
_NOT_ABOUT_THE_DECISION = ("message", "usage", "embeddings", "text", "tables", "fields", "documents", "pages", "done")
_NAMED_IN_DETAILS = ("decision", "auditRequestId", "budgetRemaining")


def governance_of(headers: Mapping[str, str], body: Any) -> Governance | None:
    """The record of a success, or of the last frame of a stream. `None` when it says nothing.

    Args:
        headers: Of the answer; look-ups ignore case.
        body: Decoded, of any type.
    """
    return _record(headers, _of_answer(body) if isinstance(body, dict) else {})


def governance_of_error(headers: Mapping[str, str], body: Any) -> Governance | None:
    """As `governance_of`, of an error answer or an error event."""
    return _record(headers, _of_error(body))


def is_replay(headers: Mapping[str, str]) -> bool | None:
    """Whether an answer is replayed from an earlier run. `None` when it does not say: no key was sent."""
    return {"true": True, "false": False}.get(headers.get(_REPLAY_HEADER, "").strip().lower())


def error_of(body: Any) -> dict[str, Any]:
    """The object that describes an error: what is in ``error``, or all of an error event. An empty one for none."""
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {}


def details_of(body: Any) -> dict[str, Any]:
    """The ``details`` of an error; an empty object when there are none."""
    details = error_of(body).get("details")
    return details if isinstance(details, dict) else {}


def trace_id_of(body: Any) -> str | None:
    """The ``requestId`` of an error: the caller's ``request_id``, or one that the gateway made. No audit id."""
    return _text(error_of(body).get("requestId"))


def usage_of(usage: Any) -> UsageInfo | None:
    """The counts of a ``usage`` member. `None` when it is missing, or when one of them is null."""
    if not isinstance(usage, dict) or None in usage.values():
        return None
    return read_usage({"input_tokens": usage.get("inputTokens"), "output_tokens": usage.get("outputTokens")})


def _record(headers: Mapping[str, str], facts: dict[str, Any]) -> Governance | None:
    facts["replayed"] = is_replay(headers)
    facts["audit_id"] = facts.get("audit_id") or headers.get(AUDIT_HEADER)
    facts = {name: value for name, value in facts.items() if value is not None and value != {}}
    return Governance(**facts) if facts else None


def _of_answer(body: dict[str, Any]) -> dict[str, Any]:
    cost, safety = body.get("cost"), body.get("safety")
    known = (*_NAMED_IN_ANSWERS, *_NOT_ABOUT_THE_DECISION, "cost")
    extra = {name: value for name, value in body.items() if name not in known}
    masked = safety.get("piiMasked") if isinstance(safety, dict) else None
    facts: dict[str, Any] = {
        "decision": _text(body.get("decision")),
        "audit_id": _text(body.get("requestId")),
        "provider": _text(body.get("provider")),
        "model": _text(body.get("model")),
        "pii_detected": masked if isinstance(masked, bool) else None,  # which kinds were masked is not said
        "budget_remaining": _budget(body.get("budgetRemaining")),
    }
    if isinstance(cost, dict):
        facts["cost"] = _number(cost.get("actualUsd"))
        extra |= {name: value for name, value in cost.items() if name != "actualUsd"}
    if facts.get("cost") is not None:
        facts["currency"] = "USD"
    return {**facts, "extra": extra}


def _of_error(body: Any) -> dict[str, Any]:
    details = details_of(body)
    reason = _text(details.get("reason"))
    return {
        "decision": _text(details.get("decision")),
        "audit_id": _text(details.get("auditRequestId")),
        "request_id": trace_id_of(body),
        "block_reason": _text(details.get("reasonCode")) or reason,
        "pii_detected": True if reason in PII_REASONS else None,
        "budget_remaining": _budget(details.get("budgetRemaining")),
        "extra": {name: value for name, value in details.items() if name not in _NAMED_IN_DETAILS},
    }


def _budget(remaining: Any) -> dict[str, float | int | None] | None:
    if not isinstance(remaining, dict):
        return None
    return {name: left for name, left in remaining.items() if left is None or _number(left) is not None}


def _number(value: Any) -> float | int | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
