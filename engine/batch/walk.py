"""The input walked along the journal: which record is whose, also where rows have moved, come or gone.

Records before the place that the walk has reached are all claimed: a record is moved to where its row stands now,
and one that is passed without its row gets a position below 0, where it waits. So an id that is found before that
place has come twice, no list of what was seen is kept, and the positions at 0 and above are those of this input.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter

from .ledger import RECORD, duplicate, to_record
from .records import Record

_row_of = itemgetter(0, 1)  # position and id
_BETWEEN = f"SELECT {RECORD} FROM rows WHERE position >= ? AND position <= ?"
_BY_ID = f"SELECT {RECORD} FROM rows WHERE id = ?"
_MOVE = "UPDATE rows SET position = ? WHERE position = ?"
_RETIRE = "UPDATE rows SET position = ? - position WHERE position >= ?"


class Walk:
    """One walk through the input.

    Args:
        connection: To a journal, without transactions of its own.

    Attributes:
        unclaimed: How many records have not met their row. At 0 there is nothing left to find.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._move_all = connection.executemany
        self.unclaimed = 0
        self._place = 0  # every position before it is done with
        self._lowest = 0  # position of a record
        self.begin()

    def begin(self) -> None:
        """Start again at position 0, with nothing claimed."""
        self._place = 0
        self.unclaimed = self._execute("SELECT count(*) FROM rows").fetchone()[0]
        self._lowest = min(0, self._execute("SELECT min(position) FROM rows").fetchone()[0] or 0)

    def find(self, rows: Sequence[tuple[int, str]]) -> list[Record | None]:
        """The records of the next rows, each at the position of its row.

        Raises:
            DuplicateRowError: An id has come before. Nothing was moved.
            ValueError: A position has been passed already, or the positions do not grow.
        """
        if not rows:
            return []
        last = rows[-1][0]
        here = list(map(to_record, self._execute(_BETWEEN, (self._place, last))))
        found: list[Record | None] = [*here] if list(map(_row_of, here)) == list(rows) else self._sort_out(rows, here)
        self._place = last + 1
        self.unclaimed -= len(found) - found.count(None)
        return found

    def retire(self) -> int:
        """End the walk: the records that it did not reach wait below 0 as well.

        Returns:
            How many records have no row.
        """
        if self.unclaimed:
            self._execute(_RETIRE, (self._lowest - 1 + self._place, self._place))
        return self.unclaimed

    def _sort_out(self, rows: Sequence[tuple[int, str]], here: Sequence[Record]) -> list[Record | None]:
        known = {record.id: record for record in here}
        places: dict[str, int] = {}  # of the ids of this block
        matched: list[tuple[int, Record | None]] = []
        last = self._place - 1
        for position, row_id in rows:
            if position <= last:
                raise ValueError(f"position {position} comes after {last}: the input is walked once, from its start")
            last = position
            record = known.get(row_id) or self._by_id(row_id)
            first = places.get(row_id, record.position if record and 0 <= record.position < self._place else None)
            if first is not None:
                raise duplicate(row_id, first, position)
            places[row_id] = position
            matched.append((position, record))
        return self._move(matched, [record.position for record in here if places.get(record.id) != record.position])

    def _by_id(self, row_id: str) -> Record | None:
        row = self._execute(_BY_ID, (row_id,)).fetchone()
        return None if row is None else to_record(row)

    def _move(self, matched: Sequence[tuple[int, Record | None]], misplaced: Sequence[int]) -> list[Record | None]:
        # What stands in the way leaves first, what moves within the block too: two may want each other's place.
        away = {position: self._lowest - nth for nth, position in enumerate(misplaced, 1)}
        self._lowest -= len(away)
        moved = [(to, away.get(record.position, record.position)) for to, record in matched if record]
        self._move_all(_MOVE, [(below, position) for position, below in away.items()])
        self._move_all(_MOVE, [(to, position) for to, position in moved if to != position])
        return [
            record and (record if record.position == to else record._replace(position=to)) for to, record in matched
        ]
