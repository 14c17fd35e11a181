"""Chat completions of the OpenAI family: streams, and whole bodies through the same reading.

What is not a JSON object, or has members of the wrong type, is an error and never skipped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from .accumulate import Accumulator
from .body import MAX_START_BYTES, complaint_in, error_in, excerpt, no_stream, read_object
from .chat_reader import REASONING_NAMES, ChatReader
from .errors import MalformedResponseError, ModelEngineError
from .event_decoder import MAX_EVENT_BYTES, EventDecoder
from .members import kind_of, list_of
from .repetition import Repetition
from .types import Governance, LLMResponse, LLMResponseChunk, UsageInfo
from .usual import usual_response
from .verdict import Answer, JudgeEvent, judge_event, plain_headers

# Missing and general types are common, and come with streams; any other one means that something else has answered.
_STREAM_TYPES = ("text/event-stream", "", "text/plain", "application/octet-stream")


class ChatDecoder(EventDecoder):
    """Decodes a stream of chat completion chunks."""

    def _read(self, data: str) -> list[LLMResponseChunk]:
        data = data.strip()
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MalformedResponseError(f"an event of the stream is not JSON: {error}") from None
        if not isinstance(payload, dict):
            raise MalformedResponseError(f"an event of the stream is {kind_of(payload)}, not an object")
        if (told := error_in(payload)) is not None:
            raise self._judge(complaint_in(told, data.encode()))
        return self._reader.read(payload, "delta")

    def _repetition_of(self, payload: dict[str, Any]) -> Repetition | None:
        return self._reader.repetition(payload)


class ForeignBody:
    """Collects the body of a success that is not an event stream, to say what it is. A `StreamDecoder`.

    At most 64 KiB are collected; a longer body has failed as soon as they are there.

    Args:
        head: Status and headers of the answer.
        judge: What an error in it means.
    """

    def __init__(self, head: Answer, *, judge: JudgeEvent = judge_event) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self.governance: Governance | None = None
        self.usage: UsageInfo | None = None
        self.pattern = None
        self._head = head
        self._judge = judge
        self._start = bytearray()

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        self._start += data[: MAX_START_BYTES - len(self._start)]
        if len(self._start) == MAX_START_BYTES:
            self.close()
        return []

    def abort(self) -> list[LLMResponseChunk]:
        return []

    def close(self) -> list[LLMResponseChunk]:
        if self.failure is None:
            self.failure = no_stream(replace(self._head, body=bytes(self._start)), self._judge)
        return []


def stream_decoder(
    head: Answer, *, max_event_bytes: int = MAX_EVENT_BYTES, judge: JudgeEvent = judge_event
) -> ChatDecoder | ForeignBody:
    """The decoder for a success to a streamed chat, by its content type.

    Args:
        head: Status and headers of the answer.
        max_event_bytes: Bound on one event.
        judge: What errors in it mean.
    """
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _STREAM_TYPES:
        return ChatDecoder(head, max_event_bytes=max_event_bytes, judge=judge)
    return ForeignBody(head, judge=judge)


def decode_completion(answer: Answer, *, judge: JudgeEvent = judge_event) -> LLMResponse:
    """A unary chat completion.

    Raises:
        MalformedResponseError: It is not JSON, has no choices, or members of the wrong type.
        ModelEngineError: It is an error in a success, by the verdict of `judge`.
    """
    payload = read_object(answer, judge)
    headers = plain_headers(answer.headers)
    response = usual_response(payload, headers) or _any_response(payload, headers, answer)
    if (request_id := answer.headers.get("x-request-id")) is not None:
        object.__setattr__(response, "gateway_request_id", request_id)  # it is fresh, and nobody else's yet
    return response


def _any_response(payload: dict[str, Any], headers: dict[str, str], answer: Answer) -> LLMResponse:
    accumulator = Accumulator()
    try:
        accumulator.add(ChatReader(headers).read(payload, "message"))
        response = accumulator.response()
        choices = list_of(payload, "choices")
        if not choices:
            raise MalformedResponseError("the completion has no choices")
        if _says_nothing(choices[0]) and response.finish_reason != "content_filter":
            raise MalformedResponseError("the completion has neither content nor reasoning nor tool calls")
    except MalformedResponseError as error:
        error.body = excerpt(answer.body)
        raise
    return response


def _says_nothing(choice: Any) -> bool:
    """A message whose content is missing or null, with nothing in its place. An empty text is an answer."""
    message = choice.get("message") or {}
    names = ("content", "tool_calls", "function_call", "refusal", "audio", *REASONING_NAMES)
    return all(message.get(name) is None for name in names)
