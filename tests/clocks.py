"""Clocks for tests: an hour passes in no time, or time stands still until the test says otherwise."""

from __future__ import annotations

import asyncio
import time


class FakeClock:
    """Time that passes only in `sleep`, and there at once. Starts at the time of day, so that dates can be compared.

    Attributes:
        sleeps: The seconds of each sleep, in order.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._epoch = time.time()
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._epoch + self._now

    def pass_by(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self._now += seconds
        await asyncio.sleep(0)


class HeldClock(FakeClock):
    """A clock in whose `sleep` everybody stays until the test calls `wake`.

    Attributes:
        asleep: Set while somebody sleeps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()
        self._awake = asyncio.Event()

    def wake(self) -> None:
        self._awake.set()

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self._awake.wait()
        await super().sleep(seconds)
