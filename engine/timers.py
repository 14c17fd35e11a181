"""One lazy timer for all clocks of an engine.

A stream of tokens moves its clocks with each read. Re-arming a timer each time would cost more than the read, so
nothing is re-armed: a `Watch` is asked, when it may be due, whether it is, and answers with the next time to ask.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import Callable
from itertools import count

Check = Callable[[float], "float | None"]
"""Asked with the time of the loop: acts when a clock has run out. Returns when to ask again, `None` for never."""


class Watch:
    """A promise to ask. `stop` ends it; twice is harmless."""

    __slots__ = ("_check", "_watchdog", "is_queued")

    def __init__(self, watchdog: Watchdog, check: Check) -> None:
        self._watchdog = watchdog
        self._check: Check | None = check
        self.is_queued = True

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
    """Asks watches when they are due, with a single timer of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Watch]] = []
        self._tie = count()  # watches do not compare
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")
        self._stopped = 0

    def watch(self, due: float, check: Check) -> Watch:
        """Ask `check` at `due`, in seconds of the loop's clock; infinity is never."""
        watch = Watch(self, check)
        if due == float("inf"):
            watch.is_queued = False
            return watch
        heapq.heappush(self._heap, (due, next(self._tie), watch))
        if due < self._armed_for:
            self._arm(due)
        return watch

    def close(self) -> None:
        """Ask nobody any more."""
        self._heap.clear()
        self._stopped = 0
        self._disarm()

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_for = due
        self._handle = self._loop.call_at(due, self._tick)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._armed_for = float("inf")

    def _tick(self) -> None:
        now = self._loop.time()
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, watch = heapq.heappop(heap)
            watch.is_queued = False
            if watch.is_stopped:
                self._stopped -= 1
                continue
            again = watch.ask(now)
            if again is not None and not watch.is_stopped:
                watch.is_queued = True
                # Never at once again: a check that answers with the past must not keep the loop busy.
                heapq.heappush(heap, (max(again, now + 0.001), next(self._tie), watch))
        if heap:
            self._arm(heap[0][0])
        else:
            self._disarm()

    def stopped_one(self) -> None:
        """A watch that is still queued was stopped."""
        self._stopped += 1
        # Stopped watches wait in the heap for their time, minutes away: swept out when they are the most of it.
        if self._stopped > 64 and self._stopped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].is_stopped]
            heapq.heapify(self._heap)
            self._stopped = 0
            if not self._heap:
                self._disarm()


class TaskLimit:
    """Cancels the current task at a time, and tells its own cancellation from somebody else's."""

    __slots__ = ("_cancelling", "_task", "_watch", "has_expired")

    def __init__(self, watchdog: Watchdog, due: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = _cancellations(task)
        self.has_expired = False
        self._watch = watchdog.watch(due, self._expire)

    def stop(self) -> None:
        """The limited part is over."""
        self._watch.stop()

    def absorbs_cancellation(self) -> bool:
        """Whether the cancellation that arrived is this limit's alone; then it is over, and a timeout is to be
        raised.
        """
        if not self.has_expired:
            return False
        if sys.version_info >= (3, 11):
            return self._task.uncancel() <= self._cancelling
        return True  # Python 3.10 does not count, so somebody else's cancellation at the same moment is lost

    def _expire(self, now: float) -> None:
        self.has_expired = True
        self._task.cancel()


def _cancellations(task: asyncio.Task[object]) -> int:
    if sys.version_info >= (3, 11):
        return task.cancelling()
    return 0
