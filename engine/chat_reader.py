"""The objects of the OpenAI family, chunks of a stream and whole completions, through one reading.

Servers differ in nearly everything (see `docs/` for who does what): no role frame, usage on the finish frame or on
every frame, another id on each frame, reasoning under two names, tool calls without an index. One reading copes with
all of them. What has members of the wrong type is an error and never skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import MalformedResponseError
from .members import kind_of, list_of, object_of, text_of, whole_of
from .repetition import ArgumentsRepetition, Repetition, text_repetition
from .template import Path
from .tool_calls import ToolCallIndexer
from .types import ChunkHead, LLMResponseChunk, UsageInfo
from .usage import read_usage

REASONING_NAMES = ("reasoning_content", "reasoning")  # vLLM renamed the first to the second

KNOWN_MEMBERS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error"})
KNOWN_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
KNOWN_OF_DELTA = frozenset({"role", "content", *REASONING_NAMES, "refusal", "tool_calls", "function_call"})
_FIELDS = {"content": "delta_content", **dict.fromkeys(REASONING_NAMES, "delta_reasoning")}


class ChatReader:
    """Reads the objects of one answer, chunk objects or a whole completion, into chunks."""

    def __init__(self, response_headers: Mapping[str, str]) -> None:
        self.usage: UsageInfo | None = None
        """The last counts that came. `None` while there are none."""
        self._head = ChunkHead(response_headers=response_headers)
        self._tool_calls: dict[int, ToolCallIndexer] = {}
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    @property
    def head(self) -> ChunkHead:
        """What the last object was under."""
        return self._head

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
        head = self._head = self._head_of(payload)
        chunks = []
        for position, choice in enumerate(list_of(payload, "choices")):
            if (chunk := self._read_choice(choice, position, body_member)) is not None:
                chunk.head = head
                chunks.append(chunk)
        usage = read_usage(payload.get("usage"))
        self.usage = usage or self.usage
        extra = unknown(payload, KNOWN_MEMBERS)
        if usage is not None or extra:
            if not chunks:
                chunks.append(LLMResponseChunk(head=head))
            if usage is not None:
                chunks[-1].usage = usage
            if extra:
                chunks[0].extra = extra
        return chunks

    def repetition(self, payload: dict[str, Any]) -> Repetition | None:
        """What further events have in common with this one, which has been read, when a single text differs.

        `None` when it has more than a piece of text, reasoning or tool arguments, or when nothing tells that the next
        one is alike.
        """
        choices = payload.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or payload.get("usage") is not None:
            return None
        if self._head_of(payload) is not self._head:
            return None
        choice = choices[0]
        delta = choice.get("delta")
        if not isinstance(delta, dict) or unknown(choice, KNOWN_OF_CHOICE) or unknown(delta, KNOWN_OF_DELTA):
            return None
        present = {name for name, value in delta.items() if value not in (None, "", [])} - {"role"}
        if len(present) != 1 or choice.get("finish_reason") is not None or choice.get("logprobs") is not None:
            return None
        (name,) = present
        extra = unknown(payload, KNOWN_MEMBERS)
        constants = {"index": choice.get("index"), "role": delta.get("role"), "extra": extra}
        constants = {member: value for member, value in constants.items() if value}
        path: Path = ("choices", 0, "delta", name)
        if name == "tool_calls":
            return self._arguments_repetition(delta[name], constants, path)
        if name not in _FIELDS or not isinstance(delta[name], str):
            return None
        return text_repetition(path, self._head, _FIELDS[name], constants)

    def _arguments_repetition(self, fragments: Any, constants: dict[str, Any], path: Path) -> Repetition | None:
        calls = self._tool_calls.get(constants.get("index", 0))
        if calls is None or not isinstance(fragments, list) or len(fragments) != 1:
            return None
        pieces = calls.repetition(fragments[0])
        if pieces is None:
            return None
        return ArgumentsRepetition((*path, 0, "function", "arguments"), self._head, pieces, constants)

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
            head = ChunkHead(request_id, model, created, head.response_headers)
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
        if extra := unknown(choice, KNOWN_OF_CHOICE) | unknown(delta, KNOWN_OF_DELTA):
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
        for name in REASONING_NAMES:
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


def unknown(members: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The members that have no name here and a value."""
    if members.keys() <= known:
        return {}
    return {name: value for name, value in members.items() if name not in known and value is not None}
