"""Error statuses, what they say about trying again, and their bodies."""

from __future__ import annotations

import gzip
import time
import zlib
from email.utils import formatdate

from penstock.engine.errors import Advice
from tests.conftest import API_KEY

from ..acts import (
    answers,
    bomb,
    breaks,
    complaint,
    flood,
    for_ever,
    hang,
    head,
    redirect,
    refuses,
    says,
    spoils,
    whole,
)
from ..scenario import BACKED_OFF, THROTTLED, Came, Scenario, Span, answered, failed, told
from ..server import Act, Visit

NAME = "Error statuses"
HINTS = "What a refusal says about waiting"
BODIES = "Bodies of errors"

_FINAL: dict[int, tuple[str, Advice]] = {
    400: ("InvalidRequestError", "never"),
    401: ("AuthenticationError", "refresh_auth"),
    402: ("QuotaExceededError", "never"),
    403: ("PermissionDeniedError", "never"),
    404: ("NotFoundError", "never"),
    413: ("InvalidRequestError", "never"),
    422: ("InvalidRequestError", "never"),
    501: ("ServerError", "never"),
}
_PASSING = {
    408: ("RequestTimeoutError", BACKED_OFF),
    409: ("ConflictError", BACKED_OFF),
    425: ("ConflictError", BACKED_OFF),
    429: ("RateLimitError", THROTTLED),
    500: ("ServerError", BACKED_OFF),
    502: ("ProviderError", BACKED_OFF),
    503: ("OverloadedError", THROTTLED),
    504: ("RequestTimeoutError", BACKED_OFF),
    529: ("OverloadedError", THROTTLED),
}


def _ends(kind: str, advice: Advice, *waits: Span) -> Came:
    return failed(kind, "rejected", advice, *waits)


STATUSES = [
    *(
        Scenario(f"status-{status}", f"{status}", [refuses(status)], both=_ends(kind, advice))
        for status, (kind, advice) in _FINAL.items()
    ),
    *(
        Scenario(f"status-{status}", f"{status} each time", [refuses(status)], both=_ends(kind, "after", *waits))
        for status, (kind, waits) in _PASSING.items()
    ),
    Scenario("429-then-answer", "429, then answers", [refuses(429), answers()], both=answered(*THROTTLED[:1])),
    Scenario(
        "500-503-then-answer",
        "500, then 503, then answers",
        [refuses(500), refuses(503), answers()],
        both=answered(*BACKED_OFF[:1], *THROTTLED[1:]),
    ),
    *(
        Scenario(
            f"redirect-{status}",
            f"{status} to another path",
            [says(redirect(status, "127.0.0.1")), answers()],
            both=_ends("RedirectError", "never"),
        )
        for status in (301, 302)
    ),
    *(
        Scenario(
            f"redirect-{status}-elsewhere",
            f"{status} to another origin",
            [says(redirect(status, "localhost")), answers()],
            both=_ends("RedirectError", "never"),
        )
        for status in (307, 308)
    ),
    Scenario(
        "status-204",
        "204",
        [answers(head(204))],
        both=failed("EmptyResponseError", "before_output", "after", *BACKED_OFF),
    ),
    Scenario(
        "status-206",
        "206 with half an answer",
        [answers(whole(b'{"choices": [', status=206))],
        both=failed("MalformedResponseError", "before_output", "never"),
    ),
    Scenario(
        "status-101",
        "101, another protocol",
        [breaks(head(101, "upgrade: websocket", "connection: upgrade"), b"\x81\x02hi", hang)],
        both=failed("EmptyResponseError", "before_output", "after", *BACKED_OFF),
        clocks={"first_event": 0.3, "idle": 0.3, "answer": 0.3},
    ),
]


def _date(instant: float, form: str = "imf") -> str:
    """An HTTP date in one of its three forms (RFC 9110 5.6.7)."""
    imf = formatdate(instant, usegmt=True)
    day, date, month, year, clock, _ = imf.replace(",", "").split()
    if form == "rfc850":
        names = {"Tue": "Tues", "Wed": "Wednes", "Thu": "Thurs", "Sat": "Satur"}
        return f"{names.get(day, day)}day, {date}-{month}-{year[2:]} {clock} GMT"
    if form == "asctime":
        return f"{day} {month} {int(date):2} {clock} {year}"
    return imf


def _until(form: str) -> Act:
    """429, with a date in 9 s."""

    async def act(visit: Visit) -> None:
        header = f"retry-after: {_date(time.time() + 9, form)}"
        await visit.connection.send(whole(complaint("wait"), header, status=429))

    return act


_THEN = 2_200_000_000.0  # 18 September 2039


def _hinted(name: str, what: str, *headers: str, both: Came, status: int = 429) -> Scenario:
    """A refusal with these headers, then an answer."""
    return Scenario(f"hint-{name}", what, [refuses(status, *headers), answers()], both=both)


_IMPATIENT = failed("RateLimitError", "rejected", "after")

WAITING = [
    _hinted("seconds", "Retry-After: 7", "retry-after: 7", both=answered(*told(7))),
    _hinted("seconds-503", "503 with Retry-After: 7", "retry-after: 7", status=503, both=answered(*told(7))),
    _hinted("decimal", "Retry-After: 1.5", "retry-after: 1.5", both=answered(*told(1.5))),
    _hinted("zero", "Retry-After: 0", "retry-after: 0", both=answered(*THROTTLED[:1])),
    *(
        Scenario(
            f"hint-date-{form}",
            f"Retry-After: a date in 9 s, {words}",
            [says(_until(form)), answers()],
            both=answered((8, 9.9)),  # a date has no fractions of a second
        )
        for form, words in (("imf", "IMF-fixdate"), ("rfc850", "RFC 850"), ("asctime", "asctime"))
    ),
    _hinted(
        "date-skewed",
        "Retry-After: 9 s after its Date, which is in 2039",
        f"retry-after: {_date(_THEN + 9)}",
        f"date: {_date(_THEN)}",
        both=answered(*told(9)),
    ),
    _hinted("two", "two lines, Retry-After: 1 and 4", "retry-after: 1", "retry-after: 4", both=answered(*told(4))),
    _hinted("joined", "Retry-After: 1, 4", "retry-after: 1, 4", both=answered(*told(4))),
    *(
        _hinted(name, f"Retry-After: {value}", f"retry-after: {value}", both=answered(*THROTTLED[:1]))
        for name, value in (("garbage", "soon"), ("negative", "-7"), ("nan", "nan"), ("underscore", "1_0"))
    ),
    _hinted(
        "arabic",
        "Retry-After: 999 in Arabic digits",
        "retry-after: \u0669\u0669\u0669".encode().decode("latin-1"),
        both=answered(*THROTTLED[:1]),
    ),
    _hinted("milliseconds", "retry-after-ms: 250", "retry-after-ms: 250", both=answered(*told(0.25))),
    _hinted(
        "milliseconds-first",
        "retry-after-ms: 250 and Retry-After: 9",
        "retry-after: 9",
        "retry-after-ms: 250",
        both=answered(*told(0.25)),
    ),
    _hinted("cap", "Retry-After: 120", "retry-after: 120", both=answered(*told(120))),
    _hinted("beyond-cap", "Retry-After: 121", "retry-after: 121", both=_IMPATIENT),
    _hinted("hour", "Retry-After: 3600", "retry-after: 3600", both=_IMPATIENT),
    _hinted(
        "no", "500 with x-should-retry: false", "x-should-retry: false", status=500, both=_ends("ServerError", "never")
    ),
    _hinted("yes", "400 with x-should-retry: true", "x-should-retry: true", status=400, both=answered(*BACKED_OFF[:1])),
    Scenario(
        "quota",
        "429 insufficient_quota",
        [refuses(429, body=complaint("You have no credit", code="insufficient_quota"))],
        both=_ends("QuotaExceededError", "never"),
    ),
    Scenario(
        "quota-hint",
        "429 insufficient_quota with Retry-After: 0",
        [refuses(429, "retry-after: 0", body=complaint("You have no credit", code="insufficient_quota"))],
        both=_ends("QuotaExceededError", "never"),
    ),
]

_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_SERVER_ERROR = _ends("ServerError", "after", *BACKED_OFF)
_BAD = _ends("InvalidRequestError", "never")
_BLOCK = b"x" * 65536
_LARGE = 763 * len(_BLOCK)  # 50 MB

ERROR_BODIES = [
    Scenario(
        "html-502",
        "502 with an HTML page",
        [refuses(502, body=_HTML, kind="text/html")],
        both=_ends("ProviderError", "after", *BACKED_OFF),
    ),
    Scenario("empty-500", "500 without a body", [refuses(500, body=b"")], both=_SERVER_ERROR),
    Scenario(
        "large-error",
        "400 with a body of 50 MB",
        [spoils(head(400, "content-type: text/plain", length=_LARGE), flood(_BLOCK, _LARGE // len(_BLOCK)))],
        both=_BAD,
        sent=20_000_000,
    ),
    Scenario(
        "dripping-error",
        "400 whose body drips",
        [spoils(head(400, "content-type: text/plain", length=_LARGE), for_ever(b"x"))],
        both=_BAD,
        clocks={"deadline": 0.3},
        endless=True,
    ),
    Scenario(
        "silent-error",
        "400 whose body does not come",
        [spoils(head(400, "content-type: text/plain", length=_LARGE), hang)],
        both=_BAD,
        clocks={"deadline": 0.3},
    ),
    Scenario(
        "gzip-bomb",
        "400 with a gzip bomb of 50 MB",
        [refuses(400, "content-encoding: gzip", body=bomb(_LARGE))],
        both=_BAD,
    ),
    Scenario(
        "deflate-bomb",
        "400 with a deflate bomb of 50 MB",
        [refuses(400, "content-encoding: deflate", body=bomb(_LARGE, zlib.compress))],
        both=_BAD,
    ),
    Scenario(
        "broken-gzip",
        "500 that says gzip and is not",
        [refuses(500, "content-encoding: gzip", body=b"not gzip")],
        both=_SERVER_ERROR,
    ),
    Scenario("broken-json", "400 with broken JSON", [refuses(400, body=b'{"error": {"message": "half')], both=_BAD),
    Scenario("invalid-utf8", "400 with invalid UTF-8", [refuses(400, body=b'{"error": "\xff\xfe\x80"}')], both=_BAD),
    Scenario(
        "deep-json",
        "400 with JSON 100,000 levels deep",
        [refuses(400, body=b"[" * 100_000 + b"]" * 100_000)],
        both=_BAD,
    ),
    Scenario("code-number", "400 whose code is a number", [refuses(400, body=complaint("No", code=1301))], both=_BAD),
    Scenario("code-null", "400 whose error is null", [refuses(400, body=b'{"error": null}')], both=_BAD),
    Scenario("error-text", "400 whose error is a text", [refuses(400, body=b'{"error": "no"}')], both=_BAD),
    Scenario("error-list", "400 whose body is a list", [refuses(400, body=b'[1, 2, {"error": []}]')], both=_BAD),
    Scenario(
        "echoed-key",
        "401 that repeats the key",
        [refuses(401, f"x-debug: Bearer {API_KEY}", body=complaint(f"Incorrect API key: {API_KEY}"))],
        both=_ends("AuthenticationError", "refresh_auth"),
    ),
    Scenario(
        "gzip-error",
        "429 insufficient_quota, compressed",
        [refuses(429, "content-encoding: gzip", body=gzip.compress(complaint("No credit", code="insufficient_quota")))],
        both=_ends("QuotaExceededError", "never"),
    ),
]
