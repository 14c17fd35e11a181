"""One lazy timer for all clocks of an engine.

A stream of tokens moves its clocks with each read. Re-arming a timer each time would cost more than the read, so
nothing is re-armed: a `Watch` is asked, when it may be due, whether it is, and answers with the next time to ask.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakMethod

from .errors import ModelEngineError

if TYPE_CHECKING:
    from typing_extensions import Self

Check = Callable[[float], "float | None"]
"""Asked with the time of the loop: acts when a clock has run out. Returns when to ask again, `None` for never."""

NEVER = float("inf")
_SWEEP_FROM = 64  # stopped watches; fewer are not worth the work


class Watch:
    """A promise to ask. `stop` ends it; twice is harmless."""

    __slots__ = ("_check", "_watchdog", "is_queued")

    def __init__(self, watchdog: Watchdog, check: Check) -> None:
        self._watchdog = watchdog
        self._check: Check | None = check
        self.is_queued = False

    @property
    def is_stopped(self) -> bool:
        return self._check is None

    def stop(self) -> None:
        if self._check is not None:
            self._check = None
            if self.is_queued:
                self._watchdog.stopped_one()

    def ask(self, now: float) -> float | None:
        return None if self._check is None else self._check(now)


class Watchdog:
    """Asks watches when they are due, with a single timer of the loop.

    Attributes:
        time: The loop's clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # Without the method around it where that adds nothing: it is wanted for each read.
        self.time = time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
        self._heap: list[tuple[float, int, Watch]] = []
        self._tie = count()  # watches do not compare
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = NEVER
        self._stopped = 0  # watches in the heap that are stopped

    def watch(self, due: float, check: Check) -> Watch:
        """Ask `check` at `due`, in seconds of the loop's clock; `NEVER` is never."""
        watch = Watch(self, check)
        self._queue(due, watch)
        if due < self._armed_for:
            self._arm()
        return watch

    def close(self) -> None:
        """Ask nobody any more."""
        for _, _, watch in self._heap:
            watch.is_queued = False
        self._heap.clear()
        self._stopped = 0
        self._arm()

    def stopped_one(self) -> None:
        """A watch that is still queued was stopped."""
        self._stopped += 1
        # Stopped watches wait in the heap for their time, minutes away: swept out when they are the most of it.
        if self._stopped > _SWEEP_FROM and self._stopped * 2 > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if not entry[2].is_stopped]
            heapq.heapify(self._heap)
            self._stopped = 0
            self._arm()

    def _queue(self, due: float, watch: Watch) -> None:
        watch.is_queued = due < NEVER
        if watch.is_queued:
            heapq.heappush(self._heap, (due, next(self._tie), watch))

    def _arm(self) -> None:
        """Set the timer for the first of the heap."""
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = self._heap[0][0] if self._heap else NEVER
        self._handle = self.loop.call_at(self._armed_for, self._tick) if self._heap else None

    def _tick(self) -> None:
        now = self.time()
        try:
            while self._heap and self._heap[0][0] <= now:
                self._ask_first(now)
        finally:
            self._arm()  # also when a check failed: the others keep their clocks

    def _ask_first(self, now: float) -> None:
        _, _, watch = heapq.heappop(self._heap)
        watch.is_queued = False
        if watch.is_stopped:
            self._stopped -= 1
            return
        again = watch.ask(now)
        if again is not None and not watch.is_stopped:
            # Never at once again: a check that answers with the past must not keep the loop busy.
            self._queue(max(again, now + 0.001), watch)


def weakly(method: Check) -> Check:
    """A check that does not keep the object of its method alive."""
    reference = WeakMethod(method)

    def check(now: float) -> float | None:
        alive = reference()
        return None if alive is None else alive(now)

    return check


class TaskLimit:
    """Bounds what the current task does inside a ``with`` block, and tells its own cancellation from somebody else's.

    When the time is up, or `interrupt` is called, the task is cancelled; the block then ends without an exception and
    `error` says why. A cancellation from elsewhere passes.

    Args:
        watchdog: Who looks at the time.
        due: When the time is up, in seconds of the loop's clock; `NEVER` is never.
        make_error: Makes the error for that case.
    """

    __slots__ = ("_cancelling", "_due", "_make_error", "_task", "_watch", "_watchdog", "error")

    def __init__(self, watchdog: Watchdog, due: float, make_error: Callable[[], ModelEngineError]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.error: ModelEngineError | None = None
        self._task = task
        self._cancelling = 0
        if sys.version_info >= (3, 11):
            self._cancelling = task.cancelling()
        self._watchdog = watchdog
        self._due = due
        self._make_error = make_error
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        if self._due < NEVER:
            self._watch = self._watchdog.watch(self._due, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._watch is not None:
            self._watch.stop()
        if self.error is None:
            return False
        is_ours_alone = True  # Python 3.10 does not count: somebody else's cancellation at the same moment is lost
        if sys.version_info >= (3, 11):
            is_ours_alone = self._task.uncancel() <= self._cancelling
        return is_ours_alone and kind is asyncio.CancelledError

    def interrupt(self, error: ModelEngineError) -> None:
        """End the block now, with this error."""
        if self.error is None:
            self.error = error
            self._task.cancel()

    def _expire(self, now: float) -> None:
        self.interrupt(self._make_error())
