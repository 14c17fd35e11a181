"""Pictures as values: what is in them, in how much room. How they look is seen in `test_report_in_a_browser.py`."""

from __future__ import annotations

import re

from penstock.engine.bench.charts import against_load, distribution, distribution_scale
from penstock.engine.bench.plot import Axis, Plot
from penstock.engine.bench.scales import SIZE, linear
from penstock.engine.bench.time_charts import (
    client_over_time,
    latency_over_time,
    rates_over_time,
    thinned,
    time_scale,
    timeline,
)

from .recordings import MS, completed, failed, stage


def marks(plot: Plot | None, kind: str) -> int:
    """Points or bars of a kind."""
    assert plot is not None
    return sum(path.count("M") for path in re.findall(rf'class="\w+ {kind}" d="([^"]*)"', plot.marks))


def test_each_request_has_a_dot_for_its_first_token_its_end_or_its_failure() -> None:
    requests = [completed(0, 0), completed(1, 500), failed(2, 900)]
    plot = latency_over_time(requests, time_scale(requests), [])

    assert [marks(plot, kind) for kind in ("accent", "other", "alarm")] == [2, 2, 1]


def test_of_many_points_the_extremes_stay() -> None:
    points = [(at / 100, float(at % 97)) for at in range(50_000)] + [(250.0, 1e6)]
    kept = thinned(points, linear(0, 500))

    assert len(kept) <= 2_500
    assert (250.0, 1e6) in kept
    assert min(value for _, value in kept) == 0


def test_the_client_is_shown_by_its_worst() -> None:
    across = linear(0, 10)
    plot = client_over_time(
        [*((at * MS, 10 * MS, MS) for at in range(0, 10_000, 10)), (5_001 * MS, 1, 80 * MS)], [], across
    )

    assert plot is not None
    assert plot.description.startswith("Highest delay of the event loop 80.0 ms")
    assert marks(plot, "other") <= 241


def test_rows_of_a_timeline_hold_one_request_at_a_time() -> None:
    record = stage(requests=100)
    plot = timeline(record.requests, time_scale(record.requests))

    assert plot is not None
    tops = {float(top) for top in re.findall(r"M[\d.]+ ([\d.]+)H", plot.marks)}
    assert 15 <= len(tops) <= 17  # 16 lanes, one of which may be a hair late
    assert marks(plot, "accent") == sum(each.outcome == "completed" for each in record.requests)


def test_of_a_long_run_the_timeline_shows_the_beginning_on_its_own_axis() -> None:
    record = stage(requests=1_000)
    plot = timeline(record.requests, time_scale(record.requests), "16 at a time")

    assert plot is not None
    assert not plot.is_in_time
    assert plot.up.title == "the first 480 of 1,000 requests, 16 at a time"


def test_output_is_counted_where_it_came() -> None:
    requests = [completed(0, 0), completed(1, 900, output_tokens=None)]  # 11 tokens between 101 and 201 ms
    across = time_scale(requests)
    plot = rates_over_time(requests, across)

    assert plot is not None
    assert marks(plot, "accent") == 6  # of stretches of 18.4 ms


def test_a_distribution_says_its_percentiles() -> None:
    values = [float(value) for value in range(1, 101)]
    plot = distribution("ttft", "Time to first token", values, distribution_scale(values))

    assert plot is not None
    assert plot.up.title == "p50 50.5 ms   p90 90.1 ms   p99 99.0 ms"
    assert marks(plot, "percentile") == 3


def test_stages_are_compared_when_there_are_two() -> None:
    loads = [(1.0, "1 at a time"), (2.0, "2 at a time")]
    plot = against_load("rate", "Rate", "tokens/s", loads, [("tokens/s", "accent", [10.0, 20.0])])

    assert plot is not None
    assert plot.description == "tokens/s: 10.0 at 1 at a time, 20.0 at 2 at a time."
    assert against_load("rate", "Rate", "tokens/s", loads[:1], [("tokens/s", "accent", [10.0])]) is None


def test_what_has_nothing_to_show_is_no_picture() -> None:
    across = linear(0, 1)

    assert latency_over_time([], across, []) is None
    assert client_over_time([], [], across) is None
    assert timeline([], across) is None
    assert rates_over_time([], across) is None
    assert distribution("ttft", "", [], across) is None


def test_a_picture_has_words_for_who_does_not_see_it_and_escapes_them() -> None:
    plot = Plot("x", "<Title>", 'a "text"', Axis(linear(0, 1), "<across>"), Axis(linear(0, 1), "up"), "")
    html = plot.html()

    assert '<title id="x-title">&lt;Title&gt;</title><desc id="x-text">a &quot;text&quot;</desc>' in html
    assert 'role="img" aria-labelledby="x-title x-text"' in html
    assert "<across>" not in html
    assert f'viewBox="0 0 {SIZE:g} {SIZE:g}"' in html
