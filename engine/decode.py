"""Chat completions of the OpenAI family: events to chunks, and whole bodies through the same reading.

Servers differ in nearly everything (see `docs/` for who does what): no role frame, no ``[DONE]``, usage on the finish
frame or on every frame, another id on each frame, reasoning under two names, tool calls without an index. One reading
copes with all of them. What is not a JSON object, or has members of the wrong type, is an error and never skipped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from .accumulate import Accumulator
from .errors import EmptyResponseError, MalformedResponseError, ModelEngineError, StreamTruncatedError
from .members import kind_of, list_of, object_of, text_of, whole_of
from .sse import ServerSentEvent, SSEDecoder
from .tool_calls import ToolCallIndexer
from .types import ChunkHead, Governance, LLMResponse, LLMResponseChunk
from .usage import read_usage
from .verdict import Answer, Complaint, JudgeEvent, complaint_of, judge_event, plain_headers, read_complaint, snippet

DONE = "[DONE]"
"""The data of the event that ends a stream."""

MAX_EVENT_BYTES = 8 * 1024 * 1024  # events of 2 MB are real
MAX_START_BYTES = 64 * 1024  # bytes looked at of a body that has no event in it, and of an error
_EXCERPT = 1000  # characters of a malformed answer that its error keeps

# Missing and general types are common, and come with streams; any other one means that something else has answered.
_STREAM_TYPES = ("text/event-stream", "", "text/plain", "application/octet-stream")

_KNOWN_MEMBERS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error"})
_KNOWN_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
_REASONING_NAMES = ("reasoning_content", "reasoning")  # vLLM renamed the first to the second
_KNOWN_OF_DELTA = frozenset({"role", "content", *_REASONING_NAMES, "refusal", "tool_calls", "function_call"})


class ChatReader:
    """Reads the objects of one answer, chunk objects or a whole completion, into chunks."""

    def __init__(self, response_headers: Mapping[str, str]) -> None:
        self._head = ChunkHead(response_headers=response_headers)
        self._tool_calls: dict[int, ToolCallIndexer] = {}
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    @property
    def is_complete(self) -> bool:
        """Whether every choice that has begun has its finish reason, and there is at least one."""
        return bool(self._finished) and self._begun <= self._finished

    def read(self, payload: dict[str, Any], body_member: str) -> list[LLMResponseChunk]:
        """The chunks of one object: one for each choice in it, or one for usage and other members alone.

        Args:
            payload: The decoded object.
            body_member: ``"delta"`` of chunks, ``"message"`` of whole completions.

        Raises:
            MalformedResponseError: A member has a type that it cannot have.
        """
        head = self._head_of(payload)
        chunks = []
        for position, choice in enumerate(list_of(payload, "choices")):
            if (chunk := self._read_choice(choice, position, body_member)) is not None:
                chunk.head = head
                chunks.append(chunk)
        usage = read_usage(payload.get("usage"))
        extra = _unknown(payload, _KNOWN_MEMBERS)
        if usage is not None or extra:
            if not chunks:
                chunks.append(LLMResponseChunk(head=head))
            if usage is not None:
                chunks[-1].usage = usage
            if extra:
                chunks[0].extra = extra
        return chunks

    def _head_of(self, payload: dict[str, Any]) -> ChunkHead:
        """The head that this object is under: the last one, as long as it says nothing new."""
        head = self._head
        request_id, model, created = payload.get("id"), payload.get("model"), payload.get("created")
        if request_id == head.request_id and model == head.model and created == head.created:
            return head
        # Azure's first frame has "" for them, and some servers leave them out after the first.
        request_id = request_id if request_id and isinstance(request_id, str) else head.request_id
        model = model if model and isinstance(model, str) else head.model
        created = created if type(created) is int else head.created
        if (request_id, model, created) != (head.request_id, head.model, head.created):
            head = self._head = ChunkHead(request_id, model, created, head.response_headers)
        return head

    def _read_choice(self, choice: Any, position: int, body_member: str) -> LLMResponseChunk | None:
        if not isinstance(choice, dict):
            raise MalformedResponseError(f"a choice is {kind_of(choice)}, not an object")
        index = whole_of(choice, "index")
        if index is None:
            index = position
        delta = object_of(choice, body_member) or {}
        fields = self._fields_of(delta, index, is_whole=body_member == "message")
        if fields:
            self._begun.add(index)
        if finish_reason := text_of(choice, "finish_reason"):
            fields["finish_reason"] = finish_reason
            if index not in self._finished and index in self._tool_calls:
                fields["tool_calls"] = self._tool_calls[index].assembler.finish()
            self._finished.add(index)
        if (logprobs := object_of(choice, "logprobs")) is not None:
            fields["logprobs"] = logprobs
        if extra := _unknown(choice, _KNOWN_OF_CHOICE) | _unknown(delta, _KNOWN_OF_DELTA):
            fields["choice_extra"] = extra
        if not fields:
            return None
        if index:
            fields["index"] = index
        return LLMResponseChunk.of(fields)

    def _fields_of(self, delta: dict[str, Any], index: int, *, is_whole: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        content, reasoning = _read_content(delta.get("content"))
        if content:
            fields["delta_content"] = content
        for name in _REASONING_NAMES:
            reasoning = reasoning or text_of(delta, name)
        if reasoning:
            fields["delta_reasoning"] = reasoning
        if refusal := text_of(delta, "refusal"):
            fields["delta_refusal"] = refusal
        if role := text_of(delta, "role"):
            fields["role"] = role
        if fragments := _tool_call_fragments(delta):
            calls = self._tool_calls.setdefault(index, ToolCallIndexer())
            fields["delta_tool_calls"] = calls.read(fragments, is_whole=is_whole)
        return fields


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
            self._start += data[: MAX_START_BYTES - len(self._start)]
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
        return _no_stream(replace(self._head, body=bytes(self._start)), self._judge)

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
            error.body = data[:_EXCERPT]
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
        if _is_error(payload):
            raise self._judge(_complaint(payload, data.encode()))
        return self._reader.read(payload, "delta")


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
        self._head = head
        self._judge = judge
        self._start = bytearray()

    @property
    def life(self) -> int:
        return len(self._start)

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        self._start += data[: MAX_START_BYTES - len(self._start)]
        if len(self._start) == MAX_START_BYTES:
            self.close()
        return []

    def abort(self) -> list[LLMResponseChunk]:
        return []

    def close(self) -> list[LLMResponseChunk]:
        if self.failure is None:
            self.failure = _no_stream(replace(self._head, body=bytes(self._start)), self._judge)
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
    accumulator = Accumulator()
    try:
        accumulator.add(ChatReader(plain_headers(answer.headers)).read(payload, "message"))
        response = accumulator.response(gateway_request_id=answer.headers.get("x-request-id"))
        choices = list_of(payload, "choices")
        if not choices:
            raise MalformedResponseError("the completion has no choices")
        if _says_nothing(choices[0]) and response.finish_reason != "content_filter":
            raise MalformedResponseError("the completion has neither content nor reasoning nor tool calls")
    except MalformedResponseError as error:
        error.body = excerpt(answer.body)
        raise
    return response


def read_object(answer: Answer, judge: JudgeEvent = judge_event) -> dict[str, Any]:
    """The JSON object of a success, whatever content type it is labelled with.

    Raises:
        EmptyResponseError: There is no body.
        MalformedResponseError: It is not a JSON object.
        ModelEngineError: It is an error in a success, by the verdict of `judge`.
    """
    if not answer.body.strip():
        raise _empty(answer)
    try:
        payload = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise _foreign(answer, "JSON") from None
    if not isinstance(payload, dict):
        raise MalformedResponseError(f"the answer is {kind_of(payload)}, not an object", body=excerpt(answer.body))
    if _is_error(payload):
        raise judge(_complaint(payload, answer.body))
    return payload


def excerpt(body: bytes) -> str:
    """What the error about a malformed body keeps of it: its first 1,000 characters."""
    return body[: 4 * _EXCERPT].decode("utf-8", "replace")[:_EXCERPT]  # a character has up to 4 bytes


def _no_stream(answer: Answer, judge: JudgeEvent) -> ModelEngineError:
    """Why a body has no event in it: it is empty, an error, or something else altogether."""
    if not answer.body.strip():
        return _empty(answer)
    try:
        read_object(answer, judge)
    except MalformedResponseError:
        pass
    except ModelEngineError as error:
        return error
    return _foreign(answer, "an event stream")


def _empty(answer: Answer) -> EmptyResponseError:
    return EmptyResponseError(f"the gateway answered HTTP {answer.status} with an empty body")


def _foreign(answer: Answer, expected: str) -> MalformedResponseError:
    content_type = snippet(answer.headers.get("content-type", "no content type"))
    text = excerpt(answer.body)
    return MalformedResponseError(f"the answer is not {expected} ({content_type}): {snippet(text)!r}", body=text)


def _is_error(payload: dict[str, Any]) -> bool:
    return payload.get("error") is not None or payload.get("object") == "error"


def _complaint(payload: dict[str, Any], raw: bytes) -> Complaint:
    complaint = complaint_of(payload)
    return complaint if len(raw) <= MAX_START_BYTES else replace(complaint, body=excerpt(raw))


def _says_nothing(choice: Any) -> bool:
    """A message whose content is missing or null, with nothing in its place. An empty text is an answer."""
    message = choice.get("message") or {}
    names = ("content", "tool_calls", "function_call", "refusal", "audio", *_REASONING_NAMES)
    return all(message.get(name) is None for name in names)


def _read_content(content: Any) -> tuple[str | None, str | None]:
    """Text and reasoning of a ``content`` member: a text, or a list of parts as Mistral sends them."""
    if content is None or isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        raise MalformedResponseError(f"the content is {kind_of(content)}, not text")
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            raise MalformedResponseError(f"a part of the content is {kind_of(part)}, not an object")
        text.append(text_of(part, "text") or "")
        for thought in list_of(part, "thinking"):
            if not isinstance(thought, dict):
                raise MalformedResponseError(f"a part of the thinking is {kind_of(thought)}, not an object")
            thinking.append(text_of(thought, "text") or "")
    return "".join(text), "".join(thinking)


def _tool_call_fragments(delta: dict[str, Any]) -> list[Any]:
    fragments = list_of(delta, "tool_calls")
    function = delta.get("function_call")  # the name before tools came
    return [{"index": 0, "function": function}] if function is not None and not fragments else fragments


def _unknown(members: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    if members.keys() <= known:
        return {}
    return {name: value for name, value in members.items() if name not in known and value is not None}
