"""How often each duration came, in buckets that are the same everywhere: histograms of several processes add up to the
histogram that one process would have made.

The buckets are HdrHistogram's, log-linear: each doubling is cut into 128 equal parts, and below 256 each number has a
bucket of its own. A percentile is off by 1/256 of itself at most, whatever its size, and nothing has to be known about
the values beforehand. Count, sum, lowest and highest are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

PART_BITS = 7  # 128 parts of a doubling: finer than the 1 % that is asked for, and 3,500 buckets up to an hour
_PARTS = 1 << PART_BITS
_SHIFT = PART_BITS + 1  # bits of a number that has a bucket of its own
RELATIVE_ERROR = 1 / (2 * _PARTS)
"""Bound on the difference between a percentile and the value it stands for, as a share of that value."""


class Bucket(NamedTuple):
    """Values from `low` to below `high`."""

    low: int
    high: int
    times: int


class Histogram:
    """Whole numbers from 0, nanoseconds mostly, and how often they came."""

    __slots__ = ("_counts", "count", "highest", "lowest", "total")

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.lowest: int | None = None
        self.highest: int | None = None
        for value in values:
            self.record(value)

    def __repr__(self) -> str:
        if not self.count:
            return "<Histogram: empty>"
        return f"<Histogram: {self.count} values from {self.lowest} to {self.highest}, median {self.percentile(50)}>"

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def record(self, value: int, times: int = 1) -> None:
        """Count a value.

        Raises:
            ValueError: It is below 0.
        """
        if value < 0:
            raise ValueError(f"a histogram counts numbers from 0, not {value}")
        if self.lowest is None or self.highest is None:
            self.lowest = self.highest = value
        elif value < self.lowest:
            self.lowest = value
        elif value > self.highest:
            self.highest = value
        index = _index(value)
        counts = self._counts
        counts[index] = counts.get(index, 0) + times
        self.count += times
        self.total += value * times

    def record_all(self, values: Sequence[int]) -> None:
        """Count each of these values, all from 0: what `record` does, without a call for each."""
        if not values:
            return
        lowest, highest, counts = min(values), max(values), self._counts
        if lowest < 0:
            raise ValueError(f"a histogram counts numbers from 0, not {lowest}")
        for value in values:
            shift = value.bit_length() - _SHIFT
            index = value if shift <= 0 else (shift << PART_BITS) + (value >> shift)
            counts[index] = counts.get(index, 0) + 1
        self.count += len(values)
        self.total += sum(values)
        self.lowest = lowest if self.lowest is None else min(self.lowest, lowest)
        self.highest = highest if self.highest is None else max(self.highest, highest)

    def add(self, other: Histogram) -> None:
        """Count all that another has counted. The order of additions does not matter."""
        if other.lowest is None or other.highest is None:
            return
        for index, times in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + times
        self.count += other.count
        self.total += other.total
        self.lowest = other.lowest if self.lowest is None else min(self.lowest, other.lowest)
        self.highest = other.highest if self.highest is None else max(self.highest, other.highest)

    @classmethod
    def sum(cls, histograms: Iterable[Histogram]) -> Self:
        """One that has counted what all of them have."""
        whole = cls()
        for histogram in histograms:
            whole.add(histogram)
        return whole

    @property
    def mean(self) -> float | None:
        """Exact. `None` when nothing was counted."""
        return self.total / self.count if self.count else None

    def percentile(self, percent: float) -> int | None:
        """The smallest value that at least so many per cent of the values do not exceed (nearest rank).

        Within `RELATIVE_ERROR` of it; 0 and 100 are exact. `None` when nothing was counted.

        Raises:
            ValueError: It is not between 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is from 0 to 100, not {percent!r}")
        if self.lowest is None or self.highest is None:
            return None
        rank = max(1, math.ceil(percent * self.count / 100))
        if rank == 1:
            return self.lowest
        if rank == self.count:
            return self.highest
        passed = 0
        for low, high, times in self.buckets():
            passed += times
            if passed >= rank:
                return min(max((low + high - 1) // 2, self.lowest), self.highest)
        raise AssertionError("the counts of the buckets are less than the count")

    def share_within(self, bound: int) -> float | None:
        """The share of values that are at most `bound`, by whole buckets. `None` when nothing was counted."""
        if not self.count:
            return None
        index = _index(bound)
        return sum(times for each, times in self._counts.items() if each <= index) / self.count

    def buckets(self) -> Iterator[Bucket]:
        """The buckets that have values, in order."""
        for index in sorted(self._counts):
            low = _low(index)
            yield Bucket(low, _low(index + 1), self._counts[index])

    def to_json(self) -> dict[str, Any]:
        """As JSON types: the exact figures, and ``[[index, count], ...]`` of the buckets that have values.

        The bucket with index `i` begins at `i` for `i` below 256, from there on at
        ``(128 + i % 128) << (i // 128 - 1)``.
        """
        return {
            "count": self.count,
            "total": self.total,
            "lowest": self.lowest,
            "highest": self.highest,
            "buckets": [[index, self._counts[index]] for index in sorted(self._counts)],
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self:
        """The one that `to_json` wrote down.

        Raises:
            ValueError: The counts do not add up.
        """
        histogram = cls()
        histogram._counts = {int(index): int(times) for index, times in value["buckets"]}
        histogram.count, histogram.total = int(value["count"]), int(value["total"])
        histogram.lowest, histogram.highest = value["lowest"], value["highest"]
        if sum(histogram._counts.values()) != histogram.count:
            raise ValueError("the counts of a histogram do not add up")
        return histogram


def _index(value: int) -> int:
    shift = value.bit_length() - _SHIFT
    return value if shift <= 0 else (shift << PART_BITS) + (value >> shift)


def _low(index: int) -> int:
    """Where a bucket begins."""
    if index < 2 * _PARTS:
        return index
    return (_PARTS + index % _PARTS) << (index // _PARTS - 1)
