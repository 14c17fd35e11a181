"""What Modelgov does besides chats. Figures that a real one would count are the same every time."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from ..answers import Answer
from ..words import count_words
from .modelgov_record import BUDGET_REMAINING, governance_record, is_masked, model_name
from .modelgov_request import IDENTITY, OPTIONS, integer, items, read_members, text
from .openai_embeddings import DIMENSIONS, embed
from .problem import InvalidBodyError
from .request import Request

_NOW = "2026-01-02T00:00:00.000Z"
_YESTERDAY = "2026-01-01T00:00:00.000Z"
_MOST_TRANSACTIONS = 200


def embeddings(request: Request, answer: Answer, model: str) -> object:
    """One vector per text, in order."""
    members = read_members(request.body, {**IDENTITY, "input": _input}, {**OPTIONS, "dimensions": integer(1, 4096)})
    texts = [members["input"]] if isinstance(members["input"], str) else members["input"]
    dimensions = members.get("dimensions", DIMENSIONS)
    tokens = sum(map(count_words, texts))
    return {
        "embeddings": [embed(one, dimensions) for one in texts],
        "model": model_name(answer, model),
        "dimensions": dimensions,
        "usage": {"inputTokens": tokens},
        **governance_record(answer, request, tokens=tokens),
    }


def explain(request: Request, answer: Answer, model: str) -> object:
    """What would be decided about a chat. A block is an answer here, and no error."""
    members = read_members(request.body, IDENTITY, OPTIONS)
    facts, model_class = answer.governance, members.get("modelClass", "standard")
    decision = facts.get("decision", "allow")
    explained = {
        "decision": decision,
        "requested": {name: members[name] for name in (*IDENTITY, "modelClass") if name in members},
        "resolved": {
            "modelClass": model_class,
            "model": model_name(answer, model),
            "provider": facts.get("provider", "openai"),
        },
        "safety": {"preset": "standard", "pii": "mask", "promptInjection": "block", "maxOutputTokens": 500},
        "cost": {"estimatedUsd": facts.get("cost", 0.0001)},
        "budget": {
            "remaining": facts.get("budget_remaining", BUDGET_REMAINING),
            "used": {"userDailyUsd": 0.0, "userDailyRequests": 0, "featureMonthlyUsd": 0.0, "globalMonthlyUsd": 0.0},
            "permittedModels": [model_class],
            "dailyRequestLimit": 50,
            "dailyRequestsRemaining": 50,
        },
        "wouldCallModel": decision != "block",
        "summary": f"Decision: {decision}",
    }
    reasons = {"reason": facts.get("reason"), "reasonCode": facts.get("reason_code")}
    return {**explained, **{name: value for name, value in reasons.items() if value is not None}}


def extract_document(request: Request, answer: Answer) -> object:
    """The text of a document: the answer's, else what its base64 says, else where it came from."""
    required = {**IDENTITY, "provider": text(), "document": _document}
    members = read_members(request.body, required, {**OPTIONS, "model": text(), "pages": integer(1)})
    extracted = {
        "text": answer.content if answer.content is not None else _document_text(members["document"]),
        "pages": members.get("pages", 1),
        **governance_record(answer, request, tokens=members.get("pages", 1)),
        "provider": answer.governance.get("provider", members["provider"]),
        "safety": {"piiMasked": is_masked(answer)},
    }
    return {**extracted, "model": members["model"]} if "model" in members else extracted


def usage(request: Request, _answer: Answer) -> object:
    """Budget counters, for as much of them as the query names."""
    counters: dict[str, Any] = {"asOf": _NOW, "recentRequests": {"last24h": 5, "last24hFailed": 1}}
    window = {"windowStart": _YESTERDAY, "usedUsd": 0.01, "reservedUsd": 0.0}
    if "projectId" in request.query:
        counters["projectId"] = request.query["projectId"]
    if "userId" in request.query:
        counters["userDaily"] = {"userId": request.query["userId"], **window, "requestsUsed": 3}
    if "feature" in request.query:
        counters["featureMonthly"] = {"feature": request.query["feature"], **window}
    return {**counters, "globalMonthly": {**window, "capUsd": 500}}


def usage_summary(request: Request, model: str) -> object:
    """What requests cost and how they ended since yesterday, whatever `since` says."""
    asked = {name: request.query[name] for name in ("feature", "userType") if name in request.query}
    return {
        "since": _YESTERDAY,
        **asked,
        "requests": 10,
        "completed": 8,
        "blocked": 1,
        "degraded": 0,
        "fallbacks": 1,
        "safetyBlocked": 1,
        "actualCostUsd": 0.02,
        "estimatedCostUsd": 0.03,
        "topReasonCode": {"code": "daily_budget_exceeded", "count": 1},
        "topModel": {"model": f"openai/{model}", "count": 9},
    }


def usage_transactions(request: Request, _answer: Answer) -> object:
    """What belongs together by correlation id: one transaction."""
    limit = request.query.get("limit", "50")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_TRANSACTIONS:
        raise InvalidBodyError(f"limit: must be from 1 to {_MOST_TRANSACTIONS}", param="limit")
    transaction = {
        "correlationId": "txn-1",
        "requests": 2,
        "externalEvents": 1,
        "actualCostUsd": 0.03,
        "llmCostUsd": 0.02,
        "externalCostUsd": 0.01,
        "estimatedCostUsd": 0.04,
        "firstSeen": _YESTERDAY,
        "lastSeen": _NOW,
    }
    return {"since": _YESTERDAY, "limit": int(limit), "transactions": [transaction]}


def provider_health(model: str) -> object:
    """The one model, in good health."""
    return {"status": "ok", "models": [{"model": model, "provider": "openai", "healthy": True}]}


def _input(value: Any) -> str | None:
    one = text(32_000)
    return one(value) if isinstance(value, str) else items(one, 1, 256)(value)


def _document(value: Any) -> str | None:
    sources = {"base64", "url", "s3"} & set(value) if isinstance(value, Mapping) else set()
    if len(sources) != 1:
        return "must have exactly one of base64, url and s3"
    return None if isinstance(value[sources.pop()], str) else "must have a source that is a string"


def _document_text(document: Mapping[str, str]) -> str:
    if "base64" not in document:
        (source,) = document.values()
        return f"The text of {source}."
    try:
        return b64decode(document["base64"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "The text of a document."
