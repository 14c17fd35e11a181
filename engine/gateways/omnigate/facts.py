"""What OmniGate's headers and bodies say about a call, read without trusting them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ...types import Governance

_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_WHOLE = re.compile(r"[0-9]{1,15}")
_BUDGETS = ("project_daily", "org_daily", "project_monthly", "org_monthly")


def read_governance(headers: Mapping[str, str], body: Any) -> Governance | None:
    """The facts of an answer, those of the body before those of the headers. `None` when there are none.

    In ``extra``: ``cached`` and ``fallback_used``; ``ratelimit_limit``, ``ratelimit_remaining`` and
    ``ratelimit_reset`` (s); ``budget_project_daily_spend``, ``budget_project_daily_limit`` (USD, 0 for no limit), and
    so on for ``org`` and ``monthly``.
    """
    members = body if isinstance(body, dict) else {}
    cost = _number(members, "cost_usd")
    found = Governance(
        request_id=headers.get("x-request-id"),
        provider=_text(members, "provider") or headers.get("x-llmgw-provider"),
        model=_text(members, "model") or headers.get("x-llmgw-model"),
        cost=cost,
        currency=None if cost is None else "USD",
        budget_remaining=_budgets_remaining(headers) or None,
        latency_ms=_number(members, "latency_ms"),
        extra=dict([*_flags(headers, members), *_rate_limit(headers), *_amounts(headers)]),
    )
    return found if found != Governance() else None


def _budgets_remaining(headers: Mapping[str, str]) -> dict[str, float | int | None]:
    """USD left of each budget, not below 0. `None` where there is no limit."""
    remaining: dict[str, float | int | None] = {}
    for budget in _BUDGETS:
        limit, spend = _amount(headers, budget, "limit"), _amount(headers, budget, "spend")
        if limit is not None and spend is not None:
            remaining[budget] = float(max(limit - spend, Decimal(0))) if limit else None
    return remaining


def _amounts(headers: Mapping[str, str]) -> Iterable[tuple[str, float]]:
    for budget in _BUDGETS:
        for what in ("spend", "limit"):
            if (amount := _amount(headers, budget, what)) is not None:
                yield f"budget_{budget}_{what}", float(amount)


def _amount(headers: Mapping[str, str], budget: str, what: str) -> Decimal | None:
    value = headers.get(f"x-budget-{budget.replace('_', '-')}-{what}", "")
    return Decimal(value) if _DECIMAL.fullmatch(value) else None


def _rate_limit(headers: Mapping[str, str]) -> Iterable[tuple[str, int]]:
    for name in ("limit", "remaining", "reset"):
        value = headers.get(f"x-ratelimit-{name}", "")
        if _WHOLE.fullmatch(value):
            yield f"ratelimit_{name}", int(value)


def _flags(headers: Mapping[str, str], members: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    for name, header in (("cached", "x-llmgw-cached"), ("fallback_used", "x-llmgw-fallback")):
        flag = members.get(name)
        if not isinstance(flag, bool):
            flag = {"true": True, "false": False}.get(headers.get(header, "").lower())
        if flag is not None:
            yield name, flag


def _number(members: Mapping[str, Any], name: str) -> float | None:
    value = members.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None
