"""What events that fit a template decode to: the same as the one it was learned from, but for a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from .template import Path
from .tool_calls import ArgumentPieces
from .types import ArgumentsChunk, ChunkHead, LLMResponseChunk, ReasoningChunk, TextChunk, ToolCallDelta


class Repetition(ABC):
    """What events that are alike but for one text decode to.

    Args:
        path: Where the text stands.
        head: What the chunks are under.
    """

    def __init__(self, path: Path, head: ChunkHead) -> None:
        self.path = path
        self.head = head

    def holds(self, head: ChunkHead) -> bool:
        """Whether the decoder would make the same of such an event, after whatever has come in between.

        Args:
            head: What the decoder's last chunks were under.
        """
        return head is self.head

    @abstractmethod
    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        """The chunks of events with these texts."""

    def chunks_of_one(self, text: str) -> list[LLMResponseChunk]:
        """The chunks of one event: as `chunks`, which is slower for one."""
        return self.chunks([text])


def text_repetition(path: Path, head: ChunkHead, field: str, constants: dict[str, Any]) -> Repetition:
    """The repetition of pieces of text or reasoning.

    Args:
        path: Where the text stands.
        head: What the chunks are under.
        field: The field of a chunk that the text is: ``delta_content`` or ``delta_reasoning``.
        constants: Further fields of the chunks: ``role``, ``index``, ``extra``.
    """
    if constants.keys() <= {"extra"}:
        kind: type[_TextRepetition | _ReasoningRepetition] = (
            _TextRepetition if field == "delta_content" else _ReasoningRepetition
        )
        return kind(path, head, constants.get("extra"))
    return _FieldsRepetition(path, head, field, constants)


class PlainRepetition(Repetition):
    """Pieces of text or reasoning that have nothing else of their own: what the events have beside them is the same for
    all.
    """

    kind: type[TextChunk | ReasoningChunk]

    def __init__(self, path: Path, head: ChunkHead, extra: Mapping[str, Any] | None) -> None:
        super().__init__(path, head)
        self.extra = extra


class _TextRepetition(PlainRepetition):
    """Pieces of text."""

    kind = TextChunk

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        chunks: list[LLMResponseChunk] = []
        new, head, extra = _new_text, self.head, self.extra
        for text in texts:
            if text:
                chunk = new(TextChunk)
                chunk.delta_content = text
                chunk.extra = extra
                chunk.head = head
                chunks.append(chunk)
            elif extra is not None:
                chunks.append(LLMResponseChunk(extra=extra, head=head))
        return chunks

    def chunks_of_one(self, text: str) -> list[LLMResponseChunk]:
        if not text:
            return self.chunks([text])
        chunk = _new_text(TextChunk)
        chunk.delta_content = text
        chunk.extra = self.extra
        chunk.head = self.head
        return [chunk]


class _ReasoningRepetition(PlainRepetition):
    """Pieces of reasoning."""

    kind = ReasoningChunk

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        chunks: list[LLMResponseChunk] = []
        new, head, extra = _new_reasoning, self.head, self.extra
        for text in texts:
            if text:
                chunk = new(ReasoningChunk)
                chunk.delta_reasoning = text
                chunk.extra = extra
                chunk.head = head
                chunks.append(chunk)
            elif extra is not None:
                chunks.append(LLMResponseChunk(extra=extra, head=head))
        return chunks

    def chunks_of_one(self, text: str) -> list[LLMResponseChunk]:
        if not text:
            return self.chunks([text])
        chunk = _new_reasoning(ReasoningChunk)
        chunk.delta_reasoning = text
        chunk.extra = self.extra
        chunk.head = self.head
        return [chunk]


# Without __init__, which has nothing to do.
_new_text, _new_reasoning, _new_arguments = TextChunk.__new__, ReasoningChunk.__new__, ArgumentsChunk.__new__


class _FieldsRepetition(Repetition):
    """Pieces of text or reasoning with a role, or of another choice than the first."""

    def __init__(self, path: Path, head: ChunkHead, field: str, constants: dict[str, Any]) -> None:
        super().__init__(path, head)
        self._field = field
        self._full = {**constants, "head": head}
        self._empty: dict[str, Any] | None = None  # what is left when the text is empty
        if "role" in constants:
            self._empty = self._full
        elif "extra" in constants:
            self._empty = {"extra": constants["extra"], "head": head}

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        full, empty, field = self._full, self._empty, self._field
        fields = ({**full, field: text} if text else empty for text in texts)
        return [LLMResponseChunk.of(dict(each)) for each in fields if each is not None]


class ArgumentsRepetition(Repetition):
    """Pieces of the arguments of a tool call.

    Args:
        path, head: As for `Repetition`.
        pieces: The call that they belong to.
        constants: Further fields of the chunks: ``role``, ``index``, ``extra``.
    """

    def __init__(self, path: Path, head: ChunkHead, pieces: ArgumentPieces, constants: dict[str, Any]) -> None:
        super().__init__(path, head)
        self._pieces = pieces
        self._constants = constants

    def holds(self, head: ChunkHead) -> bool:
        return super().holds(head) and self._pieces.hold()

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        deltas, constants = self._pieces.deltas(texts), self._constants
        if constants.keys() <= {"extra"}:
            return [self._plain(delta) for delta in deltas]
        of, head = LLMResponseChunk.of, self.head
        return [of({**constants, "delta_tool_calls": (delta,), "head": head}) for delta in deltas]

    def _plain(self, delta: ToolCallDelta) -> ArgumentsChunk:
        chunk = _new_arguments(ArgumentsChunk)
        chunk.delta_tool_calls = (delta,)
        chunk.extra = self._constants.get("extra")
        chunk.head = self.head
        return chunk
