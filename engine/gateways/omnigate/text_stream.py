"""Streams of plain text, which have no framing: an error is a mark in the text."""

from __future__ import annotations

import codecs

from ...errors import EmptyResponseError, ModelEngineError
from ...types import ChunkHead, Governance, LLMResponseChunk, UsageInfo
from ...verdict import Answer, Complaint, JudgeEvent, plain_headers, snippet

ERROR_MARK = "\n[error] "
"""What stands in a stream of plain text before the message of a failure."""

_MAX_MESSAGE = 64 * 1024  # characters of a failure; what follows is not waited for


class TextDecoder:
    """Decodes a stream of plain text, in which `ERROR_MARK` begins the message of a failure. A `StreamDecoder`.

    A clean end of the body is the only sign of success. Text is held back only while it may be the beginning of the
    mark. A model that writes the mark cannot be told from a failure.

    Args:
        head: Status and headers of the answer.
        judge: What a failure means.
    """

    def __init__(self, head: Answer, *, judge: JudgeEvent) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self.governance: Governance | None = None
        self.usage: UsageInfo | None = None
        self.pattern = None
        self._judge = judge
        self._empty = f"the gateway answered HTTP {head.status} with an empty body"
        request_id, model = head.headers.get("x-request-id"), head.headers.get("x-llmgw-model")
        self._head = ChunkHead(request_id, model, response_headers=plain_headers(head.headers))
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the end of the text, as long as it is a beginning of the mark
        self._message: list[str] | None = None  # what followed the mark, in pieces
        self._message_size = 0
        self._has_output = False

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        if self.failure is not None:
            return []
        return self._chunks(self._read(self._utf8.decode(data)))

    def close(self) -> list[LLMResponseChunk]:
        chunks = self.abort()
        if self.failure is None and not self._has_output:
            self.failure = EmptyResponseError(self._empty)
        return chunks

    def abort(self) -> list[LLMResponseChunk]:
        """The body has broken off: returns what was held back, and sets `failure` when its message had begun."""
        if self.failure is not None:
            return []
        text = self._read(self._utf8.decode(b"", True)) + self._held
        self._held = ""
        if self._message is not None and self.failure is None:
            self._fail("".join(self._message))
        return self._chunks(text)

    def _read(self, text: str) -> str:
        """The part of the text that is surely the model's."""
        if self._message is not None:
            self._note(text)
            return ""
        text, mark, message = (self._held + text).partition(ERROR_MARK)
        self._held = ""
        if mark:
            self._message = []
            self._note(message)
            return text
        line_end = text.rfind("\n", -len(ERROR_MARK))  # the mark has a line end at its beginning alone
        if line_end >= 0 and ERROR_MARK.startswith(text[line_end:]):
            text, self._held = text[:line_end], text[line_end:]
        return text

    def _note(self, text: str) -> None:
        assert self._message is not None
        self._message.append(text)
        self._message_size += len(text)
        if self._message_size >= _MAX_MESSAGE:
            self._fail("".join(self._message)[:_MAX_MESSAGE])

    def _fail(self, message: str) -> None:
        self.failure = self._judge(
            Complaint(message=snippet(message) or None, type="provider_error", body=message or None)
        )

    def _chunks(self, text: str) -> list[LLMResponseChunk]:
        if not text:
            return []
        self._has_output = True
        return [LLMResponseChunk.of({"delta_content": text, "head": self._head})]
