"""How much may start in a minute. Values in, values out: no clock, no loop, nothing that waits."""

from __future__ import annotations

import math
from typing import Literal

from penstock.engine.errors import ConfigurationError

from .rate_headers import RateWindow

PerMinute = float | Literal["auto"] | None
"""A number a minute; ``"auto"`` is what the gateway says in its headers, nothing before it does; `None` is no bound."""

_AT_ONCE = 1e-6  # seconds; a shorter wait is none, and may not move a clock at all
_MINUTE = 60.0


class Rate:
    """A bucket of tokens that fills evenly: so much a minute, and some of it at once.

    The one number it keeps is the time at which it will be full (the generic cell rate algorithm, ITU-T I.371). So
    nothing falls below zero: who takes more than is there only moves that time on. Times are seconds of any clock that
    does not go back.

    Args:
        name: For messages: the option it was given as.
        per_minute: How much. The gateway's headers can lower a number, and never raise it.
        burst: Seconds; what fills in that time may be taken at once.

    Raises:
        ConfigurationError: `per_minute` is neither positive nor a word that means something.
    """

    def __init__(self, name: str, per_minute: PerMinute, burst: float) -> None:
        self._option = _checked(name, per_minute)
        self._burst = burst
        self._full_at = -math.inf
        self._busy_since = math.inf  # since when what is taken counts: before, it was full
        self._second = self._option / _MINUTE  # what fills in a second; infinite without a bound
        self._span = burst  # seconds in which the empty bucket is full
        self._follows = per_minute is not None

    def __repr__(self) -> str:
        return f"<Rate {self.per_minute:g} a minute>"

    @property
    def per_minute(self) -> float:
        """How much a minute at present; infinite without a bound."""
        return self._second * _MINUTE

    @property
    def is_bounded(self) -> bool:
        """Whether there is, or may come to be, a bound."""
        return self._follows

    def delay(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken. More than the bucket holds can be taken when it is full."""
        at_once = min(amount / self._second, self._span)
        wait = self._full_at + at_once - self._span - now
        return wait if wait > _AT_ONCE else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, be it there or not."""
        if self._full_at <= now:
            self._full_at = self._busy_since = now
        self._full_at += amount / self._second

    def settle(self, taken: float, amount: float, at: float, now: float) -> None:
        """Of what was taken at the time `at` it has turned out that it was `amount`."""
        if amount > taken:
            self.take(amount - taken, now)
        elif at >= self._busy_since:  # else the bucket has been full since, and holds nothing back for it
            self._full_at -= (taken - amount) / self._second

    def missing(self, now: float) -> float:
        """How much is missing until it is full. 0 without a bound."""
        return (self._full_at - now) * self._second if self._full_at > now and math.isfinite(self._second) else 0.0

    def empty(self, now: float) -> None:
        """Begin with nothing that may be taken at once."""
        self._full_at, self._busy_since = now + self._span, now

    def learn(self, window: RateWindow, now: float) -> None:
        """Take over what the gateway says, where that is less.

        That nothing remains until a reset is read as a bucket that fills evenly from now until then, as those of
        OpenAI, Anthropic and Groq do: the reset is when it will be full, not a time to wait for.
        """
        if not self._follows:
            return
        usual = second = min(self._option, window.limit) / _MINUTE
        if window.remaining == 0 and window.reset is not None:
            second = min(second, window.limit / window.reset)
        self._turn_to(second, self._burst * usual / second, now)
        if window.remaining is not None:
            full_at = now + self._span - window.remaining / self._second
            if full_at > max(now, self._full_at):
                # The gateway has counted what was taken before, so that is not given back on top.
                self._full_at, self._busy_since = full_at, now

    def _turn_to(self, second: float, span: float, now: float) -> None:
        """Fill at another rate. What is missing stays missing."""
        if self._full_at > now and math.isfinite(self._second):
            self._full_at = now + (self._full_at - now) * self._second / second
        self._second, self._span = second, span


def _checked(name: str, per_minute: PerMinute) -> float:
    if per_minute is None or per_minute == "auto":
        return math.inf
    if isinstance(per_minute, (int, float)) and not isinstance(per_minute, bool) and 0 < per_minute < math.inf:
        return float(per_minute)
    raise ConfigurationError(f"{name} is a positive number, 'auto' or None, not {per_minute!r}")
