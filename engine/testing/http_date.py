"""Dates as HTTP writes them.

RFC 9110 section 5.6.7 names three forms; a sender uses the first, a recipient has to read all three.
"""

from __future__ import annotations

import math
import time
from dataclasses import KW_ONLY, dataclass
from typing import Literal

# Not strftime: its names of days and months follow the locale.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Form = Literal["imf", "rfc850", "asctime"]


@dataclass(frozen=True, slots=True)
class HttpDate:
    """A date this many seconds after the moment it is written down.

    HTTP dates count whole seconds, so the date is rounded up: a client that waits for it waits at
    least `seconds_from_now`, and less than one second more.
    """

    seconds_from_now: float
    _: KW_ONLY
    form: Form = "imf"

    def text(self, now: float) -> str:
        """The date as text. `now` is in seconds since the epoch."""
        return format_date(math.ceil(now + self.seconds_from_now), self.form)


def format_date(epoch_s: int, form: Form = "imf") -> str:
    """Write seconds since the epoch in one of the three forms."""
    year, month_number, day, hour, minute, second, weekday, *_ = time.gmtime(epoch_s)
    month, clock = _MONTHS[month_number - 1], f"{hour:02}:{minute:02}:{second:02}"
    if form == "imf":
        return f"{_DAYS[weekday][:3]}, {day:02} {month} {year} {clock} GMT"
    if form == "rfc850":
        return f"{_DAYS[weekday]}, {day:02}-{month}-{year % 100:02} {clock} GMT"
    return f"{_DAYS[weekday][:3]} {month} {day:2} {clock} {year}"


# In a script a value reads as an instruction: fail(429, retry_after=http_date(2)).
http_date = HttpDate
