"""What events that fit a template decode to: the same as the one it was learned from, but for a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from .template import Path
from .tool_calls import ArgumentPieces
from .types import ChunkHead, LLMResponseChunk, TextChunk


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


class TextRepetition(Repetition):
    """Pieces of text or reasoning.

    Args:
        path, head: As for `Repetition`.
        field: The field of a chunk that the text is.
        constants: Further fields of the chunks: ``role``, ``index``.
    """

    def __init__(self, path: Path, head: ChunkHead, field: str, constants: dict[str, Any]) -> None:
        super().__init__(path, head)
        self._field = field
        self._constants = constants

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        """An empty text makes no chunk, except for its role."""
        if self._field == "delta_content" and not self._constants:
            return self._text_chunks(texts)
        of, field, head, constants = LLMResponseChunk.of, self._field, self.head, self._constants
        return [
            of({**constants, field: text, "head": head} if text else {**constants, "head": head})
            for text in texts
            if text or "role" in constants
        ]

    def _text_chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        chunks: list[LLMResponseChunk] = []
        new, append, head = TextChunk.__new__, chunks.append, self.head
        for text in texts:
            if text:
                chunk = new(TextChunk)
                chunk.delta_content = text
                chunk.head = head
                append(chunk)
        return chunks


class ArgumentsRepetition(Repetition):
    """Pieces of the arguments of a tool call.

    Args:
        path, head: As for `Repetition`.
        pieces: The call that they belong to.
        constants: Further fields of the chunks: ``role``, ``index``.
    """

    def __init__(self, path: Path, head: ChunkHead, pieces: ArgumentPieces, constants: dict[str, Any]) -> None:
        super().__init__(path, head)
        self._pieces = pieces
        self._constants = constants

    def holds(self, head: ChunkHead) -> bool:
        return super().holds(head) and self._pieces.hold()

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        of, head, constants = LLMResponseChunk.of, self.head, self._constants
        return [of({**constants, "delta_tool_calls": (delta,), "head": head}) for delta in self._pieces.deltas(texts)]
