"""The JSON of Modelgov that is given to callers as it comes. Members may be added by later gateways."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Cost(TypedDict, total=False):
    """US dollars."""

    estimatedUsd: float | None
    actualUsd: float | None


class BudgetRemaining(TypedDict, total=False):
    """What is left of each budget. `None` where a budget has no limit."""

    userDailyUsd: float | None
    featureMonthlyUsd: float | None
    globalMonthlyUsd: float | None
    userDailyTokens: int | None
    featureMonthlyTokens: int | None
    globalMonthlyTokens: int | None


class _Requested(TypedDict):
    userId: str
    userType: str
    feature: str


class Requested(_Requested, total=False):
    """Who asked, and for what."""

    modelClass: str


class Resolved(TypedDict, total=False):
    """Which model a request would get."""

    modelClass: str
    model: str
    provider: str
    fallbackModel: str


class SafetyRules(TypedDict, total=False):
    """The safety rules of a feature."""

    preset: str
    pii: str
    promptInjection: str
    maxOutputTokens: int


class BudgetUsed(TypedDict, total=False):
    """What the budgets' windows have seen so far."""

    userDailyUsd: float
    userDailyRequests: int
    featureMonthlyUsd: float
    globalMonthlyUsd: float


class Budget(TypedDict, total=False):
    """Budgets and limits of a user."""

    remaining: BudgetRemaining | None
    used: BudgetUsed
    permittedModels: list[str]
    dailyRequestLimit: int | None
    dailyRequestsRemaining: int | None


class _Explanation(TypedDict):
    decision: Literal["allow", "block", "degrade", "fallback"]
    wouldCallModel: bool
    summary: str


class Explanation(_Explanation, total=False):
    """What would be decided about a chat. A block is an answer here, and no error."""

    reason: str
    reasonCode: str
    requested: Requested
    resolved: Resolved
    safety: SafetyRules
    cost: Cost
    budget: Budget


class _Window(TypedDict):
    windowStart: str
    usedUsd: float
    reservedUsd: float


class UserDaily(_Window, total=False):
    """What a user has used today."""

    userId: str
    requestsUsed: int


class FeatureMonthly(_Window, total=False):
    """What a feature has used this month."""

    feature: str


class GlobalMonthly(_Window, total=False):
    """What everybody has used this month."""

    capUsd: float | None


class RecentRequests(TypedDict):
    """Requests of the last 24 hours."""

    last24h: int
    last24hFailed: int


class _Usage(TypedDict):
    asOf: str
    recentRequests: RecentRequests


class Usage(_Usage, total=False):
    """Counters of the budgets that the query names."""

    projectId: str
    userDaily: UserDaily
    featureMonthly: FeatureMonthly
    globalMonthly: GlobalMonthly


class ReasonCount(TypedDict):
    """How often a reason code was given."""

    code: str
    count: int


class ModelCount(TypedDict):
    """How often a model was used."""

    model: str
    count: int


class _UsageSummary(TypedDict):
    since: str
    requests: int
    completed: int
    blocked: int
    degraded: int
    fallbacks: int
    safetyBlocked: int
    actualCostUsd: float
    estimatedCostUsd: float


class UsageSummary(_UsageSummary, total=False):
    """How requests ended and what they cost, since a time."""

    feature: str
    userType: str
    topReasonCode: ReasonCount | None
    topModel: ModelCount | None


class Transaction(TypedDict):
    """What belongs together by the caller's ``request_id``. Costs in US dollars, times in ISO 8601."""

    correlationId: str
    requests: int
    externalEvents: int
    actualCostUsd: float
    llmCostUsd: float
    externalCostUsd: float
    estimatedCostUsd: float
    firstSeen: str
    lastSeen: str


class UsageTransactions(TypedDict):
    """Transactions since a time, at most `limit` of them."""

    since: str
    limit: int
    transactions: list[Transaction]


class _ModelHealth(TypedDict):
    model: str
    provider: str
    healthy: bool


class ModelHealth(_ModelHealth, total=False):
    """Whether a model can be reached, and if not, why."""

    error: str


class ProviderHealth(TypedDict):
    """Health of all models."""

    status: Literal["ok", "degraded", "fail", "skipped"]
    models: list[ModelHealth]


class DocumentSafety(TypedDict, total=False):
    """What was done to the text of a document."""

    piiMasked: bool
    structuredWithheld: bool


class _ExtractedDocument(TypedDict):
    text: str
    pages: int
    provider: str
    decision: str
    requestId: str


class ExtractedDocument(_ExtractedDocument, total=False):
    """The text of a document. `tables`, `fields` and `documents` are of the provider's shape."""

    model: str
    tables: list[dict[str, Any]]
    fields: dict[str, Any]
    documents: list[dict[str, Any]]
    reason: str
    cost: Cost
    budgetRemaining: BudgetRemaining | None
    safety: DocumentSafety


class DocumentSource(TypedDict, total=False):
    """Where a document is: exactly one of them."""

    base64: str
    url: str
    s3: str
