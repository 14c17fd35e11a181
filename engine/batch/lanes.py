"""Who sends rows: a fixed number of tasks, each of which has one call made after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..clock import Clock
from .course import Course
from .endings import Endings
from .errands import Prepared
from .keeping import Errand
from .runner import Runner
from .supply import Supply

Guard = Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]
"""Runs the work of a task of the run: what fails in it fails the run."""


class Lanes:
    """Has rows sent, as many at a time as the runner says.

    Args:
        runner: Who makes the calls.
        course: How the run stands.
        supply: Where rows come from.
        endings: What becomes of a row whose call is over.
        row_deadline: Seconds for a row, from its first call. `None` is no bound.
        clock: Where time comes from.
        guard: What runs a lane.

    Attributes:
        tasks: The lanes that are open.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        course: Course,
        supply: Supply,
        endings: Endings,
        row_deadline: float | None,
        clock: Clock,
        guard: Guard,
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._runner = runner
        self._in_flight = course.in_flight
        self._supply = supply
        self._endings = endings
        self._row_deadline = row_deadline
        self._clock = clock
        self._guard = guard

    def open(self) -> None:
        """Open as many lanes as there are to be."""
        if self._supply.is_closed:
            return
        for _ in range(max(1, self._runner.lanes) - len(self.tasks)):
            lane = asyncio.ensure_future(self._guard(self._lane))
            self.tasks.add(lane)
            lane.add_done_callback(self.tasks.discard)

    def call(self) -> None:
        """Wake as many lanes as there is work for, and open those that may be."""
        if self._supply.has_more_than_lanes:
            self.open()
        self._supply.wake_lanes()

    async def _lane(self) -> None:
        """Send one row after another, until there are more lanes than there are to be, or no more rows are sent.

        The latter ends it also where its cancellation was lost, as `TaskLimit` may do in Python 3.10.
        """
        runner, supply, done = self._runner, self._supply, self._endings.done
        while not supply.is_closed:
            errands = supply.take(runner.rows_a_lane)
            if not errands:
                await supply.wait()
                continue
            try:
                await runner.run([self._prepared(errand) for errand in errands], done)
            finally:
                for errand in errands:  # of those that have an outcome none is left
                    self._in_flight.pop(errand.number, None)
            lanes, opened = runner.lanes, len(self.tasks)
            if opened > lanes and opened > 1:
                # At once: others that end their run in this turn of the loop must not count this one.
                self.tasks.discard(asyncio.current_task())
                return
            if opened < lanes:
                self.open()

    def _prepared(self, errand: Errand) -> Prepared:
        errand.calls += 1
        self._in_flight[errand.number] = errand
        timeout = None if self._row_deadline is None else self._time_left(errand, self._row_deadline)
        return Prepared(errand.number, errand.call, errand.key, timeout)

    def _time_left(self, errand: Errand, row_deadline: float) -> float:
        now = self._clock.monotonic()
        if errand.due is None:
            errand.due = now + row_deadline
        return max(errand.due - now, 0.001)  # a deadline has to be positive, and none to be had ends the call at once
