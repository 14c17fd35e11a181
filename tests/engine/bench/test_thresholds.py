"""Limits for programs, as they are written and as they are judged."""

from __future__ import annotations

import pytest

from penstock.engine.bench.bootstrap import Interval
from penstock.engine.bench.peers import AIPERF
from penstock.engine.bench.thresholds import Threshold, parse_threshold
from penstock.engine.bench.vocabulary import PENSTOCK
from penstock.errors import ConfigurationError


def parse(text: str) -> Threshold:
    return parse_threshold(text, PENSTOCK)


@pytest.mark.parametrize(
    ("text", "figure", "place", "side", "limit", "kind"),
    [
        ("ttft.p99>+10%", "ttft", "p99", ">", 0.1, "change"),
        ("output_rate<-5%", "output_rate", None, "<", -0.05, "change"),
        ("ttft.p50 > 300ms", "ttft", "p50", ">", 300, "value"),
        ("latency.p99.9>1.5s", "latency", "p99.9", ">", 1500, "value"),
        ("gap.mean>+250us", "gap", "mean", ">", 0.25, "difference"),
        ("error_share>1%", "error_share", None, ">", 0.01, "value"),
        ("error_share>+1pp", "error_share", None, ">", 0.01, "difference"),
        ("request_rate<12.5", "request_rate", None, "<", 12.5, "value"),
        ("duration>90s", "duration", None, ">", 90, "value"),
    ],
)
def test_a_threshold_is_read(text: str, figure: str, place: str | None, side: str, limit: float, kind: str) -> None:
    threshold = parse(text)

    assert (threshold.figure, threshold.place, threshold.side, threshold.kind) == (figure, place, side, kind)
    assert threshold.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft", "is written as in"),
        ("ttft.p99=3ms", "is written as in"),
        ("ttft.p99>10 percent", "is written as in"),
        ("speed.p99>3ms", "no figure is called 'speed'"),
        ("ttft>3ms", "has the values mean"),
        ("ttft.p42>3ms", "has the values mean"),
        ("request_rate.p50<3", "is one value"),
        ("ttft.p99>300", "is compared in 'us' or 'ms' or 's'"),
        ("ttft.p99>10%", "is compared in"),
        ("request_rate<3s", "is compared in no unit"),
    ],
)
def test_what_is_no_threshold_is_told(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(text)


def test_figures_are_those_of_the_vocabulary() -> None:
    assert parse_threshold("icl.p99>30ms", AIPERF).figure == "icl"


def test_a_value_is_compared_as_it_is() -> None:
    assert parse("ttft.p99>300ms").judge(300.0) == "kept"
    assert parse("ttft.p99>300ms").judge(300.1) == "crossed"
    assert parse("request_rate<10").judge(9.9) == "crossed"


def test_a_change_is_compared_with_the_base() -> None:
    assert parse("ttft.p99>+10%").judge(110, 100) == "kept"
    assert parse("ttft.p99>+10%").judge(111, 100) == "crossed"
    assert parse("output_rate<-5%").judge(94, 100) == "crossed"
    assert parse("error_share>+1pp").judge(0.021, 0.01) == "crossed"


def test_a_change_that_may_be_chance_is_undecided() -> None:
    threshold = parse("ttft.p99>+10%")

    assert threshold.judge(120, 100, Interval(-0.02, 0.45)) == "undecided"
    assert threshold.judge(120, 100, Interval(0.02, 0.45)) == "crossed"
    assert threshold.judge(120, 100, Interval(-0.02, 0.45), strict=True) == "crossed"
    assert threshold.judge(105, 100, Interval(-0.02, 0.45)) == "kept"


def test_what_a_run_does_not_have_is_unknown() -> None:
    assert parse("ttft.p99>300ms").judge(None) == "unknown"
    assert parse("ttft.p99>+10%").judge(300) == "unknown"
    assert parse("error_share>+10%").judge(0.1, 0.0) == "unknown"
