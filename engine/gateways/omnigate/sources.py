"""Who an error comes from: the gateway itself, or the provider behind it. Both may use the same status."""

from __future__ import annotations

import re
from dataclasses import replace

from ...errors import (
    Advice,
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    ModelEngineError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    SafetyBlockedError,
)
from ...types import Governance

_VENDOR = r"[\w.-]+(?: [\w.-]+)?"  # "OpenAI", "Azure OpenAI"
_PROVIDER_STATUS = re.compile(rf"{_VENDOR} error (?P<status>[45][0-9][0-9]):")

# The server's words: app/middleware, app/services/routing and app/providers of its source.
_BY_WORDS: tuple[tuple[re.Pattern[str], type[ModelEngineError]], ...] = (
    (re.compile(r"Missing x-api-key header\b|Invalid API key\Z"), AuthenticationError),
    (re.compile(r"(?:Project|Organisation) (?:daily|monthly) budget exceeded\Z"), BudgetExceededError),
    (re.compile(r"Rate limit exceeded\Z"), RateLimitError),
    (re.compile(rf"{_VENDOR} circuit is open\Z"), OverloadedError),
    (re.compile(r"No provider registered for model "), NotFoundError),
    # The provider was not asked: the project lacks its key, which only the caller can give. The message says how.
    (re.compile(rf"No {_VENDOR} key configured for this project\b"), InvalidRequestError),
    (re.compile(r"Azure credential is missing |Azure deployment not specified"), InvalidRequestError),
    (re.compile(r"Gemini returned no candidates: [A-Z_]+\Z"), SafetyBlockedError),  # Gemini's blockReason
    (re.compile(rf"{_VENDOR} (?:request|call) failed\b|No provider candidate could handle"), ProviderError),
)


def class_by_words(message: str) -> type[ModelEngineError] | None:
    """The class of an answer whose text is one of the gateway's own. `None` for other texts."""
    return next((error_class for words, error_class in _BY_WORDS if words.match(message)), None)


def provider_status(message: str) -> int | None:
    """The provider's own status in ``<Vendor> error <status>: <body>``. `None` for other texts."""
    match = _PROVIDER_STATUS.match(message)
    return int(match["status"]) if match else None


def provider_advice(status: int) -> Advice:
    """What helps when the provider answered that status. Its 401 is about its own key, which no refresh of ours
    changes.
    """
    return "after" if status == 429 or status >= 500 else "never"


def with_source(error: ModelEngineError) -> ModelEngineError:
    """Write on an error what its text says: the provider's status, or why the gateway blocked. Returns the error."""
    governance = error.governance or Governance()
    if isinstance(error, ProviderError):
        error.type = error.type or "provider_error"  # the twin's word for it
        if (status := provider_status(error.message)) is not None:
            error.governance = replace(governance, extra={**governance.extra, "provider_status": status})
    elif isinstance(error, (BudgetExceededError, SafetyBlockedError)):
        error.governance = replace(governance, block_reason=error.message)
    return error
