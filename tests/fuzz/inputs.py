"""Answers made by the choices of an input: any bytes, or an answer that came over a wire, broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from multidict import CIMultiDict

from penstock.engine.gateways import Gateway
from penstock.engine.verdict import Answer
from tests.engine.test_sse import PIECES

from .choices import Choices
from .seeds import GATEWAYS, Seed

_HEADERS = (
    "content-type",
    "date",
    "idempotency-replayed",
    "llm_provider-retry-after",
    "retry-after",
    "retry-after-ms",
    "x-llmgw-model",
    "x-modelgov-request-id",
    "x-monago-block-reason",
    "x-monago-cost-idr",
    "x-monago-policy-decision",
    "x-ms-retry-after-ms",
    "x-request-id",
    "x-should-retry",
)
_VALUES = (
    "",
    "text/event-stream",
    "text/plain",
    "text/html",
    "application/json",
    "true",
    "false",
    "1",
    "0.5, 2",
    "-1",
    "nan",
    "1e999",
    "Fri, 15 Jan 2027 08:00:30 GMT",
    "Friday, 15-Jan-27 08:00:30 GMT",
    "Fri Jan 15 08:00:30 2027",
    "Fri, 31 Feb 0000 24:60:61 GMT",
)
_MOST_EDITS = 8
_LONGEST = 100_000  # bytes; beyond the 64 KiB that are looked at of a body that is no stream


def answer(choices: Choices, seeds: Sequence[Seed]) -> tuple[Gateway, Answer]:
    """An answer with any head and any body, and the gateway that it comes from."""
    gateway, status, headers, body = _begun(choices, seeds)
    for _ in range(choices.below(4)):
        headers.add(choices.one_of(_HEADERS), _value(choices))
    for _ in range(choices.below(_MOST_EDITS)):
        body = choices.one_of(_EDITS)(choices, body, seeds)[:_LONGEST]
    return gateway, Answer(status, headers, body, received=float(choices.below(65536)) * 1e5)


def raw(gateway: int, body: bytes) -> bytes:
    """The input of `answer` that is this body as an event stream, from the gateway of this number."""
    return bytes((0, gateway, 0, len(body) >> 8, len(body) & 255)) + body


def lines(choices: Choices) -> bytes:
    """An event stream of pieces that mean something, and some that do not."""
    pieces = [choices.one_of(PIECES) for _ in range(choices.below(40))]
    return b"".join(pieces) + choices.rest()


def _begun(choices: Choices, seeds: Sequence[Seed]) -> tuple[Gateway, int, CIMultiDict[str], bytes]:
    kind = choices.below(8)
    if kind == 0:
        gateway, status = choices.one_of(GATEWAYS), choices.one_of((200, 400, 409, 429, 500, 503))
        headers = CIMultiDict({"content-type": "text/event-stream"})
        return gateway, status, headers, choices.take(choices.below(65536))
    seed = choices.one_of(seeds)
    gateway = choices.one_of(GATEWAYS) if kind == 1 else seed.gateway
    return gateway, seed.status, seed.headers.copy(), seed.body


def _value(choices: Choices) -> str:
    """A header's value as aiohttp gives it: control characters come through, and what is no UTF-8 as surrogates."""
    if choices.below(2):
        return choices.one_of(_VALUES)
    value = choices.short_bytes().translate(None, b"\r\n\0")
    return value.strip(b" \t").decode("utf-8", "surrogateescape")


def _stretch(choices: Choices, body: bytes) -> tuple[bytes, bytes, bytes]:
    """The body in three."""
    start, end = sorted(choices.below(65536) % (len(body) + 1) for _ in range(2))
    return body[:start], body[start:end], body[end:]


def _flipped(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    before, stretch, after = _stretch(choices, body)
    return before + bytes(byte ^ (choices.below(256) or 1) for byte in stretch[:8]) + stretch[8:] + after


def _lost(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    before, _, after = _stretch(choices, body)
    return before + after


def _repeated(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    before, stretch, after = _stretch(choices, body)
    return before + stretch * (2 + choices.one_of((0, 0, 0, 1, 254))) + after


def _put_in(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    before, stretch, after = _stretch(choices, body)
    return before + (choices.one_of(_WORDS) if choices.below(2) else choices.short_bytes()) + stretch + after


def _spliced(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    before, _, _ = _stretch(choices, body)
    return before + _stretch(choices, choices.one_of(seeds).body)[2]


def _with_another_value(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    """One value or member name of JSON becomes another one."""
    found = list(re.finditer(_JSON, body))
    if not found:
        return body
    value = choices.one_of(found[-65536:])
    other = choices.one_of(found[-65536:])[0] if choices.below(2) else choices.one_of(_WORDS)
    return body[: value.start()] + other + body[value.end() :]


def _with_other_line_ends(choices: Choices, body: bytes, seeds: Sequence[Seed]) -> bytes:
    return body.replace(b"\n", choices.one_of((b"\r", b"\r\n")))


_EDITS: tuple[Callable[[Choices, bytes, Sequence[Seed]], bytes], ...] = (
    _flipped,
    _lost,
    _repeated,
    _put_in,
    _spliced,
    _with_another_value,
    _with_another_value,
    _with_another_value,
    _with_other_line_ends,
)
_JSON = rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?|true|false|null|\[\]|\{\}'
_WORDS = (
    b"\n\n",
    b"\r",
    b"\r\n\r\n",
    b"data: ",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b": ping\n",
    b"\n[error] ",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1.0",
    b"18446744073709551616",
    b"true",
    b'"\\u0000"',
    b'"\\u0085\\u2028"',
    b'{"error":{}}',
    b'"error":',
    b"[" * 600,
    b"\xff\xfe",
)
