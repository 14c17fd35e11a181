"""Decisions read from the bytes of an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """The decisions that an input makes, in the order in which they are asked for.

    Every input is valid: where its bytes end, numbers are 0 and texts are empty. So an input is a file of bytes, a
    fuzzer that knows nothing of decisions can change it, and a shorter one decides less.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data))

    def below(self, count: int) -> int:
        """A number from 0 to below `count`, at most 65,536."""
        return int.from_bytes(self.take(1 if count <= 256 else 2), "big") % count

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def short_bytes(self) -> bytes:
        """Up to 255 bytes."""
        return self.take(self.below(256))

    def places(self) -> list[int]:
        """Up to 7 places in a body, in any order; to be taken modulo its length."""
        return [self.below(65536) for _ in range(self.below(8))]
