"""What a response says about trying again: `x-should-retry`, `retry-after-ms`, `retry-after`, tries of the gateway.

The texts come from anywhere, so they are matched, not converted: ``float()`` and ``int()`` accept ``nan``, ``1_000``
and digits of other scripts. What is not in one of the forms below is treated as absent.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

# Patterns are compiled when they are first used: only failed calls need them, and `import` would pay for them.
# 12 digits are 30,000 years; 32 places are more than any float is printed with
_DECIMAL = r"[0-9]{1,12}(?:\.[0-9]{1,32})?\Z"
_MEMBER = r"(?:\A|,[ \t]*)((?:[A-Z][a-z]+, )?[^,]*)"  # of a list; an HTTP date has a comma of its own
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DATE_FORMS = (
    # RFC 9110 5.6.7: IMF-fixdate, then the two obsolete forms a recipient has to accept
    (
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) "
        r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) GMT\Z"
    ),
    (
        r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{2})-(?P<month>[A-Z][a-z]{2})-(?P<year>[0-9]{2}) "
        r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) GMT\Z"
    ),
    (
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>[A-Z][a-z]{2}) (?P<day>[ 0-9][0-9]) "
        r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) (?P<year>[0-9]{4})\Z"
    ),
)
_SKEW = 60.0  # seconds by which the server's clock may differ before dates are read against its own Date header


@dataclass(frozen=True, slots=True)
class RetryHints:
    """What the server says.

    Args:
        should_retry: ``x-should-retry``. `None` when absent.
        after: Seconds to wait at least, not below 0. `None` when absent.
    """

    should_retry: bool | None = None
    after: float | None = None


def retry_hints(headers: Mapping[str, str], now: float) -> RetryHints:
    """Read the hints of a response.

    Args:
        headers: Response headers; look-ups must ignore case. Of several values of one header the largest counts.
        now: Unix time in seconds at which the response was received.
    """
    return RetryHints(should_retry(headers), _after(headers, now))


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What ``x-should-retry`` says. `None` when it is absent or something else than true or false."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def gateway_retries(headers: Mapping[str, str]) -> float:
    """How often the gateway itself has tried again before it gave this answer; infinite when it says that it has used
    up its tries, 0 when it says nothing.

    Portkey writes -1 when it has used them up.
    """
    counts = [headers.get(name, "") for name in ("x-portkey-retry-attempt-count", "x-litellm-attempted-retries")]
    if "-1" in counts:
        return math.inf
    return max((float(count) for count in counts if re.match(r"[0-9]{1,3}\Z", count)), default=0.0)


def parse_http_date(text: str, now: float) -> float | None:
    """Unix time in seconds of an HTTP date in any of its three forms, `None` for anything else.

    Args:
        text: The header value.
        now: Unix time in seconds; a two-digit year more than 50 years ahead of it means the past century (RFC 9110
            5.6.7).
    """
    for form in _DATE_FORMS:
        if match := re.match(form, text):
            return _timestamp(match, now)
    return None


def _after(headers: Mapping[str, str], now: float) -> float | None:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = [float(value) for value in _values(headers, name) if re.match(_DECIMAL, value)]
        if milliseconds:
            return max(milliseconds) / 1000
    # LiteLLM hands the provider's header on under a name of its own
    told: float | None = None
    for name in ("retry-after", "llm_provider-retry-after"):
        seconds = [wait for value in _values(headers, name) if (wait := _seconds(value, headers, now)) is not None]
        told = max(seconds, default=told)
        if told:
            break  # a 0 says nothing, and leaves it to the next
    return told


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    lines: list[str] = list(getall(name, ())) if getall else [headers[name]] if name in headers else []
    # Two lines may come as they are, or joined by a proxy into "1, 2".
    return [value.rstrip(" \t") for line in lines for value in re.findall(_MEMBER, line)]


def _seconds(value: str, headers: Mapping[str, str], now: float) -> float | None:
    if re.match(_DECIMAL, value):
        return float(value)
    instant = parse_http_date(value, now)
    if instant is None:
        return None
    server_now = parse_http_date(headers.get("date", ""), now)
    if server_now is not None and abs(server_now - now) > _SKEW:
        now = server_now
    return max(0.0, instant - now)


def _timestamp(match: re.Match[str], now: float) -> float | None:
    month = _MONTHS.get(match["month"])
    if month is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        latest = datetime.fromtimestamp(now, timezone.utc).year + 50
        year = latest - (latest - year) % 100
    second = int(match["second"])
    try:
        moment = datetime(year, month, int(match["day"]), int(match["hour"]), int(match["minute"]))
    except ValueError:
        return None
    return float(calendar.timegm(moment.timetuple()) + second) if second <= 60 else None  # 60 is a leap second
