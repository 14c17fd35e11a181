"""Records and results in the tables of a journal: statements, and nothing of threads, files or commits.

Every method runs in the thread and in the transaction of who calls. A method that refuses something leaves the
tables as they were; an `sqlite3.Error` leaves them for the transaction to roll back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain, islice
from typing import Any, TypeVar

from ..errors import BatchError, DuplicateRowError, JournalError
from .records import Counts, Ending, Line, Record, Settled, Settlement, Trace

Result = TypeVar("Result", Line, Settled)

BLOCK = 1_000  # rows of one answer at most
BLOCK_BYTES = 1 << 20  # and bytes of results, of which the last may go beyond

AT_ONCE = 64
"""Rows of one statement at most.

Each statement lets go of the interpreter and has to get it back from an event loop that is busy, so there are to be
few. SQLite takes 999 values in one, before version 3.32.
"""

RECORD = "position, id, fingerprint, generation, state, keyed_at"
"""The columns of a `Record`, in its order."""

to_record: Callable[[Iterable[Any]], Record] = partial(tuple.__new__, Record)
"""As `Record._make`, in half the time: it counts no members. A resume makes millions."""

_REPLACE = (
    "UPDATE rows SET fingerprint = ?, generation = ?, state = 'keyed', keyed_at = ?, line = NULL WHERE position = ?"
)
_DROP_LINE = "UPDATE lines SET state = NULL, text = NULL WHERE number = (SELECT line FROM rows WHERE position = ?)"
_SETTLE = (  # an update of many rows by one statement, as SQLite 3.24 knows it
    "INSERT INTO rows (position, id, fingerprint, generation, keyed_at, state, line)"
    " SELECT position, id, fingerprint, generation, keyed_at, column2, column3 FROM (VALUES {})"
    " CROSS JOIN rows ON position = column1 WHERE true"
    " ON CONFLICT (position) DO UPDATE SET state = excluded.state, line = excluded.line"
)
_LINES = (
    "SELECT position, id, rows.state, text FROM rows CROSS JOIN lines ON number = line"  # CROSS: in order of rows
    " WHERE position > ? AND rows.state IN (?, ?)"
)
_TRACE = (
    "SELECT count(*), ifnull(sum(line), 0), ifnull(sum(line * (position + 1) % 2147483647), 0) FROM rows"
    " WHERE position > ? AND position <= ? AND line NOT NULL"
)


@cache
def marks(count: int) -> str:
    """Places for so many values: ``(?, ?)``."""
    return f"({', '.join('?' * count)})"


@cache
def table(columns: int, rows: int) -> str:
    """Places for so many rows: ``(?, ?), (?, ?)``."""
    return ", ".join([marks(columns)] * rows)


def flat(rows: Iterable[Sequence[object]]) -> list[object]:
    """The values of all rows, for the places of a table."""
    return list(chain.from_iterable(rows))


class Ledger:
    """Reads and writes the tables.

    Args:
        connection: To a journal, without transactions of its own (`isolation_level=None`).
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._number: int = self._value("SELECT max(number) FROM lines", 0)  # of the last result

    def journal_id(self) -> str:
        """The id of the journal, a UUID. ``""`` where it has lost it."""
        return str(self._value("SELECT id FROM journal", ""))

    def facts(self) -> dict[str, str]:
        """All facts by name."""
        return dict(self._execute("SELECT name, value FROM facts"))

    def keep(self, facts: Mapping[str, str]) -> None:
        """Insert or replace facts."""
        self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))

    def intend(self, records: Sequence[Record]) -> None:
        """Insert records, or replace those at the same positions, as ``keyed``.

        Raises:
            DuplicateRowError: An id stands at another position.
            JournalError: Another row stands at a position.
        """
        try:
            if len(records) <= AT_ONCE:
                self._insert(records)  # one statement, which undoes itself
            else:
                with self._undoing():
                    self._insert(records)
        except sqlite3.IntegrityError:  # some are there already: rare, so not looked for before
            with self._undoing():
                self._insert_or_replace(records)

    def _insert(self, records: Sequence[Record]) -> None:
        values = [(record[0], record[1], record[2], record[3], "keyed", record[5]) for record in records]
        for begin in range(0, len(values), AT_ONCE):
            part = values[begin : begin + AT_ONCE]
            self._execute(f"INSERT INTO rows ({RECORD}) VALUES {table(6, len(part))}", flat(part))

    def _insert_or_replace(self, records: Sequence[Record]) -> None:
        seen: dict[str, int] = {}
        for record in records:
            place = seen.get(record.id, self._value("SELECT position FROM rows WHERE id = ?", None, record.id))
            if place is None:
                self._insert_at_free_place(record)
            elif place != record.position or record.id in seen:
                raise duplicate(record.id, place, record.position)
            else:
                self._replace(record)
            seen[record.id] = record.position

    def _insert_at_free_place(self, record: Record) -> None:
        try:
            self._insert([record])
        except sqlite3.IntegrityError:
            text = f"another row stands at position {record.position}: find() has not been asked for {record.id!r}"
            raise JournalError(text) from None

    def _replace(self, record: Record) -> None:
        position, _, fingerprint, generation, _, keyed_at = record
        # The number stays taken: who has read up to a number misses nothing that comes later.
        self._execute(_DROP_LINE, (position,))
        self._execute(_REPLACE, (fingerprint, generation, keyed_at, position))

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        """Undo what was done inside when it is refused. A failure of the file undoes the whole transaction itself."""
        self._execute("SAVEPOINT part")
        try:
            yield
        except (sqlite3.IntegrityError, BatchError):
            self._execute("ROLLBACK TO part")
            raise
        finally:
            if self._connection.in_transaction:
                self._execute("RELEASE part")

    def withdraw(self, positions: Sequence[int]) -> None:
        """Make keyed rows new again."""
        self._connection.executemany(
            "UPDATE rows SET state = 'new' WHERE position = ? AND state = 'keyed'", [(place,) for place in positions]
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[JournalError | None]:
        """Append results and say so in their records.

        Returns:
            For each why it was refused: its row is not keyed. `None` where it was taken.
        """
        answers: list[JournalError | None] = []
        for begin in range(0, len(settlements), AT_ONCE):
            part = settlements[begin : begin + AT_ONCE]
            if self._are_keyed([settlement.position for settlement in part]):
                self._settle(part)
                answers += [None] * len(part)
            else:
                answers += [self._settle_or_refuse(settlement) for settlement in part]
        return answers

    def _are_keyed(self, positions: Sequence[int]) -> bool:
        statement = f"SELECT count(*) FROM rows WHERE state = 'keyed' AND position IN {marks(len(positions))}"
        return bool(self._value(statement, 0, *positions) == len(positions))

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        numbers = range(self._number + 1, self._number + 1 + len(settlements))
        lines = [(number, state, line) for number, (_, state, line) in zip(numbers, settlements)]
        self._execute(f"INSERT INTO lines VALUES {table(3, len(lines))}", flat(lines))
        ends = [(position, state, number) for number, (position, state, _) in zip(numbers, settlements)]
        self._execute(_SETTLE.format(table(3, len(ends))), flat(ends))
        self._number = numbers[-1]

    def _settle_or_refuse(self, settlement: Settlement) -> JournalError | None:
        if not self._are_keyed([settlement.position]):
            return JournalError(
                f"the row at position {settlement.position} has no key in the journal, so it cannot end"
            )
        self._settle([settlement])
        return None

    def is_empty(self) -> bool:
        """Whether there is no row."""
        return not self._value("SELECT EXISTS (SELECT 1 FROM rows)", 0)

    def counts(self) -> Counts:
        """How many rows are in each state."""
        grouped = self._execute(
            "SELECT CASE WHEN position < 0 THEN 'absent' ELSE state END AS kind, count(*) FROM rows GROUP BY kind"
        )
        return Counts(**dict(grouped.fetchall()))

    def in_doubt(self, limit: int) -> list[Record]:
        """The first keyed rows."""
        found = self._execute(
            f"SELECT {RECORD} FROM rows WHERE position >= 0 AND state = 'keyed' ORDER BY position LIMIT ?", (limit,)
        )
        return list(map(to_record, found))

    def lines_at(self, positions: Sequence[int]) -> dict[int, bytes]:
        """The results at some positions."""
        found: dict[int, bytes] = {}
        for position in positions:
            line = self._value("SELECT text FROM rows JOIN lines ON number = line WHERE position = ?", None, position)
            if line is not None:
                found[position] = line
        return found

    def lines(self, states: Sequence[Ending], after: int) -> list[Line]:
        """A block of results in order of position."""
        found = self._execute(_LINES, (after, states[0], states[-1]))
        return list(_block(map(Line._make, found)))

    def settled(self, after: int) -> list[Settled]:
        """A block of results in order of number."""
        found = self._execute("SELECT number, state, text FROM lines WHERE number > ? AND state NOT NULL", (after,))
        return list(_block(map(Settled._make, found)))

    def trace(self, after: int, through: int) -> Trace:
        """What tells the results between two positions, and their order, from any others."""
        return Trace(*self._execute(_TRACE, (after, through)).fetchone())

    def _value(self, statement: str, default: Any, *parameters: Any) -> Any:
        row = self._execute(statement, parameters).fetchone()
        return default if row is None or row[0] is None else row[0]


def duplicate(row_id: str, first: int, second: int) -> DuplicateRowError:
    """The error of an id that stands at two positions of one input."""
    return DuplicateRowError(f"the id {row_id!r} is that of the rows at {first} and at {second}, counted from 0")


def _block(found: Iterator[Result]) -> Iterator[Result]:
    size = 0
    for row in islice(found, BLOCK):
        yield row
        size += len(row[-1])
        if size >= BLOCK_BYTES:
            return
