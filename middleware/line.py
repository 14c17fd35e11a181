"""Those who wait, in the order they came: the first goes first, and nobody is overtaken."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from penstock.engine.clock import Clock

NEVER = float("inf")


class Line:
    """A line in front of a gate. Only the first in it looks at the gate, so one change at the gate wakes one task."""

    def __init__(self) -> None:
        # In order. Not a dict: the first of one is found in time that grows with all that have left before it.
        self._places: OrderedDict[_Place, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    async def wait(self, delay: Callable[[], float], within: float, clock: Clock) -> bool:
        """Wait for one's turn. Whoever it comes to has to take it before the next `await`.

        Cancelling leaves the line, wherever one stands in it.

        Args:
            delay: Asked by the first in line: seconds until the gate lets it through, 0 for now, `NEVER` for as soon as
                `wake` tells of a change.
            within: Seconds to wait at most. `NEVER` waits for ever.
            clock: By which a `delay` is slept. Waiting for others goes by the clock of the loop.

        Returns:
            Whether the turn came.
        """
        if not self._places and delay() <= 0:
            return True
        place = _Place()
        self._places[place] = None
        timer = None if within == NEVER else asyncio.get_running_loop().call_later(within, place.call_off)
        due = clock.monotonic() + within
        try:
            while True:
                seconds = delay() if self._first is place else NEVER
                if seconds <= 0:
                    return True
                if place.is_called_off or clock.monotonic() >= due:
                    return False
                await place.pause(seconds if seconds == NEVER else min(seconds, due - clock.monotonic()), clock)
        finally:
            if timer is not None:
                timer.cancel()
            del self._places[place]
            self.wake()

    def wake(self) -> None:
        """Have the first in line look at the gate again."""
        if self._places:
            self._first.wake()

    @property
    def _first(self) -> _Place:
        return next(iter(self._places))


class _Place:
    """A place in a line."""

    __slots__ = ("_woken", "is_called_off")

    def __init__(self) -> None:
        self.is_called_off = False
        self._woken: asyncio.Future[None] | None = None

    async def pause(self, seconds: float, clock: Clock) -> None:
        """Wait to be woken, at most so many seconds."""
        self._woken = asyncio.get_running_loop().create_future()
        if seconds == NEVER:
            await self._woken
            return
        nap = asyncio.ensure_future(clock.sleep(seconds))
        try:
            await asyncio.wait((nap, self._woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            await asyncio.wait((nap,))  # it must not outlive this
        if not nap.cancelled():
            nap.result()

    def call_off(self) -> None:
        """The time is up."""
        self.is_called_off = True
        self.wake()

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
