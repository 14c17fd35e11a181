"""The state of one circuit: whether requests are let through. Values in, values out: no clock, no loop.

closed ──too many of the last attempts failed──► open
  ▲                                               │ open_for seconds
  │ a probe succeeds                              ▼
  └────────────────────────────────────────── half_open ──a probe fails──► open
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from penstock.engine.errors import ConfigurationError

from .policy import checked_seconds

CircuitState = Literal["closed", "open", "half_open"]
"""``closed``: requests pass. ``open``: none does. ``half_open``: some pass, to see whether it works again."""

_SLICES = 10  # of the window; with each that ends, a tenth of what is counted is forgotten


@dataclass(frozen=True, slots=True)
class CircuitOptions:
    """When a circuit opens and closes.

    Args:
        failure_rate: Share of the attempts in the window, above 0 and at most 1, from which on it opens.
        minimum: Attempts there have to be in the window before it opens.
        window: Seconds that are looked back on.
        open_for: Seconds for which nothing passes once it is open, and for which a probe keeps its place.
        probes: Requests let through at a time to see whether it works again.

    Raises:
        ConfigurationError: One of them cannot work.
    """

    failure_rate: float
    minimum: int
    window: float
    open_for: float
    probes: int

    def __post_init__(self) -> None:
        for name in ("window", "open_for"):
            if not checked_seconds(f"Breaker({name}=...)", getattr(self, name)):
                raise ConfigurationError(f"Breaker({name}=...) is longer than 0 s")
        for name in ("minimum", "probes"):
            if type(number := getattr(self, name)) is not int or number < 1:
                raise ConfigurationError(f"Breaker({name}=...) is a whole number from 1, not {number!r}")
        rate = self.failure_rate
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate <= 1:
            raise ConfigurationError(f"Breaker(failure_rate=...) is a share above 0 and at most 1, not {rate!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """Leave to send one attempt. To be handed to `Circuit.report` or `Circuit.hand_back`, once.

    `period` counts the changes of the circuit before it was given.
    """

    period: int


class Circuit:
    """One circuit. Times are seconds of any clock that does not go back.

    What began before the last change of state tells nothing about the state after it, and is not counted.

    Args:
        options: When it opens and closes.
        changed: Told of each change: the state before and the new one.

    Attributes:
        state: As of the last attempt: an open one becomes half open when the next attempt asks.
    """

    def __init__(self, options: CircuitOptions, changed: Callable[[CircuitState, CircuitState], None]) -> None:
        self.state: CircuitState = "closed"
        self._options = options
        self._changed = changed
        self._period = 0
        self._window = _Window(options.window / _SLICES)
        self._probe_from = 0.0  # the time from which on an open circuit lets a probe through
        self._probes: dict[Permit, float] = {}  # that are out, and until when each keeps its place

    def __repr__(self) -> str:
        attempts, failures = self._window.totals
        return f"<Circuit {self.state}, {failures} of {attempts} failed>"

    def admit(self, now: float) -> Permit | float:
        """Leave to send an attempt, or the seconds until the next can be let through."""
        if self.state == "closed":
            return Permit(self._period)
        if self.state == "open":
            if now < self._probe_from:
                return self._probe_from - now
            self._become("half_open")
        # A probe that does not report may be lost, or a stream of an hour: it must not keep the circuit from closing.
        for permit in [permit for permit, until in self._probes.items() if until <= now]:
            del self._probes[permit]
        if len(self._probes) >= self._options.probes:
            return min(self._probes.values()) - now
        permit = Permit(self._period)
        self._probes[permit] = now + self._options.open_for
        return permit

    def is_current(self, permit: Permit) -> bool:
        """Whether the circuit has not changed since leave was given."""
        return permit.period == self._period

    def report(self, permit: Permit, *, failed: bool, now: float) -> None:
        """Tell how an attempt ended."""
        self._probes.pop(permit, None)
        if not self.is_current(permit):
            return
        if self.state == "closed":
            self._window.add(failed, now)
            if self._has_failed_too_often():
                self._open(now)
        elif failed:
            self._open(now)
        else:
            self._become("closed")

    def hand_back(self, permit: Permit) -> None:
        """The attempt told nothing: it was cancelled, or failed for a reason of its own."""
        self._probes.pop(permit, None)

    def totals(self, now: float) -> tuple[int, int]:
        """Attempts and failures that count now."""
        self._window.forget(now)
        return self._window.totals

    def is_idle(self, now: float) -> bool:
        """Whether it remembers nothing."""
        return self.state == "closed" and self.totals(now) == (0, 0)

    def _has_failed_too_often(self) -> bool:
        attempts, failures = self._window.totals
        return attempts >= self._options.minimum and failures >= self._options.failure_rate * attempts

    def _open(self, now: float) -> None:
        self._become("open")
        self._probe_from = now + self._options.open_for

    def _become(self, state: CircuitState) -> None:
        before, self.state = self.state, state
        self._period += 1
        self._window.clear()
        self._probes.clear()
        self._changed(before, state)


class _Window:
    """Counts of the last slices of time."""

    def __init__(self, slice_seconds: float) -> None:
        self._seconds = slice_seconds
        self._slices: deque[list[int]] = deque()  # of number, attempts, failures; the newest last
        self.totals = (0, 0)

    def add(self, failed: bool, now: float) -> None:
        self.forget(now)
        number = int(now // self._seconds)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._count(1, int(failed))
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed

    def forget(self, now: float) -> None:
        """Leave out what is older than the window."""
        oldest = int(now // self._seconds) - _SLICES
        while self._slices and self._slices[0][0] <= oldest:
            _, attempts, failures = self._slices.popleft()
            self._count(-attempts, -failures)

    def clear(self) -> None:
        self._slices.clear()
        self.totals = (0, 0)

    def _count(self, attempts: int, failures: int) -> None:
        self.totals = (self.totals[0] + attempts, self.totals[1] + failures)
