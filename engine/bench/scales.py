"""Numbers to places on a picture, and to the few words that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIZE = 1000.0
"""Width and height of every picture in its own units; how large it is shown is for the page to say."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to 0 ... `SIZE`.

    Args:
        low, high: The ends; `low` is above 0 where it is logarithmic.
        is_log: Whether equal steps are equal factors.
        ticks: Values that are named.
    """

    low: float
    high: float
    is_log: bool = False
    ticks: tuple[float, ...] = ()

    def place(self, value: float) -> float:
        """Where it is; what is outside is at the nearest end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return SIZE * min(1.0, math.log(value / self.low) / math.log(self.high / self.low))
        return SIZE * ((value - self.low) / (self.high - self.low))

    def share(self, value: float) -> float:
        """Where it is, in per cent."""
        return self.place(value) * 100 / SIZE


def linear(low: float, high: float, wanted: int = 5, is_rounded: bool = True) -> Scale:
    """Equal steps for equal differences.

    Args:
        low: The lower end.
        high: What has to fit.
        wanted: About how many ticks.
        is_rounded: Whether the upper end goes up to the next tick.
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    step = _step((high - low) / wanted)
    end = math.ceil(round(high / step, 9)) * step if is_rounded else high
    first = math.ceil(round(low / step, 9))
    ticks = [index * step for index in range(first, math.floor(round(end / step, 9)) + 1)]
    return Scale(low, end, ticks=tuple(ticks))


def logarithmic(values: Iterable[float], wanted: int = 6) -> Scale:
    """Equal steps for equal factors, around all values above 0.

    Args:
        values: What has to fit.
        wanted: At most about how many ticks.
    """
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high < low * 2:
        low, high = low / 1.5, high * 1.5
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1, 2, 5), (1, 3), (1,)):
        marks = [part * 10.0**power for power in range(first, last + 1) for part in parts]
        below = max((mark for mark in marks if mark <= low * 1.0001), default=low)
        above = min((mark for mark in marks if mark >= high * 0.9999), default=high)
        ticks = [mark for mark in marks if below <= mark <= above]
        if len(ticks) <= wanted:
            break
    return Scale(below, above, True, tuple(ticks))


def fitting(values: Sequence[float], spread: float = 30) -> Scale:
    """Logarithmic where the largest is more than `spread` times the usual, else from 0 in equal steps."""
    positive = sorted(value for value in values if value > 0)
    if positive and positive[-1] > spread * positive[len(positive) // 2]:
        return logarithmic(positive)
    return linear(0, positive[-1] if positive else 1.0)


def number(value: float) -> str:
    """A value with three digits, or all of those before the point."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.{min(max(0, 2 - math.floor(math.log10(abs(value)))), 3)}f}"
    return f"{value:.2g}" if not text.strip("-0.") else text


def tick(value: float) -> str:
    """A round value, as short as it goes."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.10g}"


def milliseconds(value: float) -> str:
    """A time in the unit that suits it."""
    if value >= 999.5:
        return f"{number(value / 1000)} s"
    return f"{number(value)} ms" if value >= 0.0995 or not value else f"{number(value * 1000)} µs"


def tick_milliseconds(value: float) -> str:
    """A round time, as short as it goes."""
    if value >= 1000:
        return f"{tick(value / 1000)} s"
    return f"{tick(value)} ms" if value >= 0.1 or not value else f"{tick(value * 1000)} µs"


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in _STEPS if each * power >= rough * 0.9999)
