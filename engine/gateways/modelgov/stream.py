"""Modelgov's event streams: bytes in, chunks out.

The gateway sends ``{"delta": "text"}`` frames, one ``{"done": true, "model", "usage", "requestId"}`` frame, and
``[DONE]``. Failures are an ``error`` event with a flat ``{"code", "message"}``, after which the body just ends. Its SDK
also understands chunks of OpenAI's, bare ``content`` and ``text`` members, and text that is not JSON; so does this.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ...decode import DONE, MAX_EVENT_BYTES, ChatReader, ForeignBody, excerpt
from ...errors import EmptyResponseError, MalformedResponseError, ModelEngineError, StreamTruncatedError
from ...members import text_of
from ...sse import ServerSentEvent, SSEDecoder
from ...types import ChunkHead, Governance, LLMResponseChunk
from ...verdict import Answer, JudgeEvent, plain_headers, read_complaint
from .record import AUDIT_HEADER, governance_of, governance_of_error, usage_of
from .verdicts import STREAM_ERROR

_TEXT_NAMES = ("delta", "content", "text")
_MAX_START = 64 * 1024  # bytes looked at of a body that has no event in it, and of an error


class ModelgovStreamDecoder:
    """Decodes a stream of Modelgov's. A `StreamDecoder`.

    The chunk of the done frame has that frame in its `extra`, as ``done``.

    Args:
        head: Status and headers of the answer.
        judge: What error events mean.
    """

    def __init__(self, head: Answer, judge: JudgeEvent) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self.governance: Governance | None = None
        self._head = head
        self._judge = judge
        self._sse = SSEDecoder(MAX_EVENT_BYTES)
        self._reader = ChatReader(plain_headers(head.headers))
        self._chunk_head = ChunkHead(head.headers.get(AUDIT_HEADER), response_headers=plain_headers(head.headers))
        self._start = bytearray()  # of the body, as long as there is no event in it
        self._events = 0
        self._has_output = False

    @property
    def life(self) -> int:
        return self._events + self._sse.comments

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        chunks: list[LLMResponseChunk] = []
        if self.finished or self.failure is not None:
            return chunks
        try:
            for event in self._sse.feed(data):
                chunks += self._decode(event)
                if self.finished:
                    break
        except ModelEngineError as error:
            self.failure = error
        if not self._events:
            self._start += data[: _MAX_START - len(self._start)]
        return chunks

    def abort(self) -> list[LLMResponseChunk]:
        return []  # an event that is not whole says nothing

    def close(self) -> list[LLMResponseChunk]:
        if not self.finished and self.failure is None:
            try:
                self._end(self._sse.close())
            except ModelEngineError as error:
                self.failure = error
        return []

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
            error.body = excerpt(data.encode())
            raise
        self._has_output = self._has_output or any(chunk.is_meaningful for chunk in chunks)
        return chunks

    def _read(self, data: str) -> list[LLMResponseChunk]:
        """The chunks of a payload. What is no object is text; what begins as one and is none was broken on the way."""
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if data.lstrip().startswith("{"):
                raise MalformedResponseError(f"an event of the stream is not JSON: {error}") from None
            payload = None
        if not isinstance(payload, dict):
            return [LLMResponseChunk(delta_content=data, head=self._chunk_head)]
        if payload.get("error") is not None:
            raise self._judged(data)
        if payload.get("choices") is not None:
            return self._reader.read(payload, "delta")
        return self._frame(payload)

    def _frame(self, payload: dict[str, Any]) -> list[LLMResponseChunk]:
        fields: dict[str, Any] = {}
        texts = [text for name in _TEXT_NAMES if (text := text_of(payload, name))]
        if texts:
            fields["delta_content"] = texts[0]
        if payload.get("done") is True:
            self._note_done(payload)
            fields["extra"] = {"done": payload}
            if (usage := usage_of(payload.get("usage"))) is not None:
                fields["usage"] = usage
        elif extra := {name: value for name, value in payload.items() if name not in _TEXT_NAMES}:
            fields["extra"] = extra
        return [LLMResponseChunk(**fields, head=self._chunk_head)] if fields else []

    def _note_done(self, frame: dict[str, Any]) -> None:
        self.finished = True  # the [DONE] after it tells nothing more
        self.governance = governance_of(self._head.headers, frame)
        model, request_id, before = frame.get("model"), frame.get("requestId"), self._chunk_head
        self._chunk_head = ChunkHead(
            request_id if isinstance(request_id, str) else before.request_id,
            model if isinstance(model, str) else before.model,
            response_headers=before.response_headers,
        )

    def _judged(self, data: str) -> ModelEngineError:
        complaint = read_complaint(data.encode()[:_MAX_START])
        error = self._judge(complaint if complaint.code else replace(complaint, code=STREAM_ERROR))
        error.governance = governance_of_error(self._head.headers, error.body)  # the audit id stands in the head alone
        return error

    def _end(self, unfinished: ServerSentEvent | None) -> None:
        """The body is over, and neither done frame nor ``[DONE]`` has come: all is well only after a finish reason.

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
            raise StreamTruncatedError("the stream ended without its done frame and without [DONE]")

    def _end_within(self, event: ServerSentEvent) -> None:
        """The blank line of the last event is missing: its chunks do not count; an error or an end in it does."""
        try:
            self._decode(event)
        except EmptyResponseError:
            raise
        except MalformedResponseError:
            pass  # cut in the middle
        if not self.finished:
            raise StreamTruncatedError("the stream ended in the middle of an event")

    def _no_stream(self) -> ModelEngineError:
        """Why a body has no event in it."""
        if not self._start.strip():
            # Gateway 1.7.2 answers every stream like this, whether the model has run or not: no repetition helps.
            text = f"the gateway answered HTTP {self._head.status} with an empty body (gateway 1.7.2 cannot stream)"
            return EmptyResponseError(text, advice="never")
        foreign = ForeignBody(self._head, judge=self._judge)
        foreign.feed(bytes(self._start))
        foreign.close()
        assert foreign.failure is not None
        return foreign.failure
