"""The bucket: what it lets through, what it learns, and what is given back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.errors import ConfigurationError
from penstock.middleware.rate_headers import RateWindow
from penstock.middleware.rates import Rate


def rate(per_minute: Any = 60, burst: float = 10) -> Rate:
    """One a second and ten at once, unless told otherwise."""
    return Rate("requests_per_minute", per_minute, burst)


def emptied(amount: float = 10, **options: Any) -> Rate:
    """A bucket of which so much was taken at the time 0."""
    bucket = rate(**options)
    bucket.take(amount, 0)
    return bucket


def test_a_burst_starts_at_once_and_the_next_when_the_bucket_has_filled_so_far() -> None:
    bucket = emptied(10)
    assert [bucket.delay(amount, 0) for amount in (1, 5, 10)] == [1, 5, 10]
    assert [bucket.delay(1, now) for now in (0.25, 1, 100)] == [0.75, 0, 0]


def test_it_does_not_hold_more_than_the_burst() -> None:
    bucket = emptied(10)
    bucket.take(10, 1000)
    assert bucket.delay(1, 1000) == 1


def test_more_than_it_holds_starts_when_it_is_full_and_is_paid_back_by_those_who_follow() -> None:
    bucket = emptied(1)
    assert [bucket.delay(100, now) for now in (0, 1)] == [1, 0]
    bucket.take(100, 1)
    assert bucket.delay(1, 1) == 91


def test_a_wait_too_short_for_a_clock_is_none() -> None:
    assert emptied(10).delay(1, 1 - 1e-9) == 0


@pytest.mark.parametrize("taken, amount, delay", [(10, 10, 1), (10, 4, 0), (5, 10, 1), (5, 20, 11), (10, 0, 0)])
def test_what_was_estimated_wrongly_is_taken_or_given_back(taken: int, amount: int, delay: float) -> None:
    bucket = emptied(taken)
    bucket.settle(taken, amount, at=0, now=0)
    assert bucket.delay(1, 0) == delay


def test_nothing_is_given_back_to_a_bucket_that_has_been_full_since() -> None:
    bucket = emptied(10)
    bucket.take(10, 100)
    bucket.settle(10, 0, at=0, now=100)
    assert bucket.delay(1, 100) == 1


def test_without_a_bound_nothing_waits() -> None:
    bucket = rate(None)
    bucket.take(10**9, 0)
    bucket.settle(10**9, 10, at=0, now=1)
    bucket.learn(RateWindow(1, 0, 60.0), 1)
    assert (bucket.delay(10**9, 1), bucket.per_minute, bucket.is_bounded) == (0, math.inf, False)


def test_auto_is_what_the_gateway_says() -> None:
    bucket = rate("auto")
    bucket.take(1000, 0)
    assert (bucket.delay(1, 0), bucket.per_minute, bucket.is_bounded) == (0, math.inf, True)
    bucket.learn(RateWindow(120, 100), 0)
    assert (bucket.per_minute, bucket.delay(1, 0)) == (120, 0)
    bucket.learn(RateWindow(240), 0)
    assert bucket.per_minute == 240


@pytest.mark.parametrize("limit, per_minute", [(30, 30), (60, 60), (600, 60)])
def test_the_gateway_lowers_a_number_and_never_raises_it(limit: int, per_minute: float) -> None:
    bucket = rate(60)
    bucket.learn(RateWindow(limit), 0)
    assert bucket.per_minute == per_minute


def test_when_the_limit_falls_what_is_missing_stays_missing() -> None:
    bucket = emptied(5)
    bucket.learn(RateWindow(30), 0)
    assert bucket.delay(5, 0) == 10  # 5 of the 5 that now fit are missing, and half a one comes in a second


@pytest.mark.parametrize("remaining, delay", [(0, 1), (1, 0), (5, 0), (1000, 0)])
def test_no_more_starts_than_the_gateway_says_remain(remaining: int, delay: float) -> None:
    bucket = rate()
    bucket.learn(RateWindow(60, remaining), 0)
    assert bucket.delay(1, 0) == delay


def test_what_remains_at_the_gateway_does_not_fill_our_bucket() -> None:
    bucket = emptied(10)
    bucket.learn(RateWindow(60, 60), 0)
    assert bucket.delay(1, 0) == 1


def test_what_the_gateway_has_counted_is_not_given_back() -> None:
    bucket = emptied(10)
    bucket.learn(RateWindow(60, 0), 1)
    bucket.settle(10, 0, at=0, now=1)
    assert bucket.delay(1, 1) == 1


@pytest.mark.parametrize(
    "reset, delay",
    [
        (60.0, 1.0),
        (86_400.0, 1440.0),  # 60 a day are one in 24 minutes
        (1.0, 1.0),  # an upper bound: what fills faster at the gateway does not at ours
        (None, 1.0),
    ],
)
def test_when_nothing_remains_the_bucket_is_full_at_the_reset(reset: float | None, delay: float) -> None:
    bucket = rate("auto")
    bucket.learn(RateWindow(60, 0, reset), 0)
    assert bucket.delay(1, 0) == pytest.approx(delay)


def test_a_reset_is_of_no_interest_while_something_remains() -> None:
    bucket = rate("auto")
    bucket.learn(RateWindow(60, 50, 86_400.0), 0)
    assert (bucket.per_minute, bucket.delay(1, 0)) == (60, 0)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "60", "AUTO", []], ids=repr)
def test_a_rate_is_positive_or_auto_or_none(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^requests_per_minute is a positive number, 'auto' or None"):
        rate(wrong)


amounts = st.integers(1, 30)
steps = st.lists(st.tuples(st.floats(0, 20), amounts, amounts), max_size=40)


@given(steps)
def test_in_no_stretch_of_time_more_starts_than_burst_and_rate_allow(steps: list[tuple[float, int, int]]) -> None:
    bucket, now, taken = rate(), 0.0, list[tuple[float, float]]()
    for pause, amount, _ in steps:
        now += pause
        now += bucket.delay(amount, now)
        assert bucket.delay(amount, now) == 0
        bucket.take(amount, now)
        taken.append((now, amount))
    for first, (start, _) in enumerate(taken):
        stretch = taken[first:-1]  # the last may be larger than the bucket
        for end in range(len(stretch)):
            total = sum(amount for _, amount in stretch[:end])
            assert total <= 10 + (stretch[end][0] - start) + 1e-3


@given(steps)
def test_settled_or_told_whatever_every_wait_is_a_time_that_ends_it(steps: list[tuple[float, int, int]]) -> None:
    bucket, now = rate("auto"), 0.0
    for pause, amount, other in steps:
        now += pause
        bucket.learn(RateWindow(amount, other if other % 3 else 0, pause or None), now)
        delay = bucket.delay(amount, now)
        assert 0 <= delay < math.inf
        bucket.take(amount, now + delay)
        bucket.settle(amount, other, at=now + delay, now=now + delay)
        assert bucket.delay(amount, now + delay + bucket.delay(amount, now + delay)) == 0
