"""Chunks in, the whole answer out. Unary answers pass through here too, so both come out equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .tool_calls import ToolCallAssembler
from .types import Choice, ChunkHead, LLMResponse, LLMResponseChunk, TextChunk, UsageInfo


class _OpenChoice:
    """One answer under construction."""

    __slots__ = ("content", "extra", "finish_reason", "logprobs", "reasoning", "refusal", "tool_calls")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tool_calls = ToolCallAssembler()
        self.finish_reason: str | None = None
        self.logprobs: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}

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
            _join(self.logprobs, chunk.logprobs)
        if chunk.choice_extra is not None:
            _join(self.extra, chunk.choice_extra)

    def close(self, index: int) -> Choice:
        return Choice(
            index=index,
            content="".join(self.content),
            reasoning="".join(self.reasoning) or None,
            tool_calls=self.tool_calls.finish(),
            refusal="".join(self.refusal) or None,
            finish_reason=self.finish_reason,
            logprobs=copy_members(self.logprobs) or None,
            extra=copy_members(self.extra),
        )


class Accumulator:
    """What has been received of one answer."""

    def __init__(self) -> None:
        self.head = ChunkHead()
        self.usage: UsageInfo | None = None
        self.is_empty = True
        """Whether no output was received; a role or a count is none."""
        self._choices: dict[int, _OpenChoice] = {}
        self._first: _OpenChoice | None = None  # the choice with index 0
        self._known_extra: Mapping[str, Any] | None = None  # of the last chunk
        self._extra: dict[str, Any] = {}

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice. `None` until one came."""
        return self._choices[min(self._choices)].finish_reason if self._choices else None

    @property
    def is_finished(self) -> bool:
        """Whether every choice that has begun has its finish reason, and there is at least one."""
        return bool(self._choices) and all(choice.finish_reason is not None for choice in self._choices.values())

    @property
    def was_filtered(self) -> bool:
        """Whether a content filter ended an answer."""
        return any(choice.finish_reason == "content_filter" for choice in self._choices.values())

    def add(self, chunks: Iterable[LLMResponseChunk]) -> None:
        """Append chunks in the order they came."""
        for chunk in chunks:
            first = self._first
            if first and type(chunk) is TextChunk and chunk.head is self.head and chunk.extra is self._known_extra:
                first.content.append(chunk.delta_content or "")
                continue  # as nearly all
            if chunk.usage is not None:
                self.usage = chunk.usage  # absolute, so the last one counts; some servers send it with every chunk
            self._known_extra = chunk.extra
            if chunk.extra is not None:
                self._extra.update((name, value) for name, value in chunk.extra.items() if value is not None)
            self.head = chunk.head
            is_output = chunk.is_meaningful
            if is_output:
                self.is_empty = False
            if is_output or chunk.role is not None or chunk.logprobs is not None or chunk.choice_extra is not None:
                choice = self._choices.get(chunk.index)
                if choice is None:
                    choice = self._choices[chunk.index] = _OpenChoice()
                    self._first = self._choices.get(0)
                choice.add(chunk)

    def appender(
        self, kind: type[LLMResponseChunk], head: ChunkHead, extra: Mapping[str, Any] | None
    ) -> Callable[[str], object] | None:
        """What takes the text of further chunks of this kind, instead of `add`, as long as no others come. `None` when
        they are not like the last one.
        """
        first = self._first
        if first is None or self.is_empty or head is not self.head or extra is not self._known_extra:
            return None
        return (first.content if kind is TextChunk else first.reasoning).append

    def response(self, **facts: Any) -> LLMResponse:
        """The answer so far.

        Args:
            facts: Further fields of `LLMResponse`, such as ``attempts``.
        """
        choices = tuple(choice.close(index) for index, choice in sorted(self._choices.items()))
        first = choices[0] if choices else Choice()
        stop_reason = first.extra.get("stop_reason")
        return LLMResponse(
            content=first.content,
            reasoning=first.reasoning,
            tool_calls=first.tool_calls,
            refusal=first.refusal,
            finish_reason=first.finish_reason,
            stop_sequence=stop_reason if isinstance(stop_reason, str) else None,  # vLLM puts token ids here, too
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
        metadata = dict(self._extra)
        if self.head.response_headers is not None:
            metadata["response_headers"] = dict(self.head.response_headers)
        return metadata or None


def _join(members: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add members that come in pieces: lists of one name are one list in the whole answer, of others the last counts.

    Lists in `members` are ours, since they are extended.
    """
    for name, value in more.items():
        before = members.get(name)
        if isinstance(before, list) and isinstance(value, list):
            before += value
        elif value is not None or name not in members:
            members[name] = list(value) if isinstance(value, list) else value


def copy_members(members: dict[str, Any]) -> dict[str, Any]:
    """The members, with lists of their own."""
    return {name: list(value) if isinstance(value, list) else value for name, value in members.items()}
