"""What goes in and out of OmniGate as JSON. Members not named here are kept as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from ...types import Timeouts

MetricsRange = Literal["1h", "24h", "7d", "30d"]
MetricsGroup = Literal["provider", "model", "user", "status"]
Provider = Literal["openai", "anthropic", "gemini", "azure"]


class CallParams(TypedDict, total=False):
    """The options of a call, see `penstock.engine.model_engine.CallOptions`."""

    timeouts: Timeouts | None
    timeout: float | None
    idempotency_key: str | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None


class OmniGateChatParams(CallParams, total=False):
    """What a chat takes beside the messages. `None` is left out of the body.

    ``user_id`` is sent as ``x-user-id`` and wins over the engine's. ``max_tokens`` is at least 1, ``temperature``
    from 0 to 2, ``fallback_models`` are at most 5. ``fallback_models`` and ``cache`` have no effect on completions.
    """

    model: str | None
    user_id: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | list[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    fallback_models: list[str] | None
    cache: bool | None


class _Account(TypedDict):
    org_id: str
    project_id: str
    email: str
    api_key: str


class OmniGateAccount(_Account, total=False):
    """A new account. ``api_key`` is shown this once; older servers leave ``message`` out."""

    message: str


class OmniGateApiKey(TypedDict):
    """A new key. ``api_key`` is shown this once. Times are ISO 8601."""

    id: str
    name: str
    key_prefix: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None
    api_key: str


class _Project(TypedDict):
    project_id: str
    org_id: str
    project_name: str
    key_prefix: str
    rate_limit_per_min: int
    configured_providers: list[str]


class OmniGateProject(_Project, total=False):
    """The project of a key. Budgets are USD as decimal text, 0 for no limit; older servers leave them out."""

    daily_budget: str
    monthly_budget: str


class OmniGateTotals(TypedDict):
    """Sums of a range. Rates are from 0 to 1, latencies in milliseconds, `None` where there were no requests."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: float
    error_rate: float
    cache_hit_rate: float
    avg_latency_ms: float
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None


class OmniGateGroup(TypedDict):
    """Sums of one group; ``key`` is the provider, model, user or status."""

    key: str
    requests: int
    total_tokens: int
    cost_usd: float
    avg_latency_ms: float
    error_rate: float


class OmniGateTimePoint(TypedDict):
    """Sums of one interval, which begins at ``bucket`` (ISO 8601). Intervals without requests are left out."""

    bucket: str
    requests: int
    total_tokens: int
    cost_usd: float
    error_rate: float


class OmniGateMetrics(TypedDict):
    """What was used in a range of time."""

    scope: str
    scope_id: str
    range_from: str
    range_to: str
    group_by: str | None
    granularity: str
    totals: OmniGateTotals
    breakdown: list[OmniGateGroup]
    timeseries: list[OmniGateTimePoint]


class OmniGatePricing(TypedDict):
    """USD for a thousand tokens."""

    input_per_1k_usd: float
    output_per_1k_usd: float


class OmniGateModelExtra(TypedDict):
    """What `ModelInfo.extra` holds of a model. ``pricing`` is `None` where the price is not known."""

    provider: str
    pricing: OmniGatePricing | None
