"""A plan as the bytes of HTTP/1.1, in the order of their writes (RFC 9112)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from .plan import Ending, Head, Item, Pause, Plan
from .status import reason_phrase


class Mark(Enum):
    """Places among the writes."""

    END = "the next write is the last that matters"


_WITHOUT_BODY = (204, 304)  # RFC 9110 sections 15.3.5 and 15.4.5: what followed would be the next answer

Play = bytes | Pause | Mark
"""One write, as it goes to the socket; a pause; or a mark."""


def sequence(plan: Plan, *, is_http11: bool, says_close: bool, has_body: bool) -> list[Play]:
    """All that is written for a plan.

    The head goes out with what follows it, and the end of the body with what comes before. The answer to
    a HEAD request has no body, nor has a 204 or a 304.
    """
    has_body = has_body and not (plan.head is not None and plan.head.status in _WITHOUT_BODY)
    is_chunked = plan.head is not None and plan.length is None and is_http11
    head = b"" if plan.head is None else _head(plan.head, plan.length, is_chunked, says_close)
    plays: list[Play] = [play for play in (*plan.interim, head) if play]
    body = [play for play in _framed(plan.body if has_body else (), is_chunked) if play]
    first = body[0] if body else None
    if head and isinstance(first, bytes):
        plays[-1] = head + first
        del body[0]
    plays += body
    _mark(plays, has_writes=has_body and not all(isinstance(item, Pause) for item in plan.body))
    end = b"0\r\n\r\n" if is_chunked and has_body and plan.ending is Ending.COMPLETE else b""
    _end(plays, end + plan.after)
    return plays if plan.write_size is None else list(_dripped(plays, plan.write_size, plan.write_every_s))


def _mark(plays: list[Play], *, has_writes: bool) -> None:
    """Put the mark before the last write, unless that is a head with a silence after it: then the silence counts."""
    last = next((index for index in reversed(range(len(plays))) if isinstance(plays[index], bytes)), len(plays))
    is_silent = not has_writes and last < len(plays) - 1
    plays.insert(len(plays) if is_silent else last, Mark.END)


def _end(plays: list[Play], end: bytes) -> None:
    """Put this into the last write, if no pause comes after it."""
    if end and isinstance(plays[-1], bytes):
        plays[-1] += end
    elif end:
        plays.append(end)


def _head(head: Head, length: int | None, is_chunked: bool, says_close: bool) -> bytes:
    lines = [f"HTTP/1.1 {head.status} {reason_phrase(head.status)}"]
    lines += (f"{name}: {value}" for name, value in head.headers)
    if is_chunked:
        lines.append("transfer-encoding: chunked")
    elif length is not None and head.status != 204:  # which has none, RFC 9110 section 8.6
        lines.append(f"content-length: {length}")
    if says_close:
        lines.append("connection: close")
    return "\r\n".join((*lines, "", "")).encode()


def _framed(body: Iterable[Item], is_chunked: bool) -> Iterable[Play]:
    for item in body:
        if isinstance(item, bytes):
            yield _chunk(item) if is_chunked else item
        elif isinstance(item, Pause):
            yield replace(item, ping=_chunk(item.ping)) if is_chunked and item.ping else item
        else:
            yield item.data


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _dripped(plays: Iterable[Play], size: int, every_s: float) -> Iterable[Play]:
    """Every write in several, with pauses between."""
    pause = Pause(every_s)
    for play in plays:
        if not isinstance(play, bytes):
            yield play
            continue
        for start in range(0, len(play), size):
            yield play[start : start + size]
            if every_s:
                yield pause
