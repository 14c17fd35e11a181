"""Rows that wait to be tried again: they hold no lane meanwhile."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import Generic, TypeVar

from ..clock import Clock

T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """Things that are to come back at a time, the earliest first.

    Args:
        clock: Where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, T]] = []
        self._tie = count()  # things do not compare
        self._changed: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, thing: T, seconds: float) -> None:
        """Let it come back after so many seconds."""
        heapq.heappush(self._heap, (self._clock.monotonic() + seconds, next(self._tie), thing))
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def clear(self) -> list[T]:
        """Take out all that wait."""
        things = [thing for _, _, thing in self._heap]
        self._heap.clear()
        return things

    async def next(self) -> T:
        """Wait for the next one whose time has come. One task waits here at a time."""
        while True:
            if self._heap:
                seconds = self._heap[0][0] - self._clock.monotonic()
                if seconds <= 0:
                    return heapq.heappop(self._heap)[2]
                await self._pause(seconds)
            else:
                await self._pause(None)

    async def _pause(self, seconds: float | None) -> None:
        """Until something is added, at most so many seconds."""
        self._changed = asyncio.get_running_loop().create_future()
        if seconds is None:
            await self._changed
            return
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((nap, self._changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            await asyncio.wait((nap,))  # it must not outlive this
        if not nap.cancelled():
            nap.result()
