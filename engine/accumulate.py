"""Chunks in, the whole answer out. Unary answers pass through here too, so both come out equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .types import (
    Choice,
    ChunkHead,
    LLMResponse,
    LLMResponseChunk,
    ToolCall,
    ToolCallDelta,
    ToolCallFunction,
    UsageInfo,
)


class ToolCallAssembler:
    """Fragments of tool calls, joined per index."""

    def __init__(self) -> None:
        self._calls: dict[int, _OpenCall] = {}

    def add(self, fragments: Iterable[ToolCallDelta]) -> None:
        """Append fragments in the order they came."""
        for fragment in fragments:
            call = self._calls.get(fragment.index)
            if call is None:
                call = self._calls[fragment.index] = _OpenCall()
            call.add(fragment)

    def finish(self) -> tuple[ToolCall, ...] | None:
        """The calls so far, ordered by index. `None` when there are none."""
        return tuple(call.close() for _, call in sorted(self._calls.items())) or None


class _OpenCall:
    __slots__ = ("arguments", "id", "name", "type")

    def __init__(self) -> None:
        self.id = ""
        self.type = "function"
        self.name = ""
        self.arguments: list[str] = []

    def add(self, fragment: ToolCallDelta) -> None:
        # Some servers repeat id and name with each fragment: the first one counts.
        self.id = self.id or fragment.id or ""
        self.name = self.name or fragment.name or ""
        self.type = fragment.type or self.type
        if fragment.arguments:
            self.arguments.append(fragment.arguments)

    def close(self) -> ToolCall:
        return ToolCall(self.id, ToolCallFunction(self.name, "".join(self.arguments) or "{}"), self.type)


class _OpenChoice:
    """One answer under construction."""

    __slots__ = ("content", "finish_reason", "logprobs", "reasoning", "refusal", "tool_calls")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls = ToolCallAssembler()
        self.finish_reason: str | None = None
        self.logprobs: Any = None

    def add(self, chunk: LLMResponseChunk) -> None:
        if chunk.delta_content:
            self.content.append(chunk.delta_content)
        if chunk.delta_reasoning:
            self.reasoning.append(chunk.delta_reasoning)
        if chunk.delta_refusal:
            self.refusal.append(chunk.delta_refusal)
        if chunk.delta_tool_calls:
            self.tool_calls.add(chunk.delta_tool_calls)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        if chunk.logprobs is not None:
            self.logprobs = _joined_logprobs(self.logprobs, chunk.logprobs)

    def close(self, index: int) -> Choice:
        return Choice(
            index=index,
            content="".join(self.content),
            reasoning="".join(self.reasoning) or None,
            tool_calls=self.tool_calls.finish(),
            refusal="".join(self.refusal) or None,
            finish_reason=self.finish_reason,
            logprobs=self.logprobs,
        )


class Accumulator:
    """What has been received of one answer."""

    def __init__(self) -> None:
        self.head = ChunkHead()
        self.usage: UsageInfo | None = None
        self._choices: dict[int, _OpenChoice] = {}
        self._extra: dict[str, Any] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was received that belongs to an answer."""
        return not self._choices

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice. `None` until one came."""
        return self._choices[min(self._choices)].finish_reason if self._choices else None

    @property
    def was_filtered(self) -> bool:
        """Whether a content filter ended an answer."""
        return any(choice.finish_reason == "content_filter" for choice in self._choices.values())

    def add(self, chunks: Iterable[LLMResponseChunk]) -> None:
        """Append chunks in the order they came."""
        for chunk in chunks:
            if chunk.usage is not None:
                self.usage = chunk.usage  # absolute, so the last one counts; some servers send it with every chunk
            if chunk.extra is not None:
                self._extra.update(chunk.extra)
            self.head = chunk.head
            if chunk.is_meaningful or chunk.role is not None or chunk.logprobs is not None:
                choice = self._choices.get(chunk.index)
                if choice is None:
                    choice = self._choices[chunk.index] = _OpenChoice()
                choice.add(chunk)

    def response(self, **facts: Any) -> LLMResponse:
        """The answer so far.

        Args:
            facts: Further fields of `LLMResponse`, such as ``attempts``.
        """
        choices = tuple(choice.close(index) for index, choice in sorted(self._choices.items()))
        first = choices[0] if choices else Choice()
        return LLMResponse(
            content=first.content,
            reasoning=first.reasoning,
            tool_calls=first.tool_calls,
            refusal=first.refusal,
            finish_reason=first.finish_reason,
            logprobs=first.logprobs,
            choices=choices,
            model=self.head.model,
            request_id=self.head.request_id,
            created=self.head.created,
            usage=self.usage,
            provider_metadata=self._provider_metadata(),
            **facts,
        )

    def _provider_metadata(self) -> Mapping[str, Any] | None:
        metadata = {name: value for name, value in self._extra.items() if value is not None}
        if self.head.response_headers is not None:
            metadata["response_headers"] = dict(self.head.response_headers)
        return metadata or None


def _joined_logprobs(before: Any, more: Any) -> Any:
    """Streams send the logprobs of each piece; lists of the same member are one list in the whole answer."""
    if not isinstance(before, dict) or not isinstance(more, dict):
        return more
    joined = dict(before)
    for name, value in more.items():
        old = joined.get(name)
        joined[name] = [*old, *value] if isinstance(old, list) and isinstance(value, list) else value or old
    return joined
