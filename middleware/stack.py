"""The order of the stack, outermost first, and the reason for each neighbour.

Telemetry     sees the whole call, all attempts and waits
Cache         an answer at hand needs nothing of what follows
Fallback      another model or route is another request ...
Hedge         ... and so is another arm, so both stand outside of
Idempotency   one key for each request and body, the same on every attempt, hence outside of
Retry         the loop; what stands inside runs once for each attempt
Breaker       counts every attempt, and an open circuit costs no slot
Limiter       inside Retry: a call that waits to try again holds no slot
Auth          a fresh credential for each attempt
Classify      innermost of what decides: everything outside sees typed errors
Record,       what the wire delivered to one attempt, before anybody has judged it; in its place only one
Replay
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from penstock.engine.errors import MiddlewareOrderError

from .auth import Auth
from .breaker import Breaker
from .classify import Classify
from .idempotency import Idempotency
from .limiter import Limiter
from .places import RETRY
from .retry import Retry

if TYPE_CHECKING:
    from .shared_limiter import SharedLimiter

AnyMiddleware = Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
AnyHandler = Callable[[Any], Awaitable[Any]]


def default_stack(
    *,
    idempotency: Idempotency | None = None,
    retry: Retry | None = None,
    breaker: Breaker | None = None,
    limiter: Limiter | SharedLimiter | None = None,
    auth: Auth | None = None,
) -> list[AnyMiddleware]:
    """The middlewares an engine uses when it is given none; each may be replaced by one with other options.

    There is no `Breaker` and no `Limiter` unless one is given.
    """
    limits = [limit for limit in (breaker, limiter) if limit is not None]
    return [idempotency or Idempotency(), retry or Retry(), *limits, auth or Auth(), Classify()]


def checked_stack(middlewares: Iterable[AnyMiddleware]) -> tuple[AnyMiddleware, ...]:
    """The stack an engine can run: in an order that works, with `Classify` in it.

    `Classify` is put innermost when it is missing: without it there are no typed errors. Middlewares without a
    `place` stand where they are put.

    Raises:
        MiddlewareOrderError: Two stand in the wrong order, or there are two retry loops. The message says what to
            change.
    """
    if not isinstance(middlewares, (list, tuple)):
        raise MiddlewareOrderError(f"middleware= is a list of middlewares, not {type(middlewares).__name__}")
    stack = tuple(middlewares)
    for middleware in stack:
        if not callable(middleware) or isinstance(middleware, type):
            raise MiddlewareOrderError(
                f"a middleware is an object to be called with (request, handler), not {middleware!r}"
            )
    placed = [middleware for middleware in stack if _place(middleware) is not None]
    for outer, inner in zip(placed, placed[1:]):
        if _place(outer) > _place(inner):
            raise MiddlewareOrderError(
                f"{_name(outer)} stands outside of {_name(inner)}, which cannot work: swap them. "
                f"From outside to inside: {', '.join(_name(each) for each in sorted(placed, key=_place))}"
            )
    for outer, inner in zip(placed, placed[1:]):
        if _place(outer) == _place(inner):
            why = "multiply their attempts" if _place(outer) == RETRY else "do the same work twice"
            raise MiddlewareOrderError(f"two {_name(outer)} middlewares {why}: keep one")
    return stack if any(isinstance(middleware, Classify) for middleware in stack) else (*stack, Classify())


def compose(middlewares: Sequence[AnyMiddleware], innermost: AnyHandler) -> AnyHandler:
    """One handler from a stack, the first middleware outermost."""
    handler = innermost
    for middleware in reversed(middlewares):
        handler = _bind(middleware, handler)
    return handler


def _bind(middleware: AnyMiddleware, handler: AnyHandler) -> AnyHandler:
    def bound(request: Any) -> Awaitable[Any]:
        return middleware(request, handler)

    return bound


def _place(middleware: AnyMiddleware) -> Any:
    return getattr(middleware, "place", None)


def _name(middleware: AnyMiddleware) -> str:
    return type(middleware).__name__
