"""Penstock: the async streaming engine for LLM gateways, with retry and idempotency as middleware.

from penstock import ModelEngine

async with ModelEngine("gpt-4o-mini") as engine:
async for chunk in engine.stream_call("Name a prime."):
print(chunk.delta_content or "", end="")
"""

from typing import TYPE_CHECKING, Any

from .engine import errors
from .engine.config import ModelConfig
from .engine.engines import NIM, OpenAI
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
from .middleware import Auth, Backoff, Classify, Idempotency, Retry, default_stack

if TYPE_CHECKING:
    from .middleware import RetryAfterOptions

__version__ = "0.1.0"

__all__ = [
    "NIM",
    "Attempt",
    "Auth",
    "Backoff",
    "ChatStream",
    "Classify",
    "EmbeddingResponse",
    "Governance",
    "Health",
    "Idempotency",
    "LLMResponse",
    "LLMResponseChunk",
    "ModelConfig",
    "ModelEngine",
    "ModelEngineError",
    "ModelInfo",
    "OpenAI",
    "Retry",
    "RetryAfterOptions",
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


def __getattr__(name: str) -> Any:
    if name == "RetryAfterOptions":  # imports aiohttp-retry, which only its users need
        from .middleware import RetryAfterOptions

        return RetryAfterOptions
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")
