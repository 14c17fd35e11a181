"""What a server says about trying again, in every form and in none."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock.engine.hints import RetryHints, parse_http_date, retry_hints
from penstock.testing import http_date

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
IMF = "Fri, 15 Jan 2027 08:00:30 GMT"
RFC850 = "Friday, 15-Jan-27 08:00:30 GMT"
ASCTIME = "Fri Jan 15 08:00:30 2027"

UNREADABLE = [
    "",
    "soon",
    "+5",
    " 5",
    "-1",
    "5.",
    ".5",
    "5s",
    "1e3",
    "0x10",
    "1_000",
    "nan",
    "inf",
    "Infinity",
    "٩٩٩",
    "５",
    "9" * 5000,
    "Fri, 15 Jan 2027 08:00:30 UTC",
    "Fri, 15 Jan 2027 08:00:30 +0000",
    "Fri, 15 Foo 2027 08:00:30 GMT",
    "Fri, 32 Jan 2027 08:00:30 GMT",
    "Fri, 15 Jan 2027 24:00:30 GMT",
    "Fri, 15 Jan 2027 08:60:30 GMT",
    "Fri, 15 Jan 2027 08:00:61 GMT",
    "Mon, 30 Feb 2026 08:00:00 GMT",
    "2027-01-15T08:00:30Z",
]


def after(*lines: tuple[str, str]) -> float | None:
    return retry_hints(CIMultiDict(lines), NOW).after


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("0", 0.0),
        ("5", 5.0),
        ("007", 7.0),
        ("0.5", 0.5),
        ("0.30000000000000004", 0.1 + 0.2),  # how Python prints a float
        (IMF, 30.0),
        (RFC850, 30.0),
        (ASCTIME, 30.0),
        ("Thu, 14 Jan 2027 08:00:00 GMT", 0.0),  # past
        ("Sat Jan  9 08:00:00 2027", 0.0),  # asctime pads the day with a space
    ],
)
def test_retry_after_is_read_in_every_form(value: str, seconds: float) -> None:
    assert after(("Retry-After", value)) == seconds


@pytest.mark.parametrize("value", UNREADABLE)
def test_what_is_in_no_form_counts_as_absent(value: str) -> None:
    assert after(("retry-after", value)) is None
    assert after(("retry-after-ms", value)) is None


@pytest.mark.parametrize("name", ["retry-after-ms", "Retry-After-Ms", "x-ms-retry-after-ms"])
def test_milliseconds_are_read_with_fractions(name: str) -> None:
    assert after((name, "1500.5")) == 1.5005


@pytest.mark.parametrize(
    "lines, seconds",
    [
        ([("retry-after", "9"), ("retry-after-ms", "20")], 0.02),
        ([("retry-after", "9"), ("retry-after-ms", "soon")], 9.0),
        ([("retry-after", "soon"), ("llm_provider-retry-after", "3")], 3.0),
        ([("retry-after", "1"), ("llm_provider-retry-after", "3")], 1.0),
        ([("retry-after", "0"), ("llm_provider-retry-after", "3")], 3.0),
        ([("retry-after-ms", "20"), ("x-ms-retry-after-ms", "30")], 0.02),
    ],
)
def test_the_more_precise_header_wins_if_it_can_be_read(lines: list[tuple[str, str]], seconds: float) -> None:
    assert after(*lines) == seconds


@pytest.mark.parametrize(
    "lines",
    [
        ["1", "7"],
        ["7", "1"],
        ["1, 7"],
        ["7 ,1"],
        ["7,soon"],
        ["7", "soon"],
        ["soon, 2", "7"],
        [f"7, {IMF}".replace(":30", ":05")],
        [f"{IMF}, 1".replace(":30", ":07")],
        [f"{RFC850}, {IMF}".replace(":30", ":07")],
    ],
)
def test_of_several_values_the_largest_counts_however_they_were_joined(lines: list[str]) -> None:
    assert after(*(("retry-after", line) for line in lines)) == 7.0


def test_a_plain_mapping_does_as_well() -> None:
    assert retry_hints({"retry-after": "1, 2", "x-should-retry": "true"}, NOW) == RetryHints(True, 2.0)


@pytest.mark.parametrize("server_is_ahead", [-3600, -61, 61, 3600])
def test_a_date_is_read_against_the_servers_own_clock_when_that_is_skewed(server_is_ahead: int) -> None:
    then = NOW + server_is_ahead
    assert after(("date", http_date(0).text(then)), ("retry-after", http_date(9).text(then))) == 9.0


def test_a_small_difference_is_the_time_the_answer_travelled() -> None:
    assert after(("date", http_date(-2).text(NOW)), ("retry-after", http_date(9).text(NOW))) == 9.0


@pytest.mark.parametrize("value, said", [("true", True), ("false", False), ("True", True), ("FALSE", False)])
def test_should_retry_goes_both_ways(value: str, said: bool) -> None:
    assert retry_hints(CIMultiDict({"X-Should-Retry": value}), NOW).should_retry is said


@pytest.mark.parametrize("value", ["", "yes", "1", "0", "null", "true, false"])
def test_should_retry_has_two_words(value: str) -> None:
    assert retry_hints(CIMultiDict({"x-should-retry": value}), NOW).should_retry is None


@pytest.mark.parametrize(
    "now_year, two_digits, year",
    [(2027, 27, 2027), (2027, 77, 2077), (2027, 78, 1978), (2027, 0, 2000), (2099, 5, 2105), (2100, 99, 2099)],
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(now_year: int, two_digits: int, year: int) -> None:
    now = datetime(now_year, 6, 1, tzinfo=timezone.utc).timestamp()
    expected = datetime(year, 3, 1, tzinfo=timezone.utc).timestamp()
    assert parse_http_date(f"Monday, 01-Mar-{two_digits:02} 00:00:00 GMT", now) == expected


def test_a_leap_second_is_a_date() -> None:
    midnight = datetime(2017, 1, 1, tzinfo=timezone.utc).timestamp()
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == midnight


@given(st.integers(0, 4_000_000_000), st.sampled_from(["imf", "rfc850", "asctime"]))
def test_every_date_that_can_be_written_can_be_read(instant: int, form: str) -> None:
    text = http_date(0, form=form).text(instant)  # type: ignore[arg-type]
    assert parse_http_date(text, float(instant)) == instant


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_raises_or_gives_a_wait_that_is_none(seconds: str, milliseconds: str) -> None:
    wait = after(("retry-after", seconds), ("retry-after-ms", milliseconds))
    assert wait is None or (0 <= wait < math.inf)


@given(st.floats(0, 1e9))
def test_every_float_that_python_prints_without_an_exponent_is_read(seconds: float) -> None:
    text = str(seconds)
    assert after(("retry-after", text)) == (None if "e" in text else seconds)
