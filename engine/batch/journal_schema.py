"""What a journal file holds, and how to tell one from other files without changing it.

    journal   its id
    facts     what the batch keeps of itself: gateway, model, published files
    rows      a record for each row, small, by position: a resume reads these and nothing else
    lines     the results, in the order they came

Results stand apart from the records: they are only ever appended, so pages fill up and are written once, and
neither finding records nor counting them reads a result.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from uuid import uuid4

from ..errors import JournalDamagedError, JournalVersionError

VERSION = 1
"""Of the form of the file. It grows with each change that an older or newer program would not understand."""

_APPLICATION = 0x50656E73  # "Pens", in the header of the file: tells a journal from other SQLite files

_SCHEMA = f"""
PRAGMA page_size = 4096;
PRAGMA journal_mode = MEMORY;
BEGIN;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE journal (id TEXT NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    keyed_at INTEGER NOT NULL,
    line INTEGER
);
CREATE TABLE lines (number INTEGER PRIMARY KEY, state TEXT, text BLOB);
"""

_HEADER = 100  # bytes; https://www.sqlite.org/fileformat.html#the_database_header


def create(path: Path) -> None:
    """Make an empty journal, readable by its owner only: complete, or not there at all.

    Raises:
        OSError: The file cannot be made here.
        sqlite3.Error: It cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that died just here; who calls holds the lock
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO journal VALUES (?)", (str(uuid4()),))
            connection.execute("COMMIT")  # on the disk when it returns
        finally:
            connection.close()
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def is_empty(path: Path) -> bool:
    """Whether there is no file, or one without a byte."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def check_header(path: Path) -> None:
    """Raise where a file is no journal of this version. Reads its first bytes and changes nothing.

    Raises:
        JournalDamagedError: It is no journal.
        JournalVersionError: It is one, of another version.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(b"SQLite format 3\0"):
        raise JournalDamagedError(f"{str(path)!r} is not a journal")
    if int.from_bytes(header[68:72], "big") != _APPLICATION:
        raise JournalDamagedError(f"{str(path)!r} is an SQLite file of something else, not a journal")
    version = int.from_bytes(header[60:64], "big")
    if version != VERSION:
        age = "newer" if version > VERSION else "older"
        raise JournalVersionError(
            f"the journal {str(path)!r} has the form {version}, of {'a' if age == 'newer' else 'an'} {age} version"
            f" of Penstock; this one reads and writes form {VERSION}"
        )
