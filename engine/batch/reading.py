"""Rows from a file of JSON lines, or from stdin, one block of it in memory at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import AsyncGenerator, Generator, Iterator
from itertools import islice
from typing import TypeVar

import orjson

from ..errors import BadRowError, ConfigurationError, InputError
from .lines import Line, decompressed, split_lines
from .rows import BatchRow
from .threads import ThreadCalls

T = TypeVar("T")

STDIN = "-"
MAX_LINE_BYTES = 64 << 20  # OpenAI takes 50 MB of images with a request, written in base64
_BLOCK = 1 << 18  # bytes of one read; its rows take some milliseconds to parse


class RowFile:
    """The rows of a file, to be iterated with ``for`` or ``async for``.

    One JSON value a line, in any of the shapes of `BatchRow.of`, as UTF-8 with or without a byte order mark. Lines end
    with LF or CRLF, the last one also with the file; empty lines are passed over. Gzip is known by its first bytes,
    whatever the file is called. Iterating holds one block of the file in memory and one line, never the file. Only one
    iteration runs at a time; a file is read from its beginning each time, stdin once.

    With ``async for`` the file is read in a thread, so that a pipe that says nothing holds up nobody.

    Args:
        path: The file; ``"-"`` is stdin.
        max_line_bytes: A longer line is a bad row. It is passed over without being held.
        strict: Whether the error of a bad row is raised. Else it stands in its place, and the rest is read on.

    Raises:
        ConfigurationError: `max_line_bytes` is not a positive number.
        BadRowError: While iterating, when `strict`: a line is no row. The message names file and line.
        InputError: While iterating: the file cannot be read, its gzip data is damaged, or it was changed since
            iterating began. A file that is replaced by another of its name is no change: what was opened is read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        strict: bool = False,
    ) -> None:
        if max_line_bytes < 1:
            raise ConfigurationError(f"max_line_bytes is a positive number of bytes, not {max_line_bytes!r}")
        self.path = os.fspath(path)
        self.name = "stdin" if self.path == STDIN else self.path
        self.size: int | None = None
        """Bytes of the file, as it lies on the disk. `None` before it is opened, and of what has no size."""
        self.bytes_read = 0
        """How many of them have been read."""
        self.rows_read = 0
        """Rows that these held, bad ones counted."""
        self.is_read = False
        """Whether the end has been reached."""
        self.is_openai: bool | None = None
        """Whether the first good row is in the shape of OpenAI's batch files. `None` before it is read."""
        self._max_line_bytes = max_line_bytes
        self._is_strict = strict

    def __repr__(self) -> str:
        return f"<RowFile {self.name}: {self.rows_read} rows read>"

    @property
    def estimated_rows(self) -> float | None:
        """How many rows there are in all: the number once all are read, before that a guess by the bytes that are left.
        `None` without anything to guess by.
        """
        if self.is_read:
            return self.rows_read
        if not self.size or not self.bytes_read:
            return None
        return self.rows_read * max(1.0, self.size / self.bytes_read)

    def check(self) -> None:
        """See whether the file is there to be read, before anything is made for its results. Opens nothing, so that a
        pipe is not waited for.

        Raises:
            InputError: It is not.
        """
        if self.path == STDIN:
            return
        try:
            mode = os.stat(self.path).st_mode
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        if stat.S_ISDIR(mode) or not os.access(self.path, os.R_OK):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EACCES
            raise InputError(f"{self.path} cannot be read: {os.strerror(number)}")

    def __iter__(self) -> Generator[BatchRow | BadRowError, None, None]:
        with contextlib.closing(self._blocks()) as blocks:
            for block in blocks:
                yield from self._given_out(block)

    async def __aiter__(self) -> AsyncGenerator[BatchRow | BadRowError, None]:
        async with contextlib.aclosing(_in_threads(self._blocks())) as blocks:
            async for block in blocks:
                for row in self._given_out(block):
                    yield row

    def _given_out(self, block: list[BatchRow | BadRowError]) -> Iterator[BatchRow | BadRowError]:
        if self._is_strict:
            for row in block:
                if isinstance(row, BadRowError):
                    raise row
                yield row
        else:
            yield from block

    def _blocks(self) -> Generator[list[BatchRow | BadRowError], None, None]:
        self.bytes_read = self.rows_read = 0
        self.is_read = False
        with _opened(self.path) as descriptor:
            pieces = decompressed(self._pieces(descriptor), self.name)
            for lines in split_lines(pieces, self._max_line_bytes):
                block = [self._row(line) for line in lines if line.text is None or line.text.strip()]
                if block:
                    yield block
        self.is_read = True

    def _pieces(self, descriptor: int) -> Iterator[bytes]:
        before = os.fstat(descriptor)
        is_file = stat.S_ISREG(before.st_mode)
        self.size = before.st_size if is_file else None
        while True:
            try:
                piece = os.read(descriptor, _BLOCK)
                after = os.fstat(descriptor)
            except OSError as error:
                raise InputError(f"{self.name} cannot be read: {error.strerror}") from error
            # Checked before the rows of the piece are given out: half of a line that is being written may look whole.
            if is_file and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputError(
                    f"{self.name} was changed while it was read: {before.st_size} bytes then, {after.st_size} now"
                )
            if not piece:
                return
            self.bytes_read += len(piece)
            yield piece

    def _row(self, line: Line) -> BatchRow | BadRowError:
        position = self.rows_read
        self.rows_read += 1
        if line.text is None:
            return self._bad(line, f"{line.size} bytes, and {self._max_line_bytes} are allowed")
        try:
            row = BatchRow.of(orjson.loads(line.text), position)
        except orjson.JSONDecodeError as error:
            return self._bad(line, f"not JSON: {error.args[0]}")
        except BadRowError as error:
            return self._bad(line, error.message, error.param, error.row_id)
        if self.is_openai is None:
            self.is_openai = row.is_openai
        return row

    def _bad(self, line: Line, what: str, param: str | None = None, row_id: str | None = None) -> BadRowError:
        error = BadRowError(f"{self.name}, line {line.number}: {what}", param=param, phase="not_sent")
        error.line, error.row_id = line.number, row_id
        return error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor to read from. That of stdin is not ours to close."""
    if path == STDIN:
        yield 0
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _in_threads(blocks: Generator[T, None, None]) -> AsyncGenerator[T, None]:
    """What a generator that blocks yields, each step of it in a thread."""
    calls = ThreadCalls(blocks.close)
    try:
        while found := await calls.call(lambda: list(islice(blocks, 1))):
            yield found[0]
    finally:
        calls.close()
