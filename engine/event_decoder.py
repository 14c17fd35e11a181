"""Events to chunks: what is the same for every event stream that ends with ``[DONE]``.

Events are decoded one by one, except for those that are like one before them but for a text: these are read by a
`Template`, for a fraction of the work. Both ways give the same, in whatever pieces the bytes come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from .body import EXCERPT, MAX_START_BYTES, no_stream
from .chat_reader import ChatReader
from .errors import EmptyResponseError, MalformedResponseError, ModelEngineError, StreamTruncatedError
from .repetition import PlainRepetition, Repetition
from .sse import ServerSentEvent, SSEDecoder
from .template import SingleEvent, Template, byte_text
from .types import ChunkHead, Governance, LLMResponseChunk, UsageInfo
from .verdict import Answer, JudgeEvent, judge_event, plain_headers, read_complaint

DONE = "[DONE]"
"""The data of the event that ends a stream."""

MAX_EVENT_BYTES = 8 * 1024 * 1024  # events of 2 MB are real
_SHORT = 4096  # bytes of a whole answer: in its only read there is nothing to come to learn a template for
_LAST = DONE.encode() + b"\n\n"
_BLOCK = 32 * 1024  # bytes decoded at a time: copies of more come from fresh pages of memory, which costs as much again
_SHORTEST = 16  # bytes of a read that may have a whole event in it that is alike
_LONGEST_REST = 4096  # bytes of an event that are put before the next read: as much work as decoding a common one


@dataclass(frozen=True)
class Pattern:
    """What the next event is like, if it is like the one before it but for its text.

    Args:
        single: Reads it.
        repetition: What it decodes to.
    """

    single: SingleEvent
    repetition: PlainRepetition


class _Armed:
    """What reads the events that are alike, as long as the next byte begins an event and nothing else has come."""

    __slots__ = ("repetition", "single", "template")

    def __init__(self, template: Template, repetition: Repetition, max_event_bytes: int) -> None:
        self.template = template
        self.single = template.single(max_event_bytes)
        self.repetition = repetition


class EventDecoder(ABC):
    """Decodes an event stream that ends with ``[DONE]``. A `StreamDecoder`; what an event says is the subclass's
    matter.

    Args:
        head: Status and headers of the answer.
        max_event_bytes: Bound on one event.
        judge: What error events mean.
    """

    end_mark: ClassVar[str] = "a finish reason"
    """What else can end the stream, for the message when it is missing."""
    patience: ClassVar[int] = 16
    """Events to learn a `Template` from in vain, before the stream counts as one whose events are not alike. 0 has each
    event decoded as any.
    """

    def __init__(
        self, head: Answer, *, max_event_bytes: int = MAX_EVENT_BYTES, judge: JudgeEvent = judge_event
    ) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self.governance: Governance | None = None
        self._head = head
        self._judge = judge
        self._sse = SSEDecoder(max_event_bytes)
        self._reader = ChatReader(plain_headers(head.headers))
        self._start = bytearray()  # of the body, as long as there is no event in it
        self._has_events = False
        self._has_output = False
        self._max_event_bytes = max_event_bytes
        self._template: Template | None = None
        self._repetition: Repetition | None = None  # what the template's events decode to
        self._patience = self.patience
        self._armed: _Armed | None = None
        self._rest = b""  # the beginning of an event that may be alike

    @property
    def usage(self) -> UsageInfo | None:
        return self._reader.usage

    @property
    def pattern(self) -> Pattern | None:
        armed = self._armed
        if armed is None or self._rest or not isinstance(armed.repetition, PlainRepetition):
            return None
        return Pattern(armed.single, armed.repetition)

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        armed = self._armed
        if armed is not None and not self._rest and (text := armed.single.read(data)) is not None:
            return armed.repetition.chunks_of_one(text)
        if len(data) <= _BLOCK:
            return self._feed_block(data)
        chunks: list[LLMResponseChunk] = []
        start = 0
        while start < len(data):
            end = data.find(b"\n\n", start + _BLOCK) + 2
            if end < 2:
                end = len(data)
            chunks += self._feed_block(data[start:end])
            start = end
        return chunks

    def _feed_block(self, data: bytes) -> list[LLMResponseChunk]:
        if self._rest:
            data = self._take_rest() + data
        if (armed := self._armed) is None:
            return self._feed_other(data)
        if len(data) <= self._max_event_bytes and (read := armed.template.read_all(data)) is not None:
            texts, end = read
            chunks = armed.repetition.chunks(texts)
            return chunks if end == len(data) else chunks + self._keep(data[end:])
        return self._feed_other(data)

    def _feed_other(self, data: bytes) -> list[LLMResponseChunk]:
        """Decode a read that has more in it than events that are alike."""
        if self._is_over:
            return []
        if self._patience and _SHORTEST <= len(data) <= self._max_event_bytes:
            chunks = self._feed_alike(data)
        else:
            chunks = self._feed_any(data)
        self._arm()
        return chunks

    def _arm(self) -> None:
        """See whether the next read may be read by the template alone."""
        template, repetition, armed = self._template, self._repetition, self._armed
        self._armed = None
        if template is None or repetition is None or self._is_over or not self._has_output:
            return
        if self._sse.is_between_events and repetition.holds(self._chunk_head):
            if armed is None or armed.template is not template:
                armed = _Armed(template, repetition, self._max_event_bytes)
            self._armed = armed

    def _keep(self, rest: bytes) -> list[LLMResponseChunk]:
        """Keep the beginning of an event for the next read, once: what has been kept and is not whole then is fed."""
        if len(rest) <= _LONGEST_REST and b"\r" not in rest:
            self._rest = rest
            return []
        return self._feed_other(rest)

    def _take_rest(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def _feed_any(self, data: bytes) -> list[LLMResponseChunk]:
        """Decode bytes, whatever is in them."""
        chunks: list[LLMResponseChunk] = []
        try:
            for event in self._sse.feed(data):
                chunks += self._decode(event)
                if self.finished:
                    break
        except ModelEngineError as error:
            self.failure = error
        if not self._has_events:
            self._start += data[: MAX_START_BYTES - len(self._start)]
        return chunks

    def _feed_alike(self, data: bytes) -> list[LLMResponseChunk]:
        """Decode a read whose events are alike as a rule: those by the template, all others as any."""
        chunks: list[LLMResponseChunk] = []
        start = 0
        if not self._sse.is_between_events:
            start = data.find(b"\n\n") + 2
            if start < 2:
                return self._feed_any(data)
            chunks = self._feed_any(data[:start])
            if self._is_over:
                return chunks
        end = data.rfind(b"\n\n", start) + 2
        if end >= 2 and self._sse.is_between_events:
            chunks += self._feed_whole(data[start:end])
            start = end
        if start < len(data) and not self._is_over:
            chunks += self._feed_any(data[start:])
        return chunks

    def _feed_whole(self, data: bytes) -> list[LLMResponseChunk]:
        """Decode whole events."""
        if self._template is None and len(data) < _SHORT and data.endswith(_LAST):
            return self._feed_any(data)
        chunks: list[LLMResponseChunk] = []
        text, position = byte_text(data), 0
        while position < len(data) and not self._is_over:
            template, repetition = self._template, self._repetition
            if template is not None and repetition is not None and repetition.holds(self._chunk_head):
                found, position = template.read(text, position)
                if found:
                    self._has_events = True
                    self._patience = self.patience
                    chunks += repetition.chunks(found)
            elif not self._patience:
                return chunks + self._feed_any(data[position:])
            if position < len(data):
                end = data.find(b"\n\n", position) + 2
                if end < 2:  # blank lines are left
                    end = len(data)
                event = data[position:end]
                chunks += self._feed_any(event)
                position = end
                if self._has_output and not self._is_over:
                    self._learn(event)
        return chunks

    @property
    def _is_over(self) -> bool:
        return self.finished or self.failure is not None

    def _learn(self, event: bytes) -> None:
        """Take an event that has been decoded as the pattern for those to come, if it can be one."""
        self._patience -= 1
        if not self._patience:
            self._template = self._repetition = None
            return
        try:
            payload, text = orjson.loads(event[5:]), event.decode()
        except ValueError:
            return
        repetition = self._repetition_of(payload) if isinstance(payload, dict) else None
        template = None if repetition is None else Template.learn(text, repetition.path)
        if template is not None:
            self._template, self._repetition = template, repetition

    def _repetition_of(self, payload: dict[str, Any]) -> Repetition | None:
        """What further events have in common with this one, which has been decoded; `None` when that is not known."""
        return None

    def abort(self) -> list[LLMResponseChunk]:
        return []  # an event that is not whole says nothing

    def close(self) -> list[LLMResponseChunk]:
        if not self._is_over:
            try:
                self._feed_any(self._take_rest())  # gives no chunk: no line has ended that was blank
                self._end(self._sse.close())
            except ModelEngineError as error:
                self.failure = error
        return []

    @property
    def _chunk_head(self) -> ChunkHead:
        """What the last chunks were under."""
        return self._reader.head

    @abstractmethod
    def _read(self, data: str) -> list[LLMResponseChunk]:
        """The chunks of an event's data, which is not blank.

        Raises:
            ModelEngineError: It is malformed, or an error.
        """

    def _judged(self, data: str) -> ModelEngineError:
        """What the data of an error event means."""
        return self._judge(read_complaint(data.encode()[:MAX_START_BYTES]))

    def _no_stream(self) -> ModelEngineError:
        """Why the body has no event in it."""
        return no_stream(replace(self._head, body=bytes(self._start)), self._judge)

    def _decode(self, event: ServerSentEvent) -> list[LLMResponseChunk]:
        self._has_events = True
        data = event.data.strip()
        if event.event == "error":
            raise self._judged(data)
        if data == DONE:
            if not self._has_output:
                raise EmptyResponseError("the stream ended without any output")
            self.finished = True
            return []
        if not data:
            return []  # a ping
        try:
            chunks = self._read(event.data)
        except MalformedResponseError as error:
            error.body = data[:EXCERPT]
            raise
        self._has_output = self._has_output or any(chunk.is_meaningful for chunk in chunks)
        return chunks

    def _end(self, unfinished: ServerSentEvent | None) -> None:
        """The body is over, and the terminal mark has not come: all is well only after a finish reason.

        Raises:
            ModelEngineError: It is not.
        """
        if unfinished is not None:
            self._end_within(unfinished)
        elif not self._has_events and not self._sse.comments:
            raise self._no_stream()
        elif not self._has_events:
            raise EmptyResponseError("the stream ended without an event")
        elif not self._reader.is_complete:
            raise StreamTruncatedError(f"the stream ended without {self.end_mark} and without [DONE]")

    def _end_within(self, event: ServerSentEvent) -> None:
        """The blank line of the last event is missing: its chunks do not count; an error or the terminal mark does."""
        try:
            self._decode(event)
        except EmptyResponseError:
            raise
        except MalformedResponseError:
            pass  # cut in the middle
        if not self.finished:
            raise StreamTruncatedError("the stream ended in the middle of an event")
