"""How an attempt ended: known when it fails, or when its answer is over, and told once."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from penstock.engine.errors import ModelEngineError
from penstock.engine.exchange import CallContext
from penstock.engine.failures import FOREIGN, translate
from penstock.engine.types import Attempt, UsageInfo
from penstock.engine.verdict import Answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Args:
        error: What it failed with. `None` when it did not fail.
        broken_off: Whether it was ended from our side before its end: cancelled, lost, or by a bug.
        usage: The tokens it took. `None` where nobody tells.
    """

    error: ModelEngineError | None = None
    broken_off: bool = False
    usage: UsageInfo | None = None

    @property
    def is_success(self) -> bool:
        return self.error is None and not self.broken_off


async def observed(
    request: Any,
    handler: Callable[[Any], Awaitable[Any]],
    context: CallContext,
    report: Callable[[Outcome], None],
) -> Any:
    """Call the handler, and `report` exactly once how the attempt ended.

    In the engine an answer has ended when its connection is given back, a stream's with its last byte. On a plain
    session nobody tells of that: there it has ended when its head is here, and the status decides.
    """
    try:
        reply = await handler(request)
    except ModelEngineError as error:
        report(Outcome(error))
        raise
    except FOREIGN as foreign:
        report(Outcome(translate(foreign, "no_answer")))
        raise
    except BaseException:
        report(Outcome(broken_off=True))
        raise
    on_close = getattr(reply, "on_close", None)
    if on_close is None:
        report(_by_status(reply, context))
    else:
        on_close(_Closing(reply, context.attempts[-1] if context.attempts else None, report))
    return reply


def _by_status(reply: Any, context: CallContext) -> Outcome:
    if reply.status < 400:
        return Outcome()
    return Outcome(context.target.judge(Answer(reply.status, reply.headers, b"", context.clock.time())))


class _Closing:
    """Called when a reply is over. Does not keep it alive: the reply keeps this."""

    __slots__ = ("_attempt", "_reply", "_report")

    def __init__(self, reply: Any, attempt: Attempt | None, report: Callable[[Outcome], None]) -> None:
        self._reply = weakref.ref(reply)
        self._attempt = attempt
        self._report: Callable[[Outcome], None] | None = report

    def __call__(self) -> None:
        report, self._report = self._report, None
        if report is not None:
            report(self._outcome())

    def _outcome(self) -> Outcome:
        reply = self._reply()
        if reply is None:
            return Outcome(broken_off=True)
        # A reader that was cancelled leaves no failure on its reply, but its name in the ledger.
        broken_off = reply.failure is None and self._attempt is not None and self._attempt.error is not None
        return Outcome(reply.failure, broken_off, reply.usage)
