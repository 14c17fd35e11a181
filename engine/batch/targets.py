"""Files that results go to: whole or not at all, at the end; or line by line, from where an earlier run left off.

Everything here blocks. What fails is an `OutputError`, and the file has whole lines all the same.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from ..errors import OutputError

STDOUT = "-"
_TAIL = 1 << 16  # bytes before the end by which a file is known again
_WITH_GZIP_HEADER = 31  # of zlib's wbits


class Identity(NamedTuple):
    """What tells a published file from any other: a file that was edited, copied or replaced has another one."""

    inode: int
    size: int
    mtime_ns: int


class Mark(NamedTuple):
    """How far a file was written.

    Attributes:
        size: Bytes, all of whole lines.
        tail: Hash of the last of them, at most 64 KiB, in hexadecimal.
        inode: Of the file, by which an empty one is known.
    """

    size: int = 0
    tail: str = ""
    inode: int = 0

    def fits(self, other: Mark) -> bool:
        """Whether two marks can be of one file; of a copy of it as well, once there is something in it."""
        return self[:2] == other[:2] and (self.size > 0 or self.inode == other.inode)


def resolved(path: str | os.PathLike[str]) -> str:
    """The file itself where the path is a link: a link is not replaced by what it leads to."""
    return STDOUT if os.fspath(path) == STDOUT else os.path.realpath(path)


def is_compressed(path: str) -> bool:
    """Whether a file of this name is written as gzip."""
    return path.endswith(".gz")


def check_free(path: str, known: Sequence[Identity], overwrite: bool) -> None:
    """Make sure that publishing to a path destroys nothing of anybody else.

    Args:
        path: Resolved.
        known: Identities that ours have had.
        overwrite: Whether another file may be replaced, too.

    Raises:
        OutputError: There is a file that is not ours, something that is no file, or no folder to put it into.
    """
    with _told(path):
        if not os.path.isdir(os.path.dirname(path)):
            raise OutputError(f"{path} cannot be written: there is no folder {os.path.dirname(path)}")
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return
    _check_regular(path, found)
    if not overwrite and _identity(found) not in known:
        raise OutputError(f"{path} exists and is not what this journal published: --overwrite replaces it")


class Part:
    """A file that is written beside its target and then takes its name.

    Args:
        path: Of the target, resolved.
        suffix: Of the file until then; a part that a killed run left is written anew.
    """

    def __init__(self, path: str, suffix: str) -> None:
        self.path = path
        self._folder, name = os.path.split(path)
        self._part = os.path.join(self._folder, f".{name}.{suffix}.part")
        with _told(path):
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _CLOEXEC, 0o666)
            with contextlib.suppress(FileNotFoundError):  # what replaces a file may be read by whom it could be read
                os.chmod(self._part, stat.S_IMODE(os.stat(path).st_mode))
        self._gzip = zlib.compressobj(wbits=_WITH_GZIP_HEADER) if is_compressed(path) else None
        self._is_open = True

    def write(self, data: bytes | bytearray) -> None:
        with _told(self.path):
            _write(self._descriptor, data if self._gzip is None else self._gzip.compress(data))

    def finish(self) -> Identity:
        """Have all of it on the disk, still under the other name. It keeps its identity when it is renamed."""
        with _told(self.path):
            if self._gzip is not None:
                _write(self._descriptor, self._gzip.flush())
            os.fsync(self._descriptor)
            identity = _identity(os.fstat(self._descriptor))
        self._close()
        return identity

    def publish(self) -> None:
        """Give it the name. Readers see the old file or the new one, and nothing between."""
        with _told(self.path):
            os.replace(self._part, self.path)
            sync_folder(self._folder)

    def discard(self) -> None:
        """Leave nothing of it. Of no effect once it is published."""
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._part)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)


class Log:
    """A file that grows by whole lines.

    Opening it checks it and changes nothing; then comes `begin`.

    Args:
        path: Of the file, resolved.
        mark: Where an earlier run left off. `None` expects no file.
        overwrite: Whether there may be another file, or one that is not as it was left.

    Attributes:
        is_continued: Whether it is as the mark says, so that it can be gone on with.

    Raises:
        OutputError: The file is not ours, or cannot be opened.
    """

    def __init__(self, path: str, mark: Mark | None, overwrite: bool) -> None:
        self.path = path
        self._size, self._tail = 0, b""
        with _told(path):
            with contextlib.suppress(FileNotFoundError):
                _check_regular(path, os.stat(path))
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o666)
        self._is_open = True
        try:
            self._find_place(mark, overwrite)
        except BaseException:
            self.close()
            raise

    def _find_place(self, mark: Mark | None, overwrite: bool) -> None:
        with _told(self.path):
            found = os.fstat(self._descriptor)
            _check_regular(self.path, found)
            self._inode = found.st_ino
            if mark is not None and found.st_size >= mark.size:
                start = os.lseek(self._descriptor, max(0, mark.size - _TAIL), os.SEEK_SET)
                self._size, self._tail = mark.size, _read(self._descriptor, mark.size - start)
            self.is_continued = mark is not None and (mark.fits(self.mark) or mark.size == found.st_size == 0)
            if found.st_size and not self.is_continued and not overwrite:
                raise OutputError(f"{self.path} exists and is not as this journal left it: --overwrite writes it anew")
            sync_folder(os.path.dirname(self.path))

    def begin(self, *, anew: bool) -> None:
        """Get ready to be written. What stands behind the mark is cut off: part of a line, or lines that will come
        again. `anew` cuts off all.
        """
        if anew:
            self._size, self._tail = 0, b""
        with _told(self.path):
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)

    @property
    def mark(self) -> Mark:
        """How far it is written."""
        return Mark(self._size, blake2b(self._tail, digest_size=16).hexdigest(), self._inode)

    def write(self, lines: bytes | bytearray) -> None:
        """Append whole lines, all or none; of gzip, a member of their own."""
        data = gzip.compress(lines, 6, mtime=0) if is_compressed(self.path) else lines
        with _told(self.path):
            try:
                _write(self._descriptor, data)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
                raise
        self._size += len(data)
        self._tail = (self._tail + data)[-_TAIL:]

    def sync(self) -> None:
        """Have it on the disk."""
        with _told(self.path):
            os.fsync(self._descriptor)

    def remove_if_empty(self) -> None:
        """Leave no file without lines."""
        if not self._size:
            self._inode = 0  # no file has it: what has that name next is another file
            remove(self.path)

    def close(self) -> None:
        """Let go of it. Twice is harmless."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)


class Stdout:
    """stdout, as a `Log` that begins anew with each run."""

    path = "stdout"
    mark = Mark()
    is_continued = False

    def begin(self, *, anew: bool) -> None:
        """Nothing: what was written cannot be taken back."""

    def write(self, lines: bytes | bytearray) -> None:
        with _told(self.path):
            _write(1, lines)

    def sync(self) -> None:
        """Nothing: a pipe has no disk."""

    def remove_if_empty(self) -> None:
        """Nothing: it is no file."""

    def close(self) -> None:
        """Nothing: it is not ours to close."""


def remove(path: str) -> None:
    """Remove a file that was published earlier, if there is one."""
    if path != STDOUT:
        with _told(path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sync_folder(path: str) -> None:
    """Have the names in a folder on the disk. Where a folder cannot be opened (Windows) the system does it."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY | _CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that knows no such thing
                raise
        finally:
            os.close(descriptor)


_CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _check_regular(path: str, found: os.stat_result) -> None:
    """Opening a pipe would wait for a reader, and a device must not be replaced."""
    if not stat.S_ISREG(found.st_mode):
        raise OutputError(f"{path} is no regular file")


def _identity(found: os.stat_result) -> Identity:
    return Identity(found.st_ino, found.st_size, found.st_mtime_ns)


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := os.read(descriptor, size - len(data))):
        data += piece
    return data


def _write(descriptor: int, data: bytes | bytearray) -> None:
    """All of it. A disk that becomes full takes a part first, and tells at the next try."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
