"""What stands between a call and the wire: one file for each middleware, `stack` for their order."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .auth import Auth
from .breaker import Breaker, CircuitChange
from .budget import RetryBudget
from .classify import Classify
from .concurrency import AdaptiveConcurrency
from .idempotency import Idempotency
from .limiter import Limiter
from .policy import Backoff
from .retry import Retry
from .stack import default_stack

if TYPE_CHECKING:
    from .aiohttp_retry_policy import RetryAfterOptions
    from .record import Record
    from .replay import Replay
    from .shared_limiter import SharedLimiter

__all__ = [
    "AdaptiveConcurrency",
    "Auth",
    "Backoff",
    "Breaker",
    "CircuitChange",
    "Classify",
    "Idempotency",
    "Limiter",
    "Record",
    "Replay",
    "Retry",
    "RetryAfterOptions",
    "RetryBudget",
    "SharedLimiter",
    "default_stack",
]


def __getattr__(name: str) -> Any:
    if name in ("Record", "Replay"):  # for tests; a program that calls a gateway does without
        return getattr(import_module(f".{name.lower()}", __name__), name)
    if name == "SharedLimiter":  # for those who have many processes
        from .shared_limiter import SharedLimiter

        return SharedLimiter
    if name == "RetryAfterOptions":  # its base class is aiohttp-retry's, which is imported only by those who use it
        from .aiohttp_retry_policy import RetryAfterOptions

        return RetryAfterOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
