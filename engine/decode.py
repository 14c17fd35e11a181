"""Chat completions of the OpenAI family: events to chunks, and whole bodies through the same reading.

Servers differ in nearly everything (see `docs/` for who does what): no role frame, no ``[DONE]``, usage on the finish
frame or on every frame, another id on each frame, reasoning under two names, tool calls without an index. One reading
copes with all of them. What is not a JSON object, or has members of the wrong type, is an error and never skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from .accumulate import Accumulator, ToolCallAssembler
from .errors import (
    EmptyResponseError,
    MalformedResponseError,
    ModelEngineError,
    StreamTruncatedError,
)
from .sse import ServerSentEvent, SSEDecoder
from .types import ChunkHead, LLMResponse, LLMResponseChunk, ToolCallDelta
from .usage import read_usage
from .verdict import Answer, Complaint, complaint_of, openai_verdict, plain_headers, status_of_type

DONE = "[DONE]"
"""The data of the event that ends a stream."""

JudgeEvent = Callable[[Complaint], ModelEngineError]
"""A verdict table for errors inside a success."""

_KNOWN_MEMBERS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error"})
_REASONING_NAMES = ("reasoning_content", "reasoning")  # vLLM renamed the first to the second


def judge_event(complaint: Complaint) -> ModelEngineError:
    """What an ``error`` inside a success means: by its code and type, as if it had come with the status its type
    stands for.
    """
    status = status_of_type(complaint)
    error_class, advice = openai_verdict(status, complaint)
    return error_class(
        complaint.message or "the gateway sent an error without saying why",
        status=status,
        code=complaint.code,
        type=complaint.type,
        param=complaint.param,
        body=complaint.body,
        advice=advice,
    )


class ChatReader:
    """Reads the objects of one answer, chunk objects or a whole completion, into chunks."""

    def __init__(self, response_headers: Mapping[str, str]) -> None:
        self._headers = response_headers
        self._head = ChunkHead(response_headers=response_headers)
        self._tool_calls: dict[int, _ToolCallIndexer] = {}
        self.unfinished: set[int] = set()
        """Choices that have begun and have no finish reason yet."""
        self.finish_reasons: dict[int, str] = {}

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
        for position, choice in enumerate(_list(payload, "choices")):
            if (chunk := self._read_choice(choice, position, body_member)) is not None:
                chunk.head = head
                chunks.append(chunk)
        usage = read_usage(payload.get("usage"))
        extra = {name: value for name, value in payload.items() if name not in _KNOWN_MEMBERS}
        if usage is not None or extra:
            if not chunks:
                chunks.append(LLMResponseChunk(head=head))
            if usage is not None:
                chunks[-1].usage = usage
            if extra:
                chunks[0].extra = extra
        return chunks

    def _head_of(self, payload: dict[str, Any]) -> ChunkHead:
        head = self._head
        request_id, model, created = payload.get("id"), payload.get("model"), payload.get("created")
        if request_id != head.request_id or model != head.model or created != head.created:
            head = self._head = ChunkHead(
                request_id if isinstance(request_id, str) else None,
                model if isinstance(model, str) else None,
                created if type(created) is int else None,
                self._headers,
            )
        return head

    def _read_choice(self, choice: Any, position: int, body_member: str) -> LLMResponseChunk | None:
        if not isinstance(choice, dict):
            raise MalformedResponseError(f"a choice is {_kind(choice)}, not an object")
        index = choice.get("index", position)
        if type(index) is not int:
            raise MalformedResponseError(f"the index of a choice is {_kind(index)}, not a number")
        delta = choice.get(body_member)
        if delta is None:
            delta = {}
        elif not isinstance(delta, dict):
            raise MalformedResponseError(f"the {body_member} of a choice is {_kind(delta)}, not an object")
        finish_reason = choice.get("finish_reason")
        if finish_reason is not None and not isinstance(finish_reason, str):
            raise MalformedResponseError(f"the finish reason is {_kind(finish_reason)}, not text")
        fields = self._fields_of(delta, index)
        if finish_reason:
            fields["finish_reason"] = finish_reason
            if (tool_calls := self._tool_calls_of(index)) is not None:
                fields["tool_calls"] = tool_calls
            self.finish_reasons[index] = finish_reason
            self.unfinished.discard(index)
        elif fields and index not in self.finish_reasons:
            self.unfinished.add(index)
        if (logprobs := choice.get("logprobs")) is not None:
            fields["logprobs"] = logprobs
        if not fields:
            return None
        if index:
            fields["index"] = index
        return LLMResponseChunk(**fields)

    def _fields_of(self, delta: dict[str, Any], index: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        content, reasoning = _read_content(delta.get("content"))
        if content:
            fields["delta_content"] = content
        for name in _REASONING_NAMES:
            reasoning = reasoning or _optional_text(delta, name)
        if reasoning:
            fields["delta_reasoning"] = reasoning
        if refusal := _optional_text(delta, "refusal"):
            fields["delta_refusal"] = refusal
        if isinstance(role := delta.get("role"), str):
            fields["role"] = role
        fragments = _list(delta, "tool_calls")
        if (function := delta.get("function_call")) is not None:
            fragments = [{"index": 0, "function": function}]  # the name before tools came
        if fragments:
            calls = self._tool_calls.setdefault(index, _ToolCallIndexer())
            fields["delta_tool_calls"] = calls.read(fragments)
        return fields

    def _tool_calls_of(self, index: int) -> Any:
        calls = self._tool_calls.get(index)
        return calls.assembler.finish() if calls is not None else None


class _ToolCallIndexer:
    """Gives each fragment of a choice its call: by index, and where servers leave it out or repeat it, by id."""

    def __init__(self) -> None:
        self.assembler = ToolCallAssembler()
        self._ids: dict[int, str] = {}  # index we gave -> id
        self._current: dict[int | None, int] = {}  # index the server says -> index we gave

    def read(self, fragments: list[Any]) -> tuple[ToolCallDelta, ...]:
        deltas = tuple(self._read_one(fragment) for fragment in fragments)
        self.assembler.add(deltas)
        return deltas

    def _read_one(self, fragment: Any) -> ToolCallDelta:
        if not isinstance(fragment, dict):
            raise MalformedResponseError(f"a tool call is {_kind(fragment)}, not an object")
        function = fragment.get("function") or {}
        if not isinstance(function, dict):
            raise MalformedResponseError(f"the function of a tool call is {_kind(function)}, not an object")
        said = fragment.get("index")
        if said is not None and type(said) is not int:
            raise MalformedResponseError(f"the index of a tool call is {_kind(said)}, not a number")
        call_id = _optional_text(fragment, "id") or None
        name = _optional_text(function, "name") or None
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = orjson.dumps(arguments).decode()  # Ollama and others send the object itself
        elif arguments is not None and not isinstance(arguments, str):
            raise MalformedResponseError(f"the arguments of a tool call are {_kind(arguments)}, not text")
        return ToolCallDelta(
            self._index(said, call_id, name), call_id, name, arguments, _optional_text(fragment, "type") or None
        )

    def _index(self, said: int | None, call_id: str | None, name: str | None) -> int:
        given = self._current.get(said)
        begins = name is not None and (call_id is None or call_id not in self._ids.values())
        if given is None or (begins and (said is None or (call_id is not None and self._ids.get(given) != call_id))):
            # A new call: unseen, or a fragment that begins one under an index that another call has already.
            taken = set(self._current.values()) | set(self._ids)
            given = said if said is not None and said not in taken else max(taken, default=-1) + 1
            self._current[said] = given
            self._ids[given] = call_id or ""
        return given


class ChatDecoder:
    """Decodes a stream of chat completion chunks. A `StreamDecoder`.

    Args:
        head: Status and headers of the answer.
        max_event_bytes: Bound on one event.
        judge: Verdict table for error events.
    """

    def __init__(
        self, head: Answer, *, max_event_bytes: int = 8 * 1024 * 1024, judge: JudgeEvent = judge_event
    ) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self._sse = SSEDecoder(max_event_bytes)
        self._reader = ChatReader(plain_headers(head.headers))
        self._judge = judge
        self._events = 0
        self._meaningful = False

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
        return chunks

    def close(self) -> list[LLMResponseChunk]:
        if self.finished or self.failure is not None:
            return []
        try:
            unfinished = self._sse.close()
        except ModelEngineError as error:
            self.failure = error
            return []
        if unfinished is not None and unfinished.data.strip() == DONE:
            unfinished = None
            self._mark_done()
        elif self._events == 0 and unfinished is None:
            self.failure = EmptyResponseError("the stream ended without an event")
        elif unfinished is not None or self._reader.unfinished or not self._reader.finish_reasons:
            self.failure = StreamTruncatedError("the stream ended without a finish reason and without [DONE]")
        return []

    def _decode(self, event: ServerSentEvent) -> list[LLMResponseChunk]:
        data = event.data
        self._events += 1
        if data.strip() == DONE:
            self._mark_done()
            return []
        if not data.strip():
            return []  # a ping
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MalformedResponseError(f"an event of the stream is not JSON: {error}", body=data[:1000]) from None
        if not isinstance(payload, dict):
            raise MalformedResponseError(f"an event of the stream is {_kind(payload)}, not an object", body=data[:1000])
        if event.event == "error" or payload.get("error") is not None or payload.get("object") == "error":
            raise self._judge(complaint_of(payload))
        chunks = self._reader.read(payload, "delta")
        self._meaningful = self._meaningful or any(chunk.is_meaningful for chunk in chunks)
        return chunks

    def _mark_done(self) -> None:
        self.finished = True
        if not self._meaningful:
            self.failure = EmptyResponseError("the stream ended without any output")


def decode_completion(answer: Answer, *, judge: JudgeEvent = judge_event) -> LLMResponse:
    """A unary chat completion.

    Raises:
        MalformedResponseError: It is not JSON, has no choices, or members of the wrong type.
        ModelEngineError: It is an error in a success, by the verdict of `judge`.
    """
    payload = read_object(answer, judge)
    if not _list(payload, "choices"):
        raise MalformedResponseError("the completion has no choices", body=payload)
    accumulator = Accumulator()
    for chunk in ChatReader(plain_headers(answer.headers)).read(payload, "message"):
        accumulator.add([chunk])
    response = accumulator.response(gateway_request_id=answer.headers.get("x-request-id"))
    if _says_nothing(payload["choices"][0]) and response.finish_reason != "content_filter":
        raise MalformedResponseError("the completion has neither content nor reasoning nor tool calls", body=payload)
    return response


def read_object(answer: Answer, judge: JudgeEvent = judge_event) -> dict[str, Any]:
    """The JSON object of a success, whatever content type it is labelled with.

    Raises:
        EmptyResponseError: There is no body.
        MalformedResponseError: It is not a JSON object.
        ModelEngineError: It is an error in a success, by the verdict of `judge`.
    """
    if not answer.body.strip():
        raise EmptyResponseError(f"the gateway answered HTTP {answer.status} with an empty body")
    try:
        payload = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise not_json(answer) from None
    if not isinstance(payload, dict):
        raise MalformedResponseError(f"the answer is {_kind(payload)}, not an object", body=payload)
    if payload.get("error") is not None or payload.get("object") == "error":
        raise judge(complaint_of(payload))
    return payload


def not_json(answer: Answer) -> MalformedResponseError:
    """The error for a success whose body is something else, with its content type and a piece of it."""
    text = answer.body[:1000].decode("utf-8", "replace")
    content_type = answer.headers.get("content-type", "no content type")
    start = " ".join(text.split())[:120]
    return MalformedResponseError(f"the answer is not JSON ({content_type}): {start!r}", body=text)


def _says_nothing(choice: Any) -> bool:
    """A message whose content is missing or null, with nothing in its place. An empty text is an answer."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return True
    names = ("content", "tool_calls", "function_call", "refusal", "audio", *_REASONING_NAMES)
    return all(message.get(name) is None for name in names)


def _read_content(content: Any) -> tuple[str | None, str | None]:
    """Text and reasoning of a ``content`` member: a text, or a list of parts as Mistral sends them."""
    if content is None or isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        raise MalformedResponseError(f"the content is {_kind(content)}, not text")
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            raise MalformedResponseError(f"a part of the content is {_kind(part)}, not an object")
        if isinstance(part.get("text"), str):
            text.append(part["text"])
        thoughts = [thought.get("text") for thought in _list(part, "thinking") if isinstance(thought, dict)]
        thinking += [thought for thought in thoughts if isinstance(thought, str)]
    return "".join(text), "".join(thinking)


def _optional_text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MalformedResponseError(f"{name} is {_kind(value)}, not text")


def _list(members: dict[str, Any], name: str) -> list[Any]:
    value = members.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise MalformedResponseError(f"{name} is {_kind(value)}, not a list")


def _kind(value: Any) -> str:
    """A JSON value's type in JSON's words."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names[type(value)]
