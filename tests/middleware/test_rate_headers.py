"""What is read of the headers that tell of rates, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock.middleware.rate_headers import RateWindow, rate_window

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def reset(text: str, **others: str) -> float | None:
    """The reset of an OpenAI answer."""
    headers = {"X-RateLimit-Limit-Tokens": "100", "X-RateLimit-Reset-Tokens": text, **others}
    window = rate_window(CIMultiDict(headers), "tokens", NOW)
    assert window is not None
    return window.reset


def test_the_three_headers_of_openai_are_read() -> None:
    headers = CIMultiDict(
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-reset-tokens": "6m0s",
        }
    )
    assert rate_window(headers, "requests", NOW) == RateWindow(60, 59, 1.0)
    assert rate_window(headers, "tokens", NOW) == RateWindow(150_000, 149_984, 360.0)


def test_those_of_anthropic_are_read() -> None:
    headers = {
        "anthropic-ratelimit-tokens-limit": "80000",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:30Z",
    }
    assert rate_window(headers, "tokens", NOW) == RateWindow(80_000, 0, 30.0)
    assert rate_window(headers, "requests", NOW) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("8.64s", 8.64),
        ("1.5ms", 0.0015),
        ("1500µs", 0.0015),
        ("2000000ns", 0.002),
        ("30", 30.0),
        ("0.25", 0.25),
        ("2026-01-01T00:01:00Z", 60.0),
        ("2026-01-01T00:00:30.5Z", 30.5),
        ("2026-01-01T07:00:10+07:00", 10.0),
        ("2025-12-31T19:00:10-05:00", 10.0),
        ("720h0m0s", 86_400.0),  # no window is longer than a day
    ],
)
def test_a_reset_is_a_duration_a_number_of_seconds_or_an_instant(text: str, seconds: float) -> None:
    assert reset(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "0s",
            "-1",
            "-1s",
            "+5",
            " 5",
            "5 ",
            "1e3",
            "nan",
            "inf",
            "1_000",
            "١s",
            "٣",
            "5s1m",
            "1m1m",
            "m",
            "s",
        ),
        *("1.s", ".5s", "1d", "soon", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "9" * 5000),
        "2025-12-31T23:59:59Z",  # past
    ],
)
def test_a_reset_of_another_form_and_azures_0_and_minus_1_are_absent(text: str) -> None:
    assert reset(text) is None


@pytest.mark.parametrize("limit", ["", "0", "-1", "1.5", "many", "1_000", "٣", "9" * 16])
def test_without_a_limit_nothing_is_said(limit: str) -> None:
    headers = {"x-ratelimit-limit-requests": limit, "x-ratelimit-remaining-requests": "0"}
    assert rate_window(headers, "requests", NOW) is None


def test_a_remainder_of_another_form_is_absent_alone() -> None:
    headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "-1"}
    assert rate_window(headers, "requests", NOW) == RateWindow(10)


def test_an_instant_is_read_by_the_clock_of_a_server_whose_clock_is_wrong() -> None:
    assert reset("2026-01-01T01:00:30Z", Date="Thu, 01 Jan 2026 01:00:00 GMT") == 30.0
    assert reset("2026-01-01T00:00:30Z", Date="Thu, 01 Jan 2026 00:00:02 GMT") == 30.0


@given(st.text() | st.from_regex(r"[0-9.hmsnuTZ:+-]{0,30}", fullmatch=True), st.floats(0, 4e9))
@example("0001-01-01T00:00:00+23:59", NOW)
@example("9999-12-31T23:59:59-23:59", NOW)
def test_whatever_comes_a_reset_is_a_time_within_a_day_or_absent(text: str, now: float) -> None:
    headers = {"x-ratelimit-limit-tokens": "1", "x-ratelimit-reset-tokens": text, "x-ratelimit-remaining-tokens": text}
    window = rate_window(headers, "tokens", now)
    assert window is not None
    assert window.reset is None or 0 < window.reset <= 86_400
    assert window.remaining is None or window.remaining >= 0
