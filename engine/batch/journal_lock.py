"""One writer at a time: a lock on a file beside the journal, which the system takes back from a process that dies.

Not on the journal itself: closing any other descriptor of a file gives up the locks that SQLite holds on it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from ..errors import JournalLockedError

_REFUSED = (BlockingIOError, PermissionError)  # of flock(), of msvcrt
_PATIENCE_S = 0.1  # who only looks whether it is locked holds it for a moment

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # behind the text, since nobody else can read a byte that is locked

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _remove(path: Path) -> None:
        """Leave it: Windows removes no file that is open, and a lock given up first may be another's already."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # not lockf(): it lets the same process lock a file twice, and closing either would end both
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)


class JournalLock:
    """Holds the lock of a journal until it is released.

    Args:
        journal: The journal's file, without links in its path.

    Raises:
        JournalLockedError: Another process holds it, or this one does already.
        OSError: The lock file cannot be made, or its file system knows no locks.
    """

    def __init__(self, journal: Path) -> None:
        self._path = _beside(journal)
        self._descriptor = _locked(self._path, journal)
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write. Twice is harmless."""
        if self._descriptor >= 0:
            with suppress(OSError):  # a file that nobody locks is in nobody's way
                _remove(self._path)  # while it is locked still: who opened it meanwhile sees that it is gone
            os.close(self._descriptor)
            self._descriptor = -1


def writer_of(journal: Path) -> str | None:
    """Who holds the lock of a journal now: "process 1234". `None` when nobody does, whatever file a dead one left."""
    path = _beside(journal)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)  # for a moment only
    except _REFUSED:
        return _named(path)
    finally:
        os.close(descriptor)
    return None


def _beside(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")


def _locked(path: Path, journal: Path) -> int:
    give_up = monotonic() + _PATIENCE_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            if _is_at(path, descriptor):
                return descriptor  # and else its holder has removed it, between our opening and our locking
        except _REFUSED:
            if monotonic() >= give_up:
                os.close(descriptor)
                raise JournalLockedError(f"{str(journal)!r} is being written by {_named(path)}") from None
            sleep(_PATIENCE_S / 10)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _named(path: Path) -> str:
    try:
        process = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        process = ""
    return f"process {process}" if process.isdigit() else "another process"
