"""What the headers of an answer say about a gateway's rates.

    x-ratelimit-limit-tokens: 150000                    OpenAI, Azure, Groq, vLLM's routers
    x-ratelimit-remaining-tokens: 149984
    x-ratelimit-reset-tokens: 6m0s
    anthropic-ratelimit-tokens-limit: 80000             Anthropic
    anthropic-ratelimit-tokens-remaining: 0
    anthropic-ratelimit-tokens-reset: 2026-01-01T00:00:30Z

The texts come from anywhere, so they are matched, not converted. What is not in one of these forms is treated as
absent; so are a limit and a reset of 0 or -1, which Azure sends where it has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from penstock.engine.hints import parse_http_date

_COUNT = r"[0-9]{1,15}\Z"
_SECONDS = r"[0-9]{1,9}(?:\.[0-9]{1,32})?\Z"
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
# As Go's time.Duration prints itself; each unit at most once.
_DURATION = rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?(?:{_NUMBER}(?:µ|μ|u)s)?(?:{_NUMBER}ns)?\Z"
_UNITS = (3600.0, 60.0, 1.0, 1e-3, 1e-6, 1e-9)  # seconds
_INSTANT = (
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,9})?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))\Z"
)
_LONGEST = 86_400.0  # seconds; no gateway counts in longer windows than a day
_SHORTEST = 1e-3  # seconds; and rates are divided by it
_SKEW = 60.0  # seconds by which the server's clock may differ before instants are read against its own Date header


@dataclass(frozen=True, slots=True)
class RateWindow:
    """What a gateway says about one of its rates.

    Args:
        limit: Requests or tokens in a window, at least 1.
        remaining: How many are left. `None` when it does not say.
        reset: Seconds until the window is full again, at most a day. `None` when it does not say.
    """

    limit: int
    remaining: int | None = None
    reset: float | None = None


def rate_window(headers: Mapping[str, str], kind: str, now: float) -> RateWindow | None:
    """Read the window of ``"requests"`` or ``"tokens"``. `None` when there is no limit in it.

    Args:
        headers: Response headers; look-ups must ignore case, or the names be in lower case.
        kind: Which window.
        now: Unix time in seconds at which the answer was received.
    """
    for form in (f"x-ratelimit-{{}}-{kind}", f"anthropic-ratelimit-{kind}-{{}}"):
        limit = _count(headers.get(form.format("limit"), ""))
        if limit:
            remaining = _count(headers.get(form.format("remaining"), ""))
            reset = _reset(headers.get(form.format("reset"), ""), headers, now)
            return RateWindow(limit, remaining, reset)
    return None


def _count(text: str) -> int | None:
    return int(text) if re.match(_COUNT, text) else None


def _reset(text: str, headers: Mapping[str, str], now: float) -> float | None:
    if re.match(_SECONDS, text):
        seconds = float(text)
    elif text and (duration := re.match(_DURATION, text)):
        seconds = sum(float(number) * unit for number, unit in zip(duration.groups(), _UNITS) if number is not None)
    elif (instant := _timestamp(text)) is not None:
        server_now = parse_http_date(headers.get("date", ""), now)
        seconds = instant - (now if server_now is None or abs(server_now - now) <= _SKEW else server_now)
    else:
        return None
    return min(seconds, _LONGEST) if seconds >= _SHORTEST else None


def _timestamp(text: str) -> float | None:
    """Unix time of an RFC 3339 instant."""
    match = re.match(_INSTANT, text)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{match['day']}T{match['time']}+00:00")
    except ValueError:
        return None
    ahead = int(match["hours"] or 0) * 3600 + int(match["minutes"] or 0) * 60
    return moment.timestamp() + float(match["fraction"] or 0) - (ahead if match["sign"] == "+" else -ahead)
