"""What SQLite and the system say about a file, as errors of ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import JournalDamagedError, JournalError, JournalLockedError, JournalWriteError

# By the text, which is SQLite's own (sqlite3ErrStr) and has not changed since 2013: Python tells the code from 3.11 on.
_CLASSES: dict[str, type[JournalError]] = {
    "database or disk is full": JournalWriteError,
    "disk I/O error": JournalWriteError,
    "attempt to write a readonly database": JournalWriteError,
    "unable to open database file": JournalWriteError,
    "database is locked": JournalLockedError,
    "database disk image is malformed": JournalDamagedError,
    "file is not a database": JournalDamagedError,
    "Could not decode to UTF-8": JournalDamagedError,
    "no such table": JournalDamagedError,
    "no such column": JournalDamagedError,
}


_WRONG_PLACE = (NotADirectoryError, PermissionError)  # where no room on the disk would help


def journal_failure(error: Exception, path: Path) -> JournalError:
    """The error of ours that a failed operation on a journal stands for. It is told apart by class, not by text."""
    if isinstance(error, JournalError):
        return error
    if isinstance(error, OSError):
        kind: type[JournalError] = JournalError if isinstance(error, _WRONG_PLACE) else JournalWriteError
        text = error.strerror or type(error).__name__
    else:
        text = str(error)
        kind = next((kind for begin, kind in _CLASSES.items() if text.startswith(begin)), JournalError)
    if isinstance(error, sqlite3.Error):
        text = f"{text}{_code(error)}"
    failure = kind(f"the journal {str(path)!r}: {text}")
    failure.__cause__ = error
    return failure


def _code(error: sqlite3.Error) -> str:
    name: str | None = getattr(error, "sqlite_errorname", None)  # Python 3.11
    return f" [{name}]" if name else ""
