"""Numbers find their places and their words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.bench.scales import (
    SIZE,
    fitting,
    linear,
    logarithmic,
    milliseconds,
    number,
    tick_milliseconds,
)

positive = st.floats(1e-6, 1e9)


@given(st.lists(positive, min_size=1))
def test_all_values_fit_and_keep_their_order(values: list[float]) -> None:
    for scale in (linear(0, max(values)), logarithmic(values), fitting(values)):
        places = [scale.place(value) for value in sorted(values)]

        assert places == sorted(places)
        assert 0 <= places[0] <= places[-1] <= SIZE


@given(st.lists(positive, min_size=1))
def test_ticks_are_few_and_inside(values: list[float]) -> None:
    for scale in (linear(0, max(values)), logarithmic(values)):
        assert 1 <= len(scale.ticks) <= 20
        assert all(scale.low * 0.999 <= tick <= scale.high * 1.001 for tick in scale.ticks)


def test_ticks_are_round() -> None:
    assert linear(0, 47).ticks == (0, 10, 20, 30, 40, 50)
    assert linear(3, 47, is_rounded=False).ticks == (10, 20, 30, 40)
    assert logarithmic([40, 2_000]).ticks == (30, 100, 300, 1000, 3000)


def test_values_that_differ_by_factors_get_a_logarithmic_scale() -> None:
    assert fitting([1, 1, 1, 100]).is_log
    assert not fitting([1, 2, 3]).is_log
    assert fitting([]).high > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0004, "0.0004"),
        (0.0521, "0.052"),
        (0.5, "0.500"),
        (12.34, "12.3"),
        (99.96, "100.0"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 ms"), (0.05, "50.0 µs"), (0.25, "0.250 ms"), (12.34, "12.3 ms"), (1500, "1.50 s")]
)
def test_times_have_the_unit_that_suits_them(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_round_times_are_short() -> None:
    assert [tick_milliseconds(value) for value in (0, 0.05, 0.5, 10, 3000)] == [
        "0 ms",
        "50 µs",
        "0.5 ms",
        "10 ms",
        "3 s",
    ]
