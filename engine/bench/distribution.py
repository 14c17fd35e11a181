"""Values of many requests as a few: mean, spread, percentiles. By lists, exactly; by histograms, within their error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .histogram import Histogram

PERCENTILES: tuple[float, ...] = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)
"""Those a distribution knows."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What is left of many values.

    Args:
        count: How many there were.
        mean, deviation, least, most: Their mean, standard deviation, smallest and largest. `None` without values.
        percentiles: One for each of `PERCENTILES`, `None` without values.
    """

    count: int
    mean: float | None = None
    deviation: float | None = None
    least: float | None = None
    most: float | None = None
    percentiles: tuple[float | None, ...] = (None,) * len(PERCENTILES)

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        """Of values in any order; percentiles between two of them are interpolated, as numpy does unless told."""
        ordered = sorted(values)
        if not ordered:
            return cls(0)
        mean = math.fsum(ordered) / len(ordered)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in ordered) / len(ordered))
        percentiles = tuple(quantile(ordered, percent / 100) for percent in PERCENTILES)
        return cls(len(ordered), mean, deviation, ordered[0], ordered[-1], percentiles)

    @classmethod
    def of_histogram(cls, histogram: Histogram, unit: float) -> Distribution:
        """Of a histogram.

        Args:
            histogram: Of nanoseconds.
            unit: Nanoseconds in the unit of the values.
        """
        mean, lowest, highest = histogram.mean, histogram.lowest, histogram.highest
        if mean is None or lowest is None or highest is None:
            return cls(0)
        square = sum(count * ((low + high - 1) / 2 - mean) ** 2 for low, high, count in histogram.buckets())
        percentiles = tuple(_in_unit(histogram.percentile(percent), unit) for percent in PERCENTILES)
        deviation = math.sqrt(square / histogram.count)
        return cls(histogram.count, mean / unit, deviation / unit, lowest / unit, highest / unit, percentiles)

    def percentile(self, percent: float) -> float | None:
        """One of `PERCENTILES`.

        Raises:
            ValueError: It is none of them.
        """
        return self.percentiles[PERCENTILES.index(percent)]

    def at(self, place: str) -> float | None:
        """By the name it has in documents and thresholds: ``mean``, ``sd``, ``min``, ``max``, ``p50``, ``p99.9``.

        Raises:
            KeyError: There is no such name.
        """
        return self.to_json()[place] if place != "count" else float(self.count)

    def to_json(self) -> dict[str, Any]:
        """Every member is always there; `None` without values."""
        return {
            "count": self.count,
            "mean": self.mean,
            "sd": self.deviation,
            "min": self.least,
            **dict(zip(PERCENTILE_NAMES, self.percentiles)),
            "max": self.most,
        }


PERCENTILE_NAMES: tuple[str, ...] = tuple(f"p{percent:g}" for percent in PERCENTILES)
PLACES: tuple[str, ...] = ("mean", "sd", "min", *PERCENTILE_NAMES, "max")
"""The names `Distribution.at` knows, apart from ``count``."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of them lies, interpolated between its neighbours.

    Args:
        ordered: At least one, ascending.
        share: 0 to 1.
    """
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    if below + 1 >= len(ordered):
        return ordered[-1]
    low, high = ordered[below], ordered[below + 1]
    return low + (high - low) * (place - below)


def _in_unit(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit
