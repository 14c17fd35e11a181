"""Server-sent events: bytes of an event stream in, events out.

Follows the HTML standard, section 9.2.6, *Interpreting an event stream*
(https://html.spec.whatwg.org/#event-stream-interpretation). The module does no I/O. It must not know of sockets,
clocks, JSON, gateways or `[DONE]`: it finds where events end, and what stands in an event is the business of the
decoder above it.

What holds whatever the bytes are and wherever the reads cut them:

* The events do not depend on the cuts. A character, a line end or the byte order mark may lie across two reads.
* An event is returned by the `feed` that brings the end of its blank line, also when that is a CR whose LF may come.
* Work is linear in the bytes fed, down to reads of one byte: bytes waiting for their line end are not read again.
* Memory is bounded in proportion to `max_event_bytes` and the size of one read.

One rule is ours: a `retry` of more than 15 digits is ignored (the standard sets no bound).
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigurationError, EngineStateError, EventTooLargeError

_BOM = b"\xef\xbb\xbf"
_CR = ord("\r")  # as a number: `bytes in bytes` first tries a number, and pays for the exception
_MAX_RETRY_DIGITS = 15  # 31,000 years in ms: exact as a JSON number, and far below the lengths that int() refuses


@dataclass(slots=True, repr=False)  # not frozen: that makes constructing three times as slow, once per token
class ServerSentEvent:
    """One event, as it was dispatched. Treat it as immutable.

    Args:
        event: The event type; `"message"` where the stream names none.
        data: The payload: the values of the `data` lines, joined with LF.
        id: The last event id of the stream at this event, `""` if there was none. It may stem from an earlier event.
        retry: Milliseconds to wait before reconnecting, where this event said so.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def __repr__(self) -> str:
        shown = [f"data={self.data!r}"]
        if self.event != "message":
            shown.insert(0, f"event={self.event!r}")
        if self.id:
            shown.append(f"id={self.id!r}")
        if self.retry is not None:
            shown.append(f"retry={self.retry!r}")
        return f"ServerSentEvent({', '.join(shown)})"


class SSEDecoder:
    """Decodes one event stream, fed read by read.

    A read may hold thousands of events; their number is not limited, the size of each is. The size of an event is the
    bytes of its lines, each line end counted as one byte. Its blank line does not count, and neither do comment
    lines: pings without blank lines may go on for ever. A comment line is held to the same limit by itself.

    Args:
        max_event_bytes: Largest size of one event, and of one comment line.

    Attributes:
        last_event_id: What a reconnecting client sends as `Last-Event-ID`; `""` if there was none.
        reconnection_time_ms: The last `retry` of the stream, `None` if there was none.
        comments: Comment lines seen: a sign of life where no event comes.

    Raises:
        ConfigurationError: `max_event_bytes` is not positive.
    """

    __slots__ = (
        "_closed",
        "_data",
        "_event",
        "_event_bytes",
        "_failure",
        "_id",
        "_lines",
        "_max_event_bytes",
        "_retry",
        "comments",
        "last_event_id",
        "reconnection_time_ms",
    )

    def __init__(self, max_event_bytes: int = 8 * 1024 * 1024) -> None:
        if type(max_event_bytes) is not int or max_event_bytes < 1:
            raise ConfigurationError(f"max_event_bytes is a positive number of bytes, not {max_event_bytes!r:.80}")
        self.last_event_id = ""
        self.reconnection_time_ms: int | None = None
        self.comments = 0
        self._max_event_bytes = max_event_bytes
        self._lines = _LineBuffer()
        self._event_bytes = 0  # size of the event's whole lines; 0 means no field since the last blank line
        self._data: list[str] = []  # one value for each `data` line of the event
        self._event = ""
        self._id = ""  # the id of the event's own lines or, without one, of the stream; sticks
        self._retry: int | None = None
        self._failure: str | None = None  # what went wrong, in words; once set, nothing is buffered any more
        self._closed = False

    def __repr__(self) -> str:
        return f"<SSEDecoder pending_bytes={self.pending_bytes} last_event_id={self.last_event_id!r}>"

    @property
    def pending_bytes(self) -> int:
        """Bytes received of the event that is not finished yet: its whole lines, and the line that has no end."""
        return self._event_bytes + len(self._lines.unfinished)

    @property
    def is_between_events(self) -> bool:
        """Whether the next byte begins an event: nothing is kept of what came before that could change it."""
        return not self._event_bytes and self._lines.is_empty and self._failure is None and not self._closed

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the stream and return the events they complete, oldest first.

        Raises:
            EventTooLargeError: an event is larger than `max_event_bytes`. When this read completed events before it,
                they are returned and the next call raises; else this call does. Every later call raises it again.
            EngineStateError: the decoder has been closed.
        """
        if self._failure is not None:
            raise EventTooLargeError(self._failure)
        if self._closed:
            raise EngineStateError("feed() was called after close(); a decoder reads one stream")
        lines = self._lines.push(data)
        events = self._events_of(lines) if lines else []
        if self._lines.unfinished and self._failure is None:
            self._check_unfinished_line()
        if self._failure is not None:
            self._forget_event()
            if not events:
                raise EventTooLargeError(self._failure)
        return events

    def close(self) -> ServerSentEvent | None:
        """End the stream and report its unfinished last event, which the standard has a client discard.

        The event is built from what arrived after the last blank line, a last line without its end included: its fields
        may be cut short, down to a character cut into U+FFFD. `last_event_id`, `reconnection_time_ms` and `comments`
        stay as the finished lines left them. `None` when there was no data; a second call returns `None` too.

        Raises:
            EventTooLargeError: `feed` found an event larger than `max_event_bytes`.
        """
        if self._failure is not None:
            raise EventTooLargeError(self._failure)
        self._closed = True
        line = self._lines.unfinished.decode("utf-8", "replace")
        if line and not line.startswith(":"):
            reconnection_time_ms = self.reconnection_time_ms
            self._take_field(line)
            self.reconnection_time_ms = reconnection_time_ms
        unfinished = self._take_event()
        self._forget_event()
        return unfinished

    def _events_of(self, lines: bytes) -> list[ServerSentEvent]:
        """The events that these whole lines complete."""
        if not self._event_bytes and len(lines) <= self._max_event_bytes:
            events = self._plain_events(lines)
            if events is not None:
                return events
        return self._interpret(self._within_limit(lines).decode("utf-8", "replace"))

    def _plain_events(self, lines: bytes) -> list[ServerSentEvent] | None:
        """The events of lines that are all `data: {payload}` and blank in turn, else `None`.

        Most reads of a model's stream look like this. Searching for the eight bytes between two payloads takes half the
        time of going line by line.
        """
        if not (lines.startswith(b"data: ") and lines.endswith(b"\n\n")):
            return None
        event_id = self.last_event_id
        payloads = lines[6:-2].decode("utf-8", "replace").split("\n\ndata: ")
        events = [ServerSentEvent("message", payload, event_id) for payload in payloads if "\n" not in payload]
        return events if len(events) == len(payloads) else None

    def _interpret(self, text: str) -> list[ServerSentEvent]:
        """Process whole lines one by one, as the standard does."""
        events: list[ServerSentEvent] = []
        lines = text.split("\n")
        lines.pop()  # what follows the last line end: nothing
        for line in lines:
            if line.startswith("data: "):  # _take_field would do the same; this is every other line of most streams
                self._data.append(line[6:])
            elif line:
                self._take_field(line)
            else:
                self.last_event_id = self._id
                event = self._take_event()
                if event is not None:
                    events.append(event)
        return events

    def _take_field(self, line: str) -> None:
        """Process a line that is not blank: a field, or a comment."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry":
            milliseconds = _milliseconds(value)
            if milliseconds is not None:
                self._retry = self.reconnection_time_ms = milliseconds
        elif not name:
            self.comments += 1

    def _take_event(self) -> ServerSentEvent | None:
        """The event of the lines so far, `None` without data; the next line begins a new one."""
        event = None
        if self._data:
            event = ServerSentEvent(self._event or "message", "\n".join(self._data), self._id, self._retry)
            self._data.clear()
        self._event = ""
        self._retry = None
        return event

    def _within_limit(self, lines: bytes) -> bytes:
        """Count whole lines into the size of their event; return those before the line that is too much."""
        start = 0
        if self._event_bytes + len(lines) <= self._max_event_bytes:
            start = lines.rfind(b"\n\n") + 1  # nothing here can be too large: begin at the last blank line
        for line in lines[start:-1].split(b"\n"):
            if not line:
                self._event_bytes = size = 0
            elif line.startswith(b":"):
                size = len(line)
            else:
                self._event_bytes = size = self._event_bytes + len(line) + 1
            if size > self._max_event_bytes:
                self._fail(size)
                return lines[:start]
            start += len(line) + 1
        return lines

    def _check_unfinished_line(self) -> None:
        line = self._lines.unfinished
        size = len(line) if line.startswith(b":") else len(line) + self._event_bytes
        if size > self._max_event_bytes:
            self._fail(size)

    def _fail(self, size: int) -> None:
        allowed = self._max_event_bytes
        self._failure = f"an event of the stream is too large: {size} bytes received, {allowed} bytes allowed"

    def _forget_event(self) -> None:
        self._take_event()
        self._event_bytes = 0
        self._lines.unfinished.clear()


class _LineBuffer:
    """Cuts reads into whole lines: without byte order mark, and with LF for every line end."""

    __slots__ = ("_after_cr", "_start", "unfinished")

    def __init__(self) -> None:
        self.unfinished = bytearray()  # the bytes after the last line end
        self._start: bytes | None = b""  # the stream's first bytes, as long as they may be part of a byte order mark
        self._after_cr = False  # the last byte was a CR, whose line has ended: an LF now belongs to it

    @property
    def is_empty(self) -> bool:
        """Whether the next byte begins a line, whatever came before."""
        return not self.unfinished and self._start is None and not self._after_cr

    def push(self, data: bytes) -> bytes:
        """Take a read and return the lines it completes, each with its LF."""
        if self._start is not None:
            data = self._without_bom(self._start + data)
        if self._after_cr or _CR in data:
            data = self._with_lf(data)
        end = data.rfind(b"\n") + 1
        lines = data[:end]
        if lines and self.unfinished:
            lines = bytes(self.unfinished) + lines
            self.unfinished.clear()
        if end < len(data):
            self.unfinished += data[end:]
        return lines

    def _without_bom(self, data: bytes) -> bytes:
        """The stream's first bytes without a byte order mark; nothing as long as they may be part of one."""
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _with_lf(self, data: bytes) -> bytes:
        """The bytes with an LF for every line end. A CR ends its line at once; its LF, if it comes, is dropped."""
        if not data:  # the LF may still come
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _milliseconds(value: str) -> int | None:
    """A `retry` value: ASCII digits only. `None` for anything else, and for more than 15 digits after leading zeros."""
    if not (value.isascii() and value.isdigit()):
        return None
    digits = value.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_RETRY_DIGITS else None
