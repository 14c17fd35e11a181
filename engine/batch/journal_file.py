"""A journal file, opened: made where there is none, locked, looked over, and brought to the disk in time."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from urllib.parse import quote
from uuid import UUID

from ..errors import JournalDamagedError, JournalError, JournalWriteError
from .journal_lock import JournalLock
from .journal_schema import check_header, create, is_empty
from .ledger import Ledger
from .records import Durability
from .walk import Walk

_SYNC_S = 1.0  # what a power cut may take where not each commit is brought to the disk
_BUSY_S = 5.0  # until somebody else's hold on the file is a failure; readers of ours hold it for microseconds
_CACHE_KIB = 16 * 1024  # ids are looked up at random: with SQLite's own 2 MiB a row took a tenth more CPU at 200,000
_WAL_PAGES = 4096  # 16 MiB between checkpoints: a page that changes often is copied into the file once, not each 4 MiB
_STATEMENTS = 256  # kept prepared: three kinds, for 1 to 64 rows each
_QUICK_CHECK_BYTES = 64 << 20  # 50 ms at 1.4 GB/s; a larger file is compared on request


class JournalFile:
    """Opens a journal. Everything is to be called in one thread.

    Args:
        path: Of the file.
        durability: See `Durability`.
        read_only: Take no lock and change nothing.

    Attributes:
        is_new: Whether the file was made here.
        id: Of the journal.
        path: Of the file, without links: two links to a journal share its lock.
        facts: What it has kept, when it was opened.
        ledger: Its tables.
        walk: The input along its records.
        leaves_empty: Whether a file that was made here stays when it has no row.

    Raises:
        JournalError: It cannot be used; the classes are those that `Journal.open` names.
        OSError: It cannot be read or made.
        sqlite3.Error: The same, found by SQLite.
    """

    def __init__(self, path: Path, durability: Durability, read_only: bool) -> None:
        self.path = path = path.resolve()
        self._wal = path.with_name(path.name + "-wal")
        self._is_read_only = read_only
        self._syncs_each_commit = durability == "full"
        self._changes = 0  # of the last commit
        self._sync_due: float | None = None  # `None` while all is on the disk
        self._is_unwanted = False
        self.leaves_empty = True
        _check_place(path)
        with ExitStack() as undo:
            if not read_only:
                undo.callback(JournalLock(path).release)
            undo.callback(self._remove_if_unwanted)  # between closing and unlocking: nobody can have opened it
            self.is_new = _is_made(path, read_only)
            check_header(path)
            self._connection = _connected(path, read_only)
            undo.callback(self._connection.close)
            if not read_only:
                _prepare(self._connection, path, durability)
            _look_over(self._connection, path)
            self.ledger = Ledger(self._connection)
            self.walk = Walk(self._connection)
            self.id = _id(self.ledger, path)
            self.facts = self.ledger.facts()
            self._opened = undo.pop_all()

    def begin(self) -> None:
        """Begin a transaction. While reading only there is none: each statement sees what is committed by then."""
        if not self._is_read_only:
            self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End the transaction. When it returns, the death of a process takes nothing of it."""
        if self._is_read_only:
            return
        self._connection.execute("COMMIT")
        changes = self._connection.total_changes
        if changes != self._changes and not self._syncs_each_commit and self._sync_due is None:
            self._sync_due = monotonic() + _SYNC_S
        self._changes = changes

    def sync_in(self) -> float | None:
        """Seconds until `sync` is due. `None` when everything is on the disk."""
        return None if self._sync_due is None else max(0.0, self._sync_due - monotonic())

    def sync(self) -> None:
        """Bring all commits to the disk, so that a power cut takes nothing of them.

        SQLite leaves this to the next checkpoint, which a slow batch may reach after an hour.
        """
        if self._sync_due is not None:
            _sync(self._wal, os.O_RDWR)  # Windows syncs nothing that is open for reading
            self._sync_due = None

    def check(self) -> None:
        """Compare all pages, records and indexes.

        Raises:
            JournalDamagedError: They do not agree.
        """
        _compare(self._connection, self.path, "integrity_check")

    def _remove_if_unwanted(self) -> None:
        if self._is_unwanted:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Undo what is not committed, and let go of the file. Twice is harmless."""
        with self._opened, suppress(sqlite3.Error):  # a failure has been told; closing cannot make it good
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._is_unwanted = self.is_new and not self.leaves_empty and self.ledger.is_empty()


def _check_place(path: Path) -> None:
    """A new journal takes the place of an empty file: it must not take that of ``/dev/null``."""
    if not path.parent.is_dir():
        raise JournalError(f"the journal {str(path)!r} cannot be had: there is no folder {str(path.parent)!r}")
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise JournalError(f"the journal {str(path)!r} is no regular file")


def _is_made(path: Path, read_only: bool) -> bool:
    if not is_empty(path):
        return False
    if read_only:
        raise JournalError(f"there is no journal at {str(path)!r}")
    create(path)
    return True


def _connected(path: Path, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, cached_statements=_STATEMENTS)
    connection = _connected_to(path, "mode=ro")
    try:
        connection.execute("SELECT 1 FROM journal")
    except sqlite3.OperationalError:
        connection.close()
        if not is_empty(path.with_name(path.name + "-wal")):
            raise
        # Nothing can be written beside it, so SQLite cannot share it with a writer; but none has it open.
        return _connected_to(path, "mode=ro&immutable=1")
    return connection


def _connected_to(path: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)


def _prepare(connection: sqlite3.Connection, path: Path, durability: Durability) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        text = f"the journal {str(path)!r} has to be on a local disk: SQLite cannot share memory there"
        raise JournalWriteError(text)
    connection.execute(f"PRAGMA synchronous = {durability}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    # Fails here rather than at the first row where nothing can be written; and makes the WAL, so that the folder has it
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
    if os.name != "nt":  # where folders cannot be opened
        _sync(path.parent, os.O_RDONLY)


def _look_over(connection: sqlite3.Connection, path: Path) -> None:
    """A file cut short is noticed by SQLite itself, at the first statement."""
    if path.stat().st_size <= _QUICK_CHECK_BYTES:
        _compare(connection, path, "quick_check")


def _id(ledger: Ledger, path: Path) -> UUID:
    try:
        return UUID(ledger.journal_id())
    except ValueError:
        raise JournalDamagedError(f"the journal {str(path)!r} has no id") from None


def _compare(connection: sqlite3.Connection, path: Path, how: str) -> None:
    (result,) = connection.execute(f"PRAGMA {how}(1)").fetchone()
    if result != "ok":
        raise JournalDamagedError(f"the journal {str(path)!r}: {' '.join(result.split())}")


def _sync(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
