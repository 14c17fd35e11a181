"""Rows between the source and the lanes, and who waits for whom: lanes for rows, or the intake for lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from .course import Course
from .keeping import Errand
from .runner import Runner

_WINDOW = 4  # rows in the pipeline for each that can be sent: room for results that nobody has taken yet
_ORDERED_WINDOW = 16  # as many more as may finish while the first of them runs
_LEAST_WINDOW = 256  # rows; the journal is asked for blocks of them


class Supply:
    """Holds rows that are to be sent, and says how many more are wanted.

    Args:
        course: How the run stands.
        runner: Says how many rows can be sent at a time.
        keeps_ahead: Whether rows may be written down before a lane is free for them.
        is_ordered: Whether results leave in the order of their rows.

    Attributes:
        found: Rows to be sent, and not yet written down.
        ready: Rows that may be sent.
        has_ended: Whether nothing more is read.
    """

    def __init__(self, course: Course, runner: Runner, *, keeps_ahead: bool, is_ordered: bool) -> None:
        self.found: deque[Errand] = deque()
        self.ready: deque[Errand] = deque()
        self.has_ended = False
        self._course = course
        self._runner = runner
        self._keeps_ahead = keeps_ahead
        self._window = _ORDERED_WINDOW if is_ordered else _WINDOW
        self._idle: deque[asyncio.Future[None]] = deque()  # lanes that have nothing to send
        self._woken = 0  # lanes that have been woken and have not come for their rows yet
        self._need: asyncio.Future[None] | None = None  # while the intake waits to be needed

    @property
    def wanted(self) -> int:
        """Rows that may be written down now: as many as lanes wait for, and a supply where that does no harm."""
        rows_a_lane = self._runner.rows_a_lane
        ahead = self._runner.lanes * rows_a_lane if self._keeps_ahead else 0
        return (len(self._idle) + self._woken) * rows_a_lane + ahead - len(self.ready)

    @property
    def room(self) -> int:
        """Rows that may be read now."""
        rows = self._runner.lanes * self._runner.rows_a_lane
        return max(_LEAST_WINDOW, self._window * rows) - self._course.inside

    @property
    def is_closed(self) -> bool:
        """Whether no more rows are to be sent."""
        return self._course.is_draining

    @property
    def has_more_than_lanes(self) -> bool:
        """Whether there are more rows to be sent than lanes that wait for them."""
        return len(self.ready) > len(self._idle) + self._woken

    async def need(self) -> None:
        """Wait until there is work for the intake."""
        self._need = asyncio.get_running_loop().create_future()
        try:
            await self._need
        finally:
            self._need = None

    def ask(self) -> None:
        """Wake the intake when there is work for it: not for each row while the lanes have enough."""
        need = self._need
        if need is None or need.done():
            return
        if not self._course.is_draining:
            if not self._idle and not self._keeps_ahead:
                return
            least = 1 if self._idle else max(1, self._runner.lanes // 2)
            if self.wanted < least or not (self.found or self.has_ended or self.room > 0):
                return
        need.set_result(None)

    def found_rows(self, most: int) -> list[Errand]:
        """Take the first rows that are to be written down."""
        return [self.found.popleft() for _ in range(min(most, len(self.found)))]

    def add(self, errands: Iterable[Errand]) -> None:
        """These may be sent."""
        self.ready.extend(errands)

    def add_first(self, errand: Errand) -> None:
        """This may be sent, before all others."""
        self.ready.appendleft(errand)

    def wake_lanes(self) -> None:
        """Wake as many lanes as there is work for."""
        for _ in range(min(len(self._idle), len(self.ready) - self._woken)):
            lane = self._idle.popleft()
            if not lane.done():
                lane.set_result(None)
                self._woken += 1

    def take(self, most: int) -> list[Errand]:
        """The next rows to be sent. None when there are none."""
        if not self.ready:
            return []
        errands = [self.ready.popleft() for _ in range(min(most, len(self.ready)))]
        if self._keeps_ahead:
            self.ask()
        return errands

    async def wait(self) -> None:
        """Of a lane that got no rows: wait until there are some."""
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        self.ask()
        try:
            await idle
        finally:
            if idle.done() and not idle.cancelled():
                self._woken -= 1
