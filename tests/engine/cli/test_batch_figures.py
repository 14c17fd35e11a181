"""How far a batch is, in figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.engine.batch.counters import BatchProgress, Counters
from penstock.engine.cli.batch_figures import Figures, Meter, Price, amount, clock

START = Counters().progress(in_flight=0, queued=0, waiting=0, seconds=0.0, lanes=4)


def at(seconds: float, done: int, **counts: Any) -> BatchProgress:
    return replace(START, seconds=seconds, done=done, **counts)


def meter(price: Price = Price()) -> Meter:  # noqa: B008 - frozen
    return Meter(price)


def test_rates_are_those_of_the_last_half_minute() -> None:
    read = meter()
    for second in range(0, 90, 10):
        read.read(at(second, done=max(0, second - 50) * 3), 1000, False)
    figures = read.read(at(90.0, done=120), 1000, False)
    assert figures.rows_per_s == 3.0
    assert figures.eta_s == (1000 - 120) / 3.0


def test_rows_of_the_journal_are_settled_and_not_fast() -> None:
    figures = meter().read(at(10.0, done=900, from_journal=800), 1000, False)
    assert (figures.settled, figures.share, figures.rows_per_s, figures.eta_s) == (900, 0.9, 10.0, 10.0)


@pytest.mark.parametrize(("rows", "share"), [(None, None), (0, 1.0), (8, 0.5)])
def test_share_is_told_where_the_rows_are_known(rows: float | None, share: float | None) -> None:
    done = 4 if rows else 0
    assert meter().read(at(1.0, done=done), rows, False).share == share


def test_guess_is_never_below_what_is_settled() -> None:
    figures = meter().read(at(1.0, done=50), 40.4, True)
    assert (figures.rows, figures.share, figures.eta_s) == (50, 1.0, 0.0)


def test_stalled_run_has_no_time_left_to_tell() -> None:
    assert meter().read(at(10.0, done=0), 100, False).eta_s is None


def test_price_is_for_a_million_tokens() -> None:
    figures = meter(Price(0.5, 2.0)).read(at(1.0, 1, input_tokens=2_000_000, output_tokens=500_000), 1, False)
    assert figures.estimated_cost == 2.0
    assert figures.work_line().endswith("2M tokens in, 500k out, 2,500,000/s, cost about 2")


def test_lines_tell_what_there_is() -> None:
    progress = at(10.0, 1500, failed=2, from_journal=500, in_flight=4, queued=60, waiting=1, retries=3)
    figures = meter().read(replace(progress, cost={"USD": 1.5}), 3004.2, True)
    assert figures.rows_line() == (
        "1,502 of about 3,004 rows (50%), 100.2 rows/s, 0:15 left, 2 failed, 500 from the journal"
    )
    assert figures.work_line() == "4 in flight, 60 queued, 1 waiting to be tried again, 3 retries, cost 1.5 USD"


def test_json_has_every_field_always() -> None:
    known, unknown = meter().read(at(1.0, 1), 2, False), meter().read(START, None, True)
    assert isinstance(known, Figures)
    assert list(known.to_json()) == list(unknown.to_json())
    assert (unknown.to_json()["rows"], unknown.to_json()["eta_s"]) == (None, None)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_950, "1000k"), (4_560_000, "4.56M")],
)
def test_amounts_are_short(count: int, told: str) -> None:
    assert amount(count) == told


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (90_061, "25:01:01")])
def test_time_left_is_told_as_a_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told
