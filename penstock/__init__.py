"""Penstock: the async streaming engine for LLM gateways, with retry and idempotency as middleware.

    from penstock import ModelEngine

    async with ModelEngine("gpt-4o-mini") as engine:
        async for chunk in engine.stream_call("Name a prime."):
            print(chunk.delta_content or "", end="")

Each name is imported when it is first used, so that what only names the package does not load an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .engine.config import ModelConfig
    from .engine.engines import NIM, Atrium, Keeptrusts, Modelgov, OmniGate, OpenAI
    from .engine.errors import ModelEngineError, StreamTruncatedError
    from .engine.model_engine import ModelEngine
    from .engine.sse import ServerSentEvent, SSEDecoder
    from .engine.stream import ChatStream
    from .engine.types import (
        Attempt,
        EmbeddingResponse,
        Governance,
        Health,
        LLMResponse,
        LLMResponseChunk,
        ModelInfo,
        StreamSummary,
        Timeouts,
        ToolCall,
        UsageInfo,
    )
    from .middleware import (
        AdaptiveConcurrency,
        Auth,
        Backoff,
        Breaker,
        Classify,
        Idempotency,
        Limiter,
        Record,
        Replay,
        Retry,
        RetryAfterOptions,
        RetryBudget,
        default_stack,
    )

__version__ = "0.1.0"

__all__ = [
    "NIM",
    "AdaptiveConcurrency",
    "Atrium",
    "Attempt",
    "Auth",
    "Backoff",
    "Breaker",
    "ChatStream",
    "Classify",
    "EmbeddingResponse",
    "Governance",
    "Health",
    "Idempotency",
    "Keeptrusts",
    "LLMResponse",
    "LLMResponseChunk",
    "Limiter",
    "ModelConfig",
    "ModelEngine",
    "ModelEngineError",
    "ModelInfo",
    "Modelgov",
    "OmniGate",
    "OpenAI",
    "Record",
    "Replay",
    "Retry",
    "RetryAfterOptions",
    "RetryBudget",
    "SSEDecoder",
    "ServerSentEvent",
    "StreamSummary",
    "StreamTruncatedError",
    "Timeouts",
    "ToolCall",
    "UsageInfo",
    "__version__",
    "default_stack",
    "errors",
]

_HOMES = {
    "AdaptiveConcurrency": ".middleware",
    "Atrium": ".engine.engines",
    "Attempt": ".engine.types",
    "Auth": ".middleware",
    "Backoff": ".middleware",
    "Breaker": ".middleware",
    "ChatStream": ".engine.stream",
    "Classify": ".middleware",
    "EmbeddingResponse": ".engine.types",
    "Governance": ".engine.types",
    "Health": ".engine.types",
    "Idempotency": ".middleware",
    "Keeptrusts": ".engine.engines",
    "LLMResponse": ".engine.types",
    "LLMResponseChunk": ".engine.types",
    "Limiter": ".middleware",
    "ModelConfig": ".engine.config",
    "ModelEngine": ".engine.model_engine",
    "ModelEngineError": ".engine.errors",
    "ModelInfo": ".engine.types",
    "Modelgov": ".engine.engines",
    "NIM": ".engine.engines",
    "OmniGate": ".engine.engines",
    "OpenAI": ".engine.engines",
    "Record": ".middleware",
    "Replay": ".middleware",
    "Retry": ".middleware",
    "RetryAfterOptions": ".middleware",
    "RetryBudget": ".middleware",
    "SSEDecoder": ".engine.sse",
    "ServerSentEvent": ".engine.sse",
    "StreamSummary": ".engine.types",
    "StreamTruncatedError": ".engine.errors",
    "Timeouts": ".engine.types",
    "ToolCall": ".engine.types",
    "UsageInfo": ".engine.types",
    "default_stack": ".middleware",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(f"{__name__}.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}{_HOMES[name]}"), name)
    globals()[name] = value  # the next look-up finds it here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
