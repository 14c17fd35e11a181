"""A cassette that is being written.

Each line is written with one call, when it is known, so that a crash leaves a file whose whole lines can be read. The
file is open, and locked against other writers, while something is being recorded, and closed between.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from secrets import token_hex

from ..errors import CassetteError
from .lines import HEADING, Asked, Event, encoded

try:
    import fcntl
except ImportError:  # Windows: there another writer is only noticed when it has replaced the file
    fcntl = None  # type: ignore[assignment]


class Recording:
    """The file that interactions are written to. For any number of tasks, threads and engines at a time.

    Args:
        path: Where it is to be. What is there is replaced when the first request is recorded, and not before.
        is_new: Whether there must be no file yet.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        self._path = path
        self._is_new = is_new
        self._lock = threading.Lock()
        self._file: _OpenFile | None = None
        self._identity: tuple[int, int] | None = None  # of the file we began
        self._count = 0
        self._running: set[int] = set()

    def begin(self, asked: Asked) -> int:
        """Write a request; returns the number of its interaction, which is to be ended with `finish`.

        Raises:
            CassetteError: The file cannot be written, or somebody else writes it.
        """
        with self._lock:
            if self._file is None:
                self._file = self._opened()
            self._count += 1
            number = self._count
            self._running.add(number)
            try:
                self._file.append(encoded(number, asked))
            except BaseException:
                self._forget(number)
                raise
            return number

    def write(self, number: int, event: Event) -> None:
        """Write what happened to an interaction that has begun and is not over.

        Raises:
            CassetteError: The file cannot be written.
        """
        with self._lock:
            if self._file is not None and number in self._running:
                self._file.append(encoded(number, event))

    def finish(self, number: int) -> None:
        """An interaction is over. Twice is harmless."""
        with self._lock:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._running.discard(number)
        if not self._running and self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> _OpenFile:
        try:
            if self._identity is None:
                self._begin_file()
            file = _OpenFile(self._path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise CassetteError(f"the cassette {self._path} cannot be written: {reason}", phase="not_sent") from None
        if self._identity not in (None, file.identity):
            file.close()
            raise _shared(self._path, "has been replaced by another recorder")
        self._identity = file.identity
        return file

    def _begin_file(self) -> None:
        """Put a cassette with nothing in it to its place: at every moment there is a whole one, or none."""
        if self._path.exists():
            if not self._path.is_file():  # a device, such as /dev/null, would be replaced as well
                raise CassetteError(f"the cassette {self._path} cannot be written: it is no file", phase="not_sent")
            if self._is_new:
                raise _shared(self._path, "has been begun by another recorder")
            _OpenFile(self._path).close()  # fails while somebody writes it
        self._path.parent.mkdir(parents=True, exist_ok=True)
        begun = self._path.with_name(f".{self._path.name}.{token_hex(4)}")
        try:
            begun.write_bytes(HEADING)
            if self._is_new:
                os.link(begun, self._path)  # fails when there is one by now
            else:
                os.replace(begun, self._path)
        except FileExistsError:
            raise _shared(self._path, "has been begun by another recorder") from None
        finally:
            begun.unlink(missing_ok=True)


class _OpenFile:
    """A file opened for appending, and locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self._close = weakref.finalize(self, os.close, self._handle)
        if fcntl is not None:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise _shared(path, "is being recorded by another recorder") from None
        status = os.fstat(self._handle)
        self.identity = (status.st_dev, status.st_ino)

    def append(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise CassetteError(f"the cassette {self._path} cannot be written: {reason}") from None

    def close(self) -> None:
        self._close()


def _shared(path: Path, what: str) -> CassetteError:
    text = f"the cassette {path} {what}: give one Record to all who record into it, or a file to each"
    return CassetteError(text, phase="not_sent")
