"""Event streams, as a server writes them (WHATWG HTML, section 9.2.5)."""

from __future__ import annotations


def sse_event(data: bytes, *, line_end: bytes, event: str | None = None) -> bytes:
    """One event. `data` is a single line."""
    name = b"event: " + event.encode() + line_end if event is not None else b""
    return name + b"data: " + data + line_end + line_end


def sse_comment(text: str, *, line_end: bytes) -> bytes:
    """A comment and the blank line after it, which ends no event because there is no data."""
    return b": " + text.encode() + line_end + line_end
