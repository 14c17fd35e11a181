"""Dates in the three forms of HTTP."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from penstock.engine.testing.http_date import HttpDate, format_date

# The moment of RFC 9110 section 5.6.7.
EXAMPLE = 784_111_777


def test_writes_the_three_forms_of_rfc_9110() -> None:
    assert format_date(EXAMPLE, "imf") == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_date(EXAMPLE, "rfc850") == "Sunday, 06-Nov-94 08:49:37 GMT"
    assert format_date(EXAMPLE, "asctime") == "Sun Nov  6 08:49:37 1994"


@pytest.mark.parametrize("now", [1000.0, 1000.25, 1000.999])
def test_a_date_is_never_earlier_than_it_says_and_less_than_a_second_later(now: float) -> None:
    then = parsedate_to_datetime(HttpDate(2).text(now)).timestamp()
    assert now + 2 <= then < now + 3
