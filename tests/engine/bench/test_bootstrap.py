"""Intervals hold what they promise: tried on values of which the truth is known."""

from __future__ import annotations

import random

import pytest

from penstock.engine.bench.bootstrap import (
    HistogramSample,
    Interval,
    Sample,
    draw_rates,
    draw_shares,
    effective_number,
    interval_of,
)
from penstock.engine.bench.histogram import Histogram

RUNS = 200
_MEDIAN, _P99 = 1.0, 10.2404  # of exp(normal): its 99th percentile is exp(2.3263)
_MEAN = 1.6487


def covered(truth: float, draws: list[float]) -> bool:
    interval = interval_of(draws)
    return interval.low <= truth <= interval.high


def lognormal(seed: int, count: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.lognormvariate(0, 1) for _ in range(count)]


@pytest.mark.parametrize(("percent", "truth"), [(50, _MEDIAN), (99, _P99)])
def test_an_interval_of_a_percentile_holds_the_truth_as_often_as_it_says(percent: float, truth: float) -> None:
    held = [
        covered(truth, Sample(lognormal(seed, 1_000)).draw_percentile(percent, random.Random(seed), 400))
        for seed in range(RUNS)
    ]

    assert 0.91 <= sum(held) / RUNS <= 1


@pytest.mark.parametrize("count", [150, 2_000])
def test_an_interval_of_a_mean_holds_the_truth_as_often_as_it_says(count: int) -> None:
    held = [covered(_MEAN, Sample(lognormal(seed, count)).draw_mean(random.Random(seed), 300)) for seed in range(RUNS)]

    assert 0.88 <= sum(held) / RUNS <= 1  # a mean of few values of this shape is known to fall short


def test_values_that_resemble_their_neighbours_count_for_fewer() -> None:
    draw = random.Random(1)
    alone = [draw.random() for _ in range(4_000)]
    in_blocks = [value for value in alone[:100] for _ in range(40)]

    assert effective_number(alone) > 1_500
    assert 25 <= effective_number(in_blocks) < 250
    assert effective_number([1.0] * 4_000) == 4_000
    assert effective_number(alone[:50]) == 50


def test_a_drifting_run_has_wider_intervals_than_the_same_values_shuffled() -> None:
    values = sorted(lognormal(1, 2_000))
    shuffled = random.Random(2).sample(values, len(values))
    widths = []
    for each in (values, shuffled):
        interval = interval_of(Sample(each).draw_percentile(50, random.Random(3)))
        widths.append(interval.high - interval.low)

    assert widths[0] > 3 * widths[1]


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = (Sample(lognormal(1, 500)).draw_percentile(90, random.Random("seed")) for _ in range(2))

    assert first == second


def test_a_histogram_gives_what_its_values_give_within_its_error() -> None:
    values = [round(value * 1e6) for value in lognormal(1, 3_000)]
    histogram, sample = HistogramSample(Histogram(values), 1e6, 3_000), Sample([value / 1e6 for value in values])

    assert histogram.percentile(90) == pytest.approx(sample.percentile(90), rel=0.02)
    assert histogram.mean() == pytest.approx(sample.mean())
    for percent in (50, 99):
        ours, theirs = (interval_of(each.draw_percentile(percent, random.Random(2))) for each in (histogram, sample))
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.15)


def test_gaps_of_few_requests_are_less_sure_than_as_many_values() -> None:
    histogram = Histogram(round(value * 1e6) for value in lognormal(1, 3_000))
    few, many = (
        interval_of(HistogramSample(histogram, 1e6, groups).draw_mean(random.Random(1))) for groups in (30, 3_000)
    )

    assert few.high - few.low > 5 * (many.high - many.low)


def test_a_share_of_none_is_not_sure_to_be_none() -> None:
    interval = interval_of(draw_shares(0, 100, random.Random(1)))

    assert interval.low < 0.001
    assert 0.01 < interval.high < 0.05


def test_rates_are_as_sure_as_their_stretches_are_alike() -> None:
    even, uneven = (
        interval_of(draw_rates(stretches, random.Random(1))) for stretches in ([10.0] * 30, [1.0, 19.0] * 15)
    )

    assert even == Interval(10, 10)
    assert uneven.low < 10 < uneven.high
