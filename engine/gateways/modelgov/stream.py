"""Modelgov's event streams: bytes in, chunks out.

The gateway sends ``{"delta": "text"}`` frames, one ``{"done": true, "model", "usage", "requestId"}`` frame, and
``[DONE]``. Failures are an ``error`` event with a flat ``{"code", "message"}``, after which the body just ends. Its SDK
also understands chunks of OpenAI's, bare ``content`` and ``text`` members, and text that is not JSON; so does this.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ...body import MAX_START_BYTES
from ...errors import EmptyResponseError, MalformedResponseError, ModelEngineError
from ...event_decoder import EventDecoder
from ...members import text_of
from ...repetition import Repetition, text_repetition
from ...types import ChunkHead, LLMResponseChunk, UsageInfo
from ...verdict import Answer, JudgeEvent, plain_headers, read_complaint
from .record import AUDIT_HEADER, governance_of, governance_of_error, usage_of
from .verdicts import STREAM_ERROR

_TEXT_NAMES = ("delta", "content", "text")


class ModelgovStreamDecoder(EventDecoder):
    """Decodes a stream of Modelgov's.

    The chunk of the done frame has that frame in its `extra`, as ``done``.

    Args:
        head: Status and headers of the answer.
        judge: What error events mean.
    """

    end_mark = "its done frame"

    def __init__(self, head: Answer, judge: JudgeEvent) -> None:
        super().__init__(head, judge=judge)
        self._usage: UsageInfo | None = None
        self._text_head = ChunkHead(head.headers.get(AUDIT_HEADER), response_headers=plain_headers(head.headers))

    def _read(self, data: str) -> list[LLMResponseChunk]:
        """The chunks of a payload. What is no object is text; what begins as one and is none was broken on the way."""
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if data.lstrip().startswith("{"):
                raise MalformedResponseError(f"an event of the stream is not JSON: {error}") from None
            payload = None
        if not isinstance(payload, dict):
            return [LLMResponseChunk(delta_content=data, head=self._text_head)]
        if payload.get("error") is not None:
            raise self._judged(data)
        if payload.get("choices") is not None:
            return self._reader.read(payload, "delta")
        return self._frame(payload)

    def _repetition_of(self, payload: dict[str, Any]) -> Repetition | None:
        if payload.keys() != {"delta"}:
            return None
        return text_repetition(("delta",), self._text_head, "delta_content", {})

    @property
    def _chunk_head(self) -> ChunkHead:
        return self._text_head

    @property
    def usage(self) -> UsageInfo | None:
        return self._usage or self._reader.usage

    def _frame(self, payload: dict[str, Any]) -> list[LLMResponseChunk]:
        fields: dict[str, Any] = {}
        texts = [text for name in _TEXT_NAMES if (text := text_of(payload, name))]
        if texts:
            fields["delta_content"] = texts[0]
        if payload.get("done") is True:
            self._note_done(payload)
            fields["extra"] = {"done": payload}
            if (usage := usage_of(payload.get("usage"))) is not None:
                fields["usage"] = self._usage = usage
        elif extra := {name: value for name, value in payload.items() if name not in _TEXT_NAMES}:
            fields["extra"] = extra
        return [LLMResponseChunk(**fields, head=self._text_head)] if fields else []

    def _note_done(self, frame: dict[str, Any]) -> None:
        self.finished = True  # the [DONE] after it tells nothing more
        self.governance = governance_of(self._head.headers, frame)
        model, request_id, before = frame.get("model"), frame.get("requestId"), self._text_head
        self._text_head = ChunkHead(
            request_id if isinstance(request_id, str) else before.request_id,
            model if isinstance(model, str) else before.model,
            response_headers=before.response_headers,
        )

    def _judged(self, data: str) -> ModelEngineError:
        complaint = read_complaint(data.encode()[:MAX_START_BYTES])
        error = self._judge(complaint if complaint.code else replace(complaint, code=STREAM_ERROR))
        error.governance = governance_of_error(self._head.headers, error.body)  # the audit id stands in the head alone
        return error

    def _no_stream(self) -> ModelEngineError:
        if not self._start.strip():
            # Gateway 1.7.2 answers every stream like this, whether the model has run or not: no repetition helps.
            text = f"the gateway answered HTTP {self._head.status} with an empty body (gateway 1.7.2 cannot stream)"
            return EmptyResponseError(text, advice="never")
        return super()._no_stream()
