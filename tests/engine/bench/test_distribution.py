"""Many values as a few."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.bench.distribution import PERCENTILES, PLACES, Distribution, quantile
from penstock.engine.bench.histogram import RELATIVE_ERROR, Histogram

values = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


def test_percentiles_between_two_values_are_interpolated() -> None:
    distribution = Distribution.of([30, 10, 20, 40])

    assert [distribution.percentile(percent) for percent in (50, 25, 99)] == pytest.approx([25, 17.5, 39.7])


def test_no_values_have_no_figures() -> None:
    assert set(Distribution.of([]).to_json().values()) == {0, None}
    assert Distribution.of_histogram(Histogram(), 1) == Distribution(0)


def test_a_place_is_found_by_the_name_it_has_in_documents() -> None:
    distribution = Distribution.of(range(101))

    assert [distribution.at(place) for place in PLACES] == [
        50, pytest.approx(29.155, abs=0.001), 0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100,
    ]  # fmt: skip
    assert distribution.at("count") == 101
    with pytest.raises(KeyError):
        distribution.at("p42")


@given(values)
def test_mean_and_quartiles_are_those_of_the_standard_library(each: list[int]) -> None:
    distribution = Distribution.of(each)

    assert distribution.mean == pytest.approx(statistics.fmean(each))
    assert distribution.deviation == pytest.approx(statistics.pstdev(each), rel=1e-6, abs=1e-3)
    if len(each) > 1:
        quartiles = statistics.quantiles(each, n=4, method="inclusive")
        assert [distribution.percentile(percent) for percent in (25, 50, 75)] == pytest.approx(quartiles)


@given(values)
def test_a_histogram_says_what_its_values_do_within_its_error(each: list[int]) -> None:
    by_histogram, ordered = Distribution.of_histogram(Histogram(each), 1), sorted(each)

    assert by_histogram.mean == pytest.approx(statistics.fmean(each))
    assert (by_histogram.least, by_histogram.most) == (ordered[0], ordered[-1])
    for percent, value in zip(PERCENTILES, by_histogram.percentiles):
        rank = max(1, -(-round(percent * 10) * len(ordered) // 1000))
        assert value == pytest.approx(ordered[rank - 1], rel=RELATIVE_ERROR, abs=1)


@given(values, st.floats(0, 1))
def test_a_quantile_lies_between_its_neighbours(each: list[int], share: float) -> None:
    ordered = sorted(each)

    assert ordered[0] <= quantile(ordered, share) <= ordered[-1]
