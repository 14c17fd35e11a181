"""The short way of an event from the socket to who waits for it.

At fifty tokens a second each event of a stream is a read of its own, and nothing of that stream is in the processor's
cache when it comes: what an event costs is how much it touches, far more than what is done with it. So what is touched
for a usual one lies together here, and one method does what takes aiohttp's parser, the body, the decoder, the reply
and the stream a dozen calls.

A lane takes a read only when it is one transfer chunk, which is one event, which is like the one before it but for its
text (see `penstock.engine.template`). Everything else goes the long way; and so does what comes while nobody waits.
Both ways leave the same behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from .clock import Clock
from .timers import Watchdog
from .types import LLMResponseChunk, ReasoningChunk, TextChunk

if TYPE_CHECKING:
    from .accumulate import Accumulator
    from .event_decoder import Pattern

_END = b"\r\n"
_MOST_DIGITS = 6  # of the size of a transfer chunk; what a template reads at once is far shorter

_new_text, _new_reasoning = TextChunk.__new__, ReasoningChunk.__new__

Sink = Callable[[list[LLMResponseChunk]], "Awaitable[Any] | None"]
"""What takes the chunks of a read; see `ChatStream.pump`."""


class Lane:
    """What a read of a stream touches. The reply and the stream keep here what both ways change.

    Args:
        watchdog: Has the loop and its clock.
        clock: That of the call.

    Attributes:
        is_open: Whether the next read may be taken.
        waiter: Who waits for the next read. `None` while nobody does.
        sink: What takes chunks while they are pushed. `None` while the waiter is woken for each.
        held: What the sink wants awaited before it takes more.
        raised: By the sink.
        chunk: What was read for the waiter that was woken.
        accumulator: Of the stream that is read. `None` until somebody reads it.
        has_content: Whether a piece of the answer's text has come, and not only of its reasoning.
        reads: Reads that gave chunks, on both ways.
        bytes: Of the body, on both ways.
        chunks: That came on this way.
        last: When the last of these came, by the clock of the call. `None` before.
        waiting_since: When the wait began, in seconds of the loop's clock. `None` while nobody waits.
        paused_at: When the last read came, by the same clock.
        progress_mark: When content came, moved on by the time that the reader took between two reads.
    """

    __slots__ = (
        "_append",
        "_clock",
        "_end",
        "_extra",
        "_head",
        "_is_text",
        "_last",
        "_longest",
        "_loop",
        "_start",
        "_tail",
        "_time",
        "_under",
        "accumulator",
        "bytes",
        "chunk",
        "chunks",
        "has_content",
        "held",
        "is_open",
        "last",
        "paused_at",
        "progress_mark",
        "raised",
        "reads",
        "sink",
        "waiter",
        "waiting_since",
    )

    _append: Callable[[str], object]
    _head: bytes
    _last: bytes
    _tail: str | None
    _start: int
    _end: int
    _longest: int
    _is_text: bool
    _extra: Any
    _under: Any

    def __init__(self, watchdog: Watchdog, clock: Clock) -> None:
        self._loop = watchdog.loop
        self._time = watchdog.time
        self._clock = None if clock.monotonic is self._time else clock.monotonic  # `None`: one look serves for both
        self.is_open = False
        self.waiter: asyncio.Future[None] | None = None
        self.sink: Sink | None = None
        self.held: Awaitable[Any] | None = None
        self.raised: BaseException | None = None
        self.chunk: LLMResponseChunk | None = None
        self.accumulator: Accumulator | None = None
        self.has_content = False
        self.reads = self.bytes = self.chunks = 0
        self.last: float | None = None
        self.waiting_since: float | None = None
        self.paused_at = self.progress_mark = self._time()

    def open(self, pattern: Pattern) -> None:
        """Take the next reads that are like this. The next byte is the first one of a transfer chunk."""
        single, repetition, accumulator = pattern.single, pattern.repetition, self.accumulator
        if accumulator is None or not (self.has_content or repetition.kind is ReasoningChunk):
            return
        append = accumulator.appender(repetition.kind, repetition.head, repetition.extra)
        if append is None:
            return
        self._append = append
        self._is_text, self._extra, self._under = repetition.kind is TextChunk, repetition.extra, repetition.head
        self._head, self._tail, self._last = single.head, single.tail, single.last + _END
        self._start, self._end, self._longest = len(single.head) + len(_END), -len(self._last), single.longest
        self.is_open = True

    def close(self) -> None:
        """Take no reads."""
        self.is_open = False

    def wait(self) -> asyncio.Future[None]:
        """Begin to wait for the next read, on either way."""
        now = self._time()
        self.progress_mark += now - self.paused_at
        self.waiting_since = now
        waiter: asyncio.Future[None] = asyncio.Future(loop=self._loop)  # not through the loop, which makes the same
        self.waiter = waiter
        return waiter

    def wake(self, error: Exception | None = None) -> None:
        """End the wait, with an exception where there is one."""
        waiter, self.waiter = self.waiter, None
        self.waiting_since = None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def give(self, chunks: list[LLMResponseChunk]) -> bool:
        """Give chunks that came the long way to the sink. Returns whether it takes more at once."""
        if self.sink is None:
            return False
        try:
            self.held = self.sink(chunks)
        except BaseException as error:  # kept here: the read may have ended the stream, and with it the push
            self.raised = error
            return False
        return self.held is None

    def take(self, data: bytes) -> bool:
        """Give the one event of a read to who waits. Returns whether that was done; else nothing was.

        It ends what was open when it was not: the next byte may be in the middle of something then.
        """
        waiter = self.waiter
        if not self.is_open:
            return False
        self.is_open = False
        if waiter is None or waiter.done():
            return False
        at = data.find(_END, 1, _MOST_DIGITS + 2)
        size, digits = len(data) - at - 4, data[:at]
        if (
            at < 0
            or size > self._longest
            or not data.startswith(self._head, at + 2)
            or not data.endswith(self._last)
            or (digits != b"%x" % size and digits != b"%X" % size)
        ):
            return False
        try:
            # As `SingleEvent.read`, and not by it: it is one more object and one more call for each event.
            text = str(data[at + self._start : self._end], "utf-8")  # with the closing quote
            string, end = scanstring(text, 0, True)
            if (tail := self._tail) is not None:
                if not text.startswith(tail, end):
                    return False
                _, end = scanstring(text, end + len(tail), True)
        except ValueError:
            return False
        if end != len(text) or not string or "\\u" in text:  # it may be a lone surrogate
            return False
        chunk: TextChunk | ReasoningChunk
        if self._is_text:
            chunk = _new_text(TextChunk)
            chunk.delta_content = string
        else:
            chunk = _new_reasoning(ReasoningChunk)
            chunk.delta_reasoning = string
        chunk.extra = self._extra
        chunk.head = self._under
        self._append(string)
        self.paused_at = self.progress_mark = self.last = now = self._time()
        if self._clock is not None:
            self.last = self._clock()
        self.reads += 1
        self.chunks += 1
        self.bytes += size
        self.is_open = True
        if (sink := self.sink) is None:
            self.chunk = chunk
            self.waiting_since = self.waiter = None
            waiter.set_result(None)
            return True
        self.waiting_since = now
        try:
            if (held := sink([chunk])) is None:
                return True
            self.held = held
        except BaseException as error:
            self.raised = error
        self.wake()
        return True
