"""Events to chunks: what is the same for every event stream that ends with ``[DONE]``.

Events are decoded one by one, except for those that are like one before them but for a text: these are read by a
`Template`, for a fraction of the work. Both ways give the same, in whatever pieces the bytes come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from .body import EXCERPT, MAX_START_BYTES, no_stream
from .chat_reader import ChatReader
from .errors import EmptyResponseError, MalformedResponseError, ModelEngineError, StreamTruncatedError
from .repetition import Repetition
from .sse import ServerSentEvent, SSEDecoder
from .template import Template
from .types import ChunkHead, Governance, LLMResponseChunk
from .verdict import Answer, JudgeEvent, judge_event, plain_headers, read_complaint

DONE = "[DONE]"
"""The data of the event that ends a stream."""

MAX_EVENT_BYTES = 8 * 1024 * 1024  # events of 2 MB are real


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
        self._events = 0
        self._has_output = False
        self._max_event_bytes = max_event_bytes
        self._template: Template | None = None
        self._repetition: Repetition | None = None  # what the template's events decode to
        self._patience = self.patience

    @property
    def life(self) -> int:
        return self._events + self._sse.comments

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        if self.finished or self.failure is not None:
            return []
        if self._template is not None and len(data) <= self._max_event_bytes:
            return self._feed_alike(data)
        was_between = self._sse.is_between_events
        chunks = self._feed_any(data)
        if self._patience and self._has_output and not self.finished and self.failure is None:
            self._learn_from(data, was_between)
        return chunks

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
        if not self._events:
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
            try:
                chunks += self._feed_text(data[start:end].decode())
            except UnicodeDecodeError:
                pass  # to be decoded as any
            else:
                start = end
        if start < len(data) and not self._is_over:
            chunks += self._feed_any(data[start:])
        return chunks

    def _feed_text(self, text: str) -> list[LLMResponseChunk]:
        """Decode whole events."""
        chunks: list[LLMResponseChunk] = []
        position = 0
        while not self._is_over:
            if self._template is None or self._repetition is None or not self._repetition.holds(self._chunk_head):
                return chunks + self._feed_any(text[position:].encode())
            found, position = self._template.read(text, position)
            if found:
                self._events += len(found)
                self._patience = self.patience
                alike = self._repetition.chunks(found)
                self._has_output = self._has_output or bool(alike)
                chunks += alike
            if position == len(text):
                break
            end = text.find("\n\n", position) + 2
            if end < 2:  # blank lines are left
                end = len(text)
            event = text[position:end]
            chunks += self._feed_any(event.encode())
            position = end
            if not self._is_over:
                self._learn(event)
            if position == len(text):
                break
        return chunks

    @property
    def _is_over(self) -> bool:
        return self.finished or self.failure is not None

    def _learn_from(self, data: bytes, was_between: bool) -> None:
        """Learn from the last whole event of a read."""
        end = data.rfind(b"\n\n") + 2
        before = data.rfind(b"\n\n", 0, max(0, end - 2))
        if end >= 2 and (before >= 0 or was_between):
            self._learn(data[before + 2 if before >= 0 else 0 : end].decode("utf-8", "replace"))

    def _learn(self, event: str) -> None:
        """Take an event that has been decoded as the pattern for those to come, if it can be one."""
        if not self._patience:
            self._template = self._repetition = None
            return
        self._patience -= 1
        try:
            payload = orjson.loads(event[5:])
        except orjson.JSONDecodeError:
            return
        repetition = self._repetition_of(payload) if isinstance(payload, dict) else None
        template = None if repetition is None else Template.learn(event, repetition.path)
        if template is not None:
            self._template, self._repetition = template, repetition

    def _repetition_of(self, payload: dict[str, Any]) -> Repetition | None:
        """What further events have in common with this one, which has been decoded; `None` when that is not known."""
        return None

    def abort(self) -> list[LLMResponseChunk]:
        return []  # an event that is not whole says nothing

    def close(self) -> list[LLMResponseChunk]:
        if not self.finished and self.failure is None:
            try:
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
        self._events += 1
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
        elif not self._events and not self._sse.comments:
            raise self._no_stream()
        elif not self._events:
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
