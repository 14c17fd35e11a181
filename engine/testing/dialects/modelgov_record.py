"""What Modelgov states with every answer of a model: decision, cost, budget, audit id."""

from __future__ import annotations

from typing import Any

from ..answers import Answer
from .request import Request

_USD_PER_TOKEN = 1e-06

BUDGET_REMAINING = {
    "userDailyUsd": 1.0,
    "featureMonthlyUsd": None,
    "globalMonthlyUsd": 100.0,
    "userDailyTokens": None,
    "featureMonthlyTokens": None,
    "globalMonthlyTokens": None,
}


def audit_id(answer: Answer, request: Request) -> str | None:
    """The id of the answer in the audit trail. It is not the id of the request."""
    return answer.governance.get("audit_id", f"req_{request.number}")


def model_name(answer: Answer, model: str) -> str | None:
    """The model that answered, with its provider before it."""
    return answer.governance.get("model", f"openai/{model}")


def governance_record(answer: Answer, request: Request, *, tokens: int) -> dict[str, Any]:
    """The members that say what was decided. `tokens` makes the price."""
    facts, price = answer.governance, round(tokens * _USD_PER_TOKEN, 9)
    record = {
        "provider": facts.get("provider", "openai"),
        "decision": facts.get("decision", "allow"),
        "cost": {"estimatedUsd": price, "actualUsd": facts.get("cost", price)},
        "budgetRemaining": facts.get("budget_remaining", BUDGET_REMAINING),
        "requestId": audit_id(answer, request),
    }
    if "reason" in facts:
        record["reason"] = facts["reason"]
    return record


def is_masked(answer: Answer) -> bool:
    """Whether personal data was masked in the answer."""
    return bool(answer.governance.get("redactions"))
