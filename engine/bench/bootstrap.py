"""How sure a figure is: confidence intervals by the bootstrap, of percentiles, means, shares and rates.

A resample is not drawn request by request. The percentile of a resample of `n` values is one of the values, and its
rank has a Beta distribution (the order statistics of `n` uniform numbers), so one random number stands for a whole
resample: a hundred thousand requests cost what a hundred do. A mean of many values is drawn from its normal
distribution, a mean of few from real resamples.

Requests that follow one another resemble each other: a server that was busy for a second was busy for all of them.
Taken for independent they would give intervals that are too narrow. Therefore `n` is the effective number, from how
much the means of consecutive stretches differ (batch means), and never more than the real one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

from .distribution import quantile
from .histogram import Histogram

RESAMPLES = 1000  # the ends of a 95 % interval then rest on 25 resamples each
_STRETCHES = 25  # batch means: enough to know their variance to a third, long enough to be nearly independent
_FEWEST = 4 * _STRETCHES  # below, stretches are too short to tell anything
_SMALL = 200  # values of which resamples are really drawn


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure is, with the given confidence.

    Args:
        low, high: Its ends.
        confidence: 0 to 1.
    """

    low: float
    high: float
    confidence: float = 0.95

    def is_above(self, value: float) -> bool:
        """Whether all of it is greater."""
        return self.low > value

    def is_below(self, value: float) -> bool:
        """Whether all of it is smaller."""
        return self.high < value

    def to_json(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high, "confidence": self.confidence}


def interval_of(draws: Sequence[float], confidence: float = 0.95) -> Interval:
    """The middle part of what resamples gave.

    Args:
        draws: At least one.
        confidence: 0 to 1.
    """
    ordered = sorted(draws)
    tail = (1 - confidence) / 2
    return Interval(quantile(ordered, tail), quantile(ordered, 1 - tail), confidence)


class Sample:
    """Values of which a percentile or the mean is wanted, and how sure it is.

    Args:
        values: In the order in which they were measured; at least one.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values
        self._ordered = sorted(values)

    def percentile(self, percent: float) -> float:
        """As `Distribution` has it."""
        return quantile(self._ordered, percent / 100)

    def mean(self) -> float:
        """As `Distribution` has it."""
        return math.fsum(self._ordered) / len(self._ordered)

    def draw_percentile(self, percent: float, random: Random, resamples: int = RESAMPLES) -> list[float]:
        """The percentile, as resamples give it.

        Args:
            percent: 0 to 100.
            random: Give a seeded one.
            resamples: How many.
        """
        bound = self.percentile(percent)
        number = effective_number([value <= bound for value in self._values])
        return draw_ranks(self._ordered, percent / 100, number, random, resamples)

    def draw_mean(self, random: Random, resamples: int = RESAMPLES) -> list[float]:
        """The mean, as resamples give it. Arguments as for `draw_percentile`."""
        values, mean, count = self._values, self.mean(), len(self._values)
        if count <= _SMALL:
            return [math.fsum(random.choices(values, k=count)) / count for _ in range(resamples)]
        error = math.sqrt(_variance(values, mean) / effective_number(values))
        return [random.gauss(mean, error) for _ in range(resamples)]


class HistogramSample:
    """The same of values that are left as a histogram.

    Args:
        histogram: With at least one value.
        unit: What one of ours is in those of the histogram.
        groups: How many requests the values are of. Those of one request say about as much as one value.
    """

    def __init__(self, histogram: Histogram, unit: float, groups: int) -> None:
        self._histogram = histogram
        self._unit = unit
        self._number = max(1, groups)
        self._ordered = _Ranks(histogram, unit)

    def percentile(self, percent: float) -> float:
        """As `Distribution` has it."""
        return (self._histogram.percentile(percent) or 0) / self._unit

    def mean(self) -> float:
        """As `Distribution` has it."""
        return (self._histogram.mean or 0) / self._unit

    def draw_percentile(self, percent: float, random: Random, resamples: int = RESAMPLES) -> list[float]:
        """As `Sample.draw_percentile`."""
        return draw_ranks(self._ordered, percent / 100, self._number, random, resamples)

    def draw_mean(self, random: Random, resamples: int = RESAMPLES) -> list[float]:
        """As `Sample.draw_mean`."""
        mean = self.mean()
        square = sum(
            count * ((low + high - 1) / 2 / self._unit - mean) ** 2 for low, high, count in self._histogram.buckets()
        )
        error = math.sqrt(square / self._histogram.count / self._number)
        return [random.gauss(mean, error) for _ in range(resamples)]


class _Ranks(Sequence[float]):
    """The values of a histogram, ascending, each at the middle of its bucket."""

    def __init__(self, histogram: Histogram, unit: float) -> None:
        buckets = tuple(histogram.buckets())
        self._middles = [(low + high - 1) / 2 / unit for low, high, _ in buckets]
        self._passed = list(accumulate(count for _, _, count in buckets))

    def __len__(self) -> int:
        return self._passed[-1]

    def __getitem__(self, rank: Any) -> Any:
        place = range(len(self))[rank]
        return self._middles[bisect_right(self._passed, place)]


def draw_ranks(
    ordered: Sequence[float], share: float, number: float, random: Random, resamples: int = RESAMPLES
) -> list[float]:
    """A percentile of values in ascending order, as resamples of `number` of them give it."""
    first, second = share * number + 0.5, (1 - share) * number + 0.5  # one half: the middle of a rank
    return [quantile(ordered, random.betavariate(first, second)) for _ in range(resamples)]


def draw_shares(hits: int, tries: int, random: Random, resamples: int = RESAMPLES) -> list[float]:
    """A share, as it may be where `hits` of `tries` were seen (Jeffreys' interval; also of none and of all)."""
    return [random.betavariate(hits + 0.5, tries - hits + 0.5) for _ in range(resamples)]


def draw_rates(stretches: Sequence[float], random: Random, resamples: int = RESAMPLES) -> list[float]:
    """A rate, as resamples of its stretches give it.

    Args:
        stretches: The rate in each of some equal stretches of the run; at least one.
        random: Give a seeded one.
        resamples: How many.
    """
    count = len(stretches)
    return [math.fsum(random.choices(stretches, k=count)) / count for _ in range(resamples)]


def effective_number(values: Sequence[float]) -> float:
    """How many independent values say as much as these, which were measured one after another.

    The real number where they are too few to tell.
    """
    count = len(values)
    if count < _FEWEST:
        return count
    mean = math.fsum(values) / count
    variance = _variance(values, mean)
    if not variance:
        return count
    size = count // _STRETCHES
    means = [math.fsum(values[at : at + size]) / size for at in range(0, size * _STRETCHES, size)]
    between = _variance(means, math.fsum(means) / len(means)) * len(means) / (len(means) - 1)
    inflation = between * size / variance
    return max(_STRETCHES / 2, min(count, count / inflation)) if inflation > 0 else count


def _variance(values: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in values) / len(values)
