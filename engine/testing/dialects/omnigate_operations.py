"""What OmniGate does besides chats. Ids, keys and figures are made up, and the same every time."""

from __future__ import annotations

from ..answers import Answer
from .omnigate_request import Complaints
from .openai import CREATED
from .problem import Problem, RefusedError
from .request import Request

_PROVIDERS = ("openai", "anthropic", "gemini", "azure")
_RANGES = ("1h", "24h", "7d", "30d")
_GROUPS = ("provider", "model", "user", "status")
_NOW = "2026-01-02T00:00:00Z"
_YESTERDAY = "2026-01-01T00:00:00Z"
_PROJECT = "00000000-0000-4000-8000-00000000000a"
_ORGANISATION = "00000000-0000-4000-8000-00000000000b"


def models(model: str) -> object:
    """The one model the gateway lists."""
    return {"object": "list", "data": [model_card(model)]}


def model_card(model: str) -> object:
    """A model with its price."""
    return {
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "openai",
        "provider": "openai",
        "pricing": {"input_per_1k_usd": 0.001, "output_per_1k_usd": 0.001},
    }


def metrics(request: Request, model: str) -> object:
    """Usage in a range of time, which the figures do not depend on."""
    group, granularity = request.query.get("group_by"), request.query.get("granularity", "hour")
    if request.query.get("range", "24h") not in _RANGES:
        raise RefusedError(Problem(422, "invalid range"))
    if group is not None and group not in _GROUPS:
        raise RefusedError(Problem(422, "invalid group_by"))
    totals = {"requests": 4, "total_tokens": 60, "cost_usd": 0.01, "error_rate": 0.25}
    return {
        "scope": "project",
        "scope_id": _PROJECT,
        "range_from": request.query.get("from", _YESTERDAY),
        "range_to": request.query.get("to", _NOW),
        "group_by": group,
        "granularity": granularity,
        "totals": {
            **totals,
            "prompt_tokens": 40,
            "completion_tokens": 20,
            "cache_hit_rate": 0.5,
            "avg_latency_ms": 210.5,
            "p50_latency_ms": 200.0,
            "p95_latency_ms": 400.0,
            "p99_latency_ms": None,
        },
        "breakdown": [{"key": model, **totals, "avg_latency_ms": 210.5}] if group == "model" else [],
        "timeseries": [{"bucket": _YESTERDAY, **totals}],
    }


def signup(request: Request, _answer: Answer) -> object:
    """A new organisation and project, with a key that is shown this once."""
    complaints = Complaints(request.body)
    email = complaints.require_text("email")
    if email and "@" not in email:
        complaints.add("value is not a valid email address", "value_error", "email")
    complaints.refuse_if_any()
    return {
        "org_id": _ORGANISATION,
        "project_id": _PROJECT,
        "email": email,
        "api_key": f"llmg_signup_{request.number}",
        "message": "Save your api_key now: it is not shown again.",
    }


def set_provider_key(request: Request, _answer: Answer) -> None:
    """Store the key of a provider: nothing is answered, and nothing is kept."""
    complaints = Complaints(request.body)
    provider = complaints.require_text("provider")
    complaints.require_text("api_key", least=8)
    if provider and provider not in _PROVIDERS:
        expected = "Input should be 'openai', 'anthropic', 'gemini' or 'azure'"
        complaints.add(expected, "literal_error", "provider")
    if provider == "azure":
        meta = complaints.body.get("meta") or {}
        if not str(meta.get("endpoint", "")).startswith("https://") or not meta.get("deployment"):
            complaints.add("azure needs meta.endpoint (https) and meta.deployment", "value_error", "meta")
    complaints.refuse_if_any()


def create_api_key(request: Request, _answer: Answer) -> object:
    """One more key, shown this once."""
    complaints = Complaints(request.body)
    name = complaints.require_text("name")
    complaints.refuse_if_any()
    return {
        "id": f"key_{request.number}",
        "name": name,
        "key_prefix": "llmg_mint",
        "created_at": _NOW,
        "last_used_at": None,
        "revoked_at": None,
        "api_key": f"llmg_minted_{request.number}",
    }


def me() -> object:
    """The project of the key."""
    return {
        "project_id": _PROJECT,
        "org_id": _ORGANISATION,
        "project_name": "Default",
        "key_prefix": "llmg_sign",
        "rate_limit_per_min": 60,
        "daily_budget": "5.0000",
        "monthly_budget": "0.0000",
        "configured_providers": ["openai"],
    }
