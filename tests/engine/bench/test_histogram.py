"""Histograms against sorted lists, and sums of histograms against the histogram of the whole."""

from __future__ import annotations

import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as some

from penstock.engine.bench.histogram import RELATIVE_ERROR, Histogram

VALUES = some.lists(some.integers(0, 2**45), min_size=1, max_size=300)
PERCENT = some.floats(0, 100)


def nearest_rank(values: list[int], percent: float) -> int:
    return sorted(values)[max(1, math.ceil(percent * len(values) / 100)) - 1]


@given(VALUES, PERCENT)
def test_a_percentile_is_that_of_the_sorted_values_within_the_stated_error(values: list[int], percent: float) -> None:
    expected, got = nearest_rank(values, percent), Histogram(values).percentile(percent)
    assert got is not None
    assert abs(got - expected) <= expected * RELATIVE_ERROR


def test_the_stated_error_is_below_one_per_cent() -> None:
    assert RELATIVE_ERROR < 0.01


@given(some.lists(VALUES, min_size=1, max_size=6))
def test_parts_add_up_to_what_one_process_would_have_counted(parts: list[list[int]]) -> None:
    assert Histogram.sum(Histogram(part) for part in parts) == Histogram(value for part in parts for value in part)


@given(VALUES)
def test_count_sum_lowest_and_highest_are_exact(values: list[int]) -> None:
    histogram = Histogram(values)
    exact = (len(values), sum(values), min(values), max(values))
    assert (histogram.count, histogram.total, histogram.lowest, histogram.highest) == exact


@given(VALUES)
def test_buckets_are_in_order_and_hold_every_value(values: list[int]) -> None:
    buckets = list(Histogram(values).buckets())
    assert all(left.high <= right.low for left, right in zip(buckets, buckets[1:]))
    for low, high, times in buckets:
        assert sum(low <= value < high for value in values) == times


@given(VALUES)
def test_what_is_written_down_is_read_back(values: list[int]) -> None:
    histogram = Histogram(values)
    assert Histogram.of_json(json.loads(json.dumps(histogram.to_json()))) == histogram
    assert pickle.loads(pickle.dumps(histogram)) == histogram


@given(some.integers(0, 2**45), some.integers(1, 1000))
def test_a_value_may_be_counted_many_times_at_once(value: int, times: int) -> None:
    assert Histogram([value] * times).to_json() == _many(value, times).to_json()


def _many(value: int, times: int) -> Histogram:
    histogram = Histogram()
    histogram.record(value, times)
    return histogram


@given(VALUES, some.integers(0, 2**45))
def test_a_share_counts_whole_buckets(values: list[int], bound: int) -> None:
    share = Histogram(values).share_within(bound)
    assert share is not None
    assert share >= sum(value <= bound for value in values) / len(values)
    assert share <= sum(value <= bound * (1 + 2 * RELATIVE_ERROR) + 1 for value in values) / len(values)


def test_nothing_counted_has_no_figures() -> None:
    histogram = Histogram()
    assert (histogram.percentile(50), histogram.mean, histogram.lowest, histogram.share_within(1)) == (None,) * 4


def test_what_cannot_be_counted_is_refused_and_leaves_nothing() -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="from 0"):
        histogram.record(-1)
    assert histogram == Histogram()


def test_a_percentile_beyond_a_hundred_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        Histogram([1]).percentile(101)


def test_a_file_whose_counts_do_not_add_up_is_refused() -> None:
    written = Histogram([1, 2, 3]).to_json()
    with pytest.raises(ValueError, match="add up"):
        Histogram.of_json({**written, "count": 4})
