"""Time, as something that can be given: tests wait an hour in no time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from and how one waits."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for comparing with dates that a server sends."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Cancelling ends the wait at once."""
        ...


class SystemClock:
    """The machine's time."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
