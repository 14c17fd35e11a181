"""A clock whose waits pass at once."""

from __future__ import annotations

import time


class FakeClock:
    """The machine's time, moved on by every wait instead of waiting; those of tasks that wait together pass together.

    A `penstock.engine.clock.Clock`. What it does not change are the clocks of `Timeouts`: a gateway that is silent is
    silent in real time.

    Attributes:
        sleeps: The seconds of each wait, in order.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._ahead = 0.0

    def __repr__(self) -> str:
        return f"<FakeClock {self._ahead:g} s ahead, sleeps={self.sleeps}>"

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def time(self) -> float:
        return time.time() + self._ahead

    async def sleep(self, seconds: float) -> None:
        import asyncio  # whoever sleeps has it

        self.sleeps.append(seconds)
        end = self._ahead + seconds
        await asyncio.sleep(0)  # others begin to wait now, too
        self._ahead = max(self._ahead, end)

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody waiting."""
        self._ahead += seconds

    def assert_slept(self, *, at_least: float = 0.0, times: int | None = None) -> None:
        """There was a wait, and each was so many seconds or longer.

        Args:
            at_least: Seconds.
            times: How many waits there were, exactly. `None` for any number from 1.
        """
        if times is not None and len(self.sleeps) != times:
            raise AssertionError(f"{times} waits were expected, and there were {len(self.sleeps)}: {self.sleeps}")
        if times is None and not self.sleeps:
            raise AssertionError(f"nothing was waited for; a wait of at least {at_least:g} s was expected")
        if any(seconds < at_least for seconds in self.sleeps):
            raise AssertionError(f"each wait was expected to be at least {at_least:g} s; they were {self.sleeps}")
