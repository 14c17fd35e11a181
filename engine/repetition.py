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
        constants: Further fields of the chunks: ``role``, ``index``, ``extra``.
    """

    def __init__(self, path: Path, head: ChunkHead, field: str, constants: dict[str, Any]) -> None:
        super().__init__(path, head)
        self._field = field
        self._extra = extra = constants.get("extra")
        self._full = {**constants, "head": head}
        self._empty: dict[str, Any] | None = None  # what is left when the text is empty
        if "role" in constants:
            self._empty = self._full
        elif extra is not None:
            self._empty = {"extra": extra, "head": head}
        self._is_plain = field == "delta_content" and constants.keys() <= {"extra"}

    def chunks(self, texts: list[str]) -> list[LLMResponseChunk]:
        """An empty text makes no chunk, except for what else there is."""
        chunks: list[LLMResponseChunk] = []
        new, append, is_plain, head, extra = TextChunk.__new__, chunks.append, self._is_plain, self.head, self._extra
        for text in texts:
            if text and is_plain:
                chunk = new(TextChunk)
                chunk.delta_content = text
                chunk.extra = extra
                chunk.head = head
                append(chunk)
            elif text:
                append(LLMResponseChunk.of({**self._full, self._field: text}))
            elif self._empty is not None:
                append(LLMResponseChunk.of(dict(self._empty)))
        return chunks


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
        of, head, constants = LLMResponseChunk.of, self.head, self._constants
        return [of({**constants, "delta_tool_calls": (delta,), "head": head}) for delta in self._pieces.deltas(texts)]
