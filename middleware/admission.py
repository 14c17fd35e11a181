"""What limiters do alike: how long a call may wait for its turn, and what it does with its slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from penstock.engine.errors import DeadlineExceededError, ModelEngineError, QueueTimeoutError
from penstock.engine.exchange import CallContext

from .line import NEVER
from .outcome import Outcome, observed


class Held(Protocol):
    """A slot in use."""

    def over(self, outcome: Outcome) -> None:
        """The attempt is over, in whatever way. Called once."""
        ...

    def learn(self, headers: Mapping[str, str]) -> None:
        """The gateway has said this."""
        ...

    def slow(self) -> None:
        """The stream was slower to begin than it may be."""
        ...


def longest_wait(context: CallContext) -> float:
    """Seconds a call may wait for its turn: ``Timeouts.queue``, and no longer than its deadline. `NEVER` for any."""
    queue, left = context.timeouts.queue, context.time_left
    return min(NEVER if queue is None else queue, NEVER if left is None else left)


def too_late(context: CallContext, within: float, told: str) -> ModelEngineError:
    """The turn did not come within so many seconds.

    Args:
        context: Whose turn.
        within: What `longest_wait` gave.
        told: How it looks at the limiter, for the message.
    """
    error: ModelEngineError
    if context.timeouts.queue is None or within < context.timeouts.queue:
        error = DeadlineExceededError("the deadline came before the call's turn", phase="not_sent")
    else:
        error = QueueTimeoutError(f"the call's turn did not come within {within:g} s: {told}", phase="not_sent")
    error.model_name, error.gateway = context.model, context.target.gateway
    return error


async def held(
    request: Any,
    handler: Callable[[Any], Awaitable[Any]],
    context: CallContext,
    slot: Held,
    first_event: float | None,
) -> Any:
    """Call the handler with a slot, which knows in the end how it went.

    Args:
        request: What to send.
        handler: What sends it.
        context: Of the call.
        slot: What it holds.
        first_event: Seconds from here to the first output of a stream above which it was too slow. `None` takes no
            notice.
    """
    started = context.clock.monotonic()
    try:
        reply = await observed(request, handler, context, slot.over)
    except ModelEngineError as error:
        slot.learn(error.headers)
        raise
    slot.learn(reply.headers)
    if first_event is None or not context.stream:
        return reply
    try:
        await reply.commit()  # what is outside of here waits for this in any case
    except BaseException:
        reply.release()
        raise
    if context.clock.monotonic() - started > first_event:
        slot.slow()
    return reply
