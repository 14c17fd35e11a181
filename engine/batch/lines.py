"""Bytes to lines: gzip taken off, line ends found, length bounded. No file and no JSON here."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import InputError

_GZIP = b"\x1f\x8b"  # RFC 1952, 2.3.1; no JSON begins so
_WITH_GZIP_HEADER = 31  # of zlib's wbits
_PIECE = 1 << 18  # bytes that a compressed piece may become at a time: what bounds a bomb
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line of a file.

    Args:
        number: Counted from 1, empty lines too.
        text: Without its end. `None` where it is longer than allowed.
        size: Bytes, its end left out.
    """

    number: int
    text: bytes | None
    size: int


def decompressed(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The pieces as they are, or what they hold when they begin like gzip. Several members follow each other.

    Args:
        pieces: In order; none is empty.
        name: Of the input, for errors.

    Raises:
        InputError: The gzip data is damaged, or ends in the middle.
    """
    pieces = iter(pieces)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(_GZIP):
            break
    if not head.startswith(_GZIP):
        if head:
            yield head
        yield from pieces
        return
    member: zlib._Decompress | None = None
    for piece in _chain(head, pieces):
        data = piece
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # padding between members, and after the last (RFC 1952 leaves it open)
                if not data:
                    break
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
            try:
                plain = member.decompress(data, _PIECE)
            except zlib.error as error:
                raise InputError(f"{name}: the gzip data is damaged: {error}") from None
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
            if plain:
                yield plain
    if member is not None:
        raise InputError(f"{name}: the gzip data ends in the middle")


def _chain(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def split_lines(pieces: Iterable[bytes], max_bytes: int) -> Iterator[list[Line]]:
    """The lines that end in each piece, and at last what follows the last line end.

    LF ends a line, and a CR before it belongs to the end. A byte order mark before the first line is left out. A line
    that is too long is held no further than the bound; it is told with its size, and the next one is read as ever.

    Args:
        pieces: In order, cut anywhere.
        max_bytes: Of one line.
    """
    splitter = _Splitter(max_bytes)
    for piece in pieces:
        if lines := splitter.feed(piece):
            yield lines
    if last := splitter.end():
        yield [last]


class _Splitter:
    """Invariant: `_held` are pieces of the line that has not ended, together at most `_max_bytes`, unless `_held_size`
    says that it is too long already: then nothing of it is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._held: list[bytes] = []
        self._held_size = 0

    def feed(self, piece: bytes) -> list[Line]:
        *ended, rest = piece.split(b"\n")
        lines = [self._line(part) for part in ended]
        self._hold(rest)
        return lines

    def end(self) -> Line | None:
        return self._line(b"") if self._held_size else None

    def _hold(self, part: bytes) -> None:
        if part:
            self._held_size += len(part)
            if self._held_size > self._max_bytes + len(_BOM) + 1:  # a mark before it and a CR behind do not count
                self._held.clear()
            else:
                self._held.append(part)

    def _line(self, part: bytes) -> Line:
        self._hold(part)
        size, self._held_size = self._held_size, 0
        text = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._number += 1
        if len(text) != size:
            return Line(self._number, None, size)
        if text.endswith(b"\r"):
            text = text[:-1]
        if self._number == 1:
            text = text.removeprefix(_BOM)
        return Line(self._number, text if len(text) <= self._max_bytes else None, len(text))
