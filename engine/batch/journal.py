"""The journal of a batch: what is about to be sent, and what came of it, kept so that no crash can take it.

Here is what an event loop sees of it. The file belongs to a thread of its own: operations gather on the loop, the
thread takes what has gathered, commits it as one transaction and tells the loop once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, get_args

from ..errors import ConfigurationError, JournalError, copied
from .journal_file import JournalFile
from .journal_lock import writer_of
from .journal_writer import JournalWriter
from .records import Counts, Durability, Ending, Line, Record, Settled, Settlement, Trace, key_of

if TYPE_CHECKING:
    from typing_extensions import Self


class Journal:
    """A journal file, opened. Use `open`, not the constructor.

    One process writes a journal at a time, on one event loop; any number of others may read it meanwhile. Every
    method that waits raises `JournalWriteError` when the disk is full or fails, `JournalDamagedError` when the file
    turns out to be damaged. From then on nothing is accepted any more: each later call raises the same, and what
    was acknowledged before is in the file.

    Attributes:
        path: Of the file.
        id: Made with the file; the keys come out of it.
        is_new: Whether this `open` made the file.
        is_read_only: Whether it was opened for reading.
    """

    def __init__(self, is_read_only: bool, writer: JournalWriter, file: JournalFile) -> None:
        self.path = file.path
        self.id = file.id
        self.is_new = file.is_new
        self.is_read_only = is_read_only
        self._writer = writer
        self._file = file
        self._ledger = file.ledger
        self._walk = file.walk
        self._facts = file.facts

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], *, durability: Durability = "normal", read_only: bool = False
    ) -> Journal:
        """Open a journal, or make it where there is none.

        Args:
            path: The file, on a local disk. SQLite keeps two more beside it while it is open (``-wal``, ``-shm``),
                and the lock is a third (``.lock``). All are readable by their owner only.
            durability: See `Durability`.
            read_only: Take no lock and change nothing, for a look while another process writes. SQLite may leave its
                two files behind; who writes next removes them.

        Raises:
            JournalLockedError: Another process writes it, or this one does already.
            JournalVersionError: Another version of Penstock made it, in another form.
            JournalDamagedError: The file is no journal, or a damaged one.
            JournalWriteError: It cannot be made or written here.
            JournalError: There is none, and it was to be read only; or its folder is not there or not to be written
                to, or something is there that is no regular file.
            ConfigurationError: `durability` is none of the two, or Python's SQLite is older than 3.24 (June 2018).
        """
        if durability not in get_args(Durability):
            raise ConfigurationError(f"durability is 'normal' or 'full', not {durability!r}")
        if sqlite3.sqlite_version_info < (3, 24):
            raise ConfigurationError(f"a journal needs SQLite 3.24 or newer, and Python has {sqlite3.sqlite_version}")
        given = Path(path)
        writer = JournalWriter(given, partial(JournalFile, given, durability, read_only))
        return cls(read_only, writer, await writer.start())

    @property
    def writer(self) -> str | None:
        """Who writes it now, as text for a message: "process 1234". `None` when nobody does, who has died included."""
        return writer_of(self.path)

    @property
    def facts(self) -> Mapping[str, str]:
        """What was kept with `keep`: of the gateway, the model, the files published from it."""
        return MappingProxyType(self._facts)

    def key(self, row_id: str, fingerprint: bytes, generation: int = 0) -> str:
        """The idempotency key of a row, a UUID as text: always the same for the same row of the same journal."""
        return key_of(self.id, row_id, fingerprint, generation)

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Keep facts, all or none; a fact of the same name is replaced. Committed when it returns. No secrets."""
        self._refuse_if_read_only()
        await self._writer.call(self._ledger.keep, facts)
        self._facts |= facts

    async def rewind(self) -> None:
        """Begin to read the input from its start again. An opened journal has done so."""
        await self._writer.call(self._walk.begin)

    async def find(self, rows: Sequence[tuple[int, str]]) -> list[Record | None]:
        """What the journal knows of these rows of the input.

        The input is walked along the journal, so it is to be given in order and each row once, in blocks; about
        1,000 rows in a block cost least. A record whose row stands elsewhere now moves to the new position; one
        whose place another row has taken gets a position below 0 until its row comes. Past the last record of the
        journal a block costs next to nothing, and neither does it in a new journal.

        Args:
            rows: Position and id of each row, positions growing. Positions may be left out, not repeated.

        Returns:
            A record for each row, in the same order; `None` where the journal has none.

        Raises:
            DuplicateRowError: An id came before, in this walk. Nothing of the block was moved.
            ValueError: A position does not come after the one before it.
        """
        self._refuse_if_read_only()
        if not self._walk.unclaimed:
            return [None] * len(rows)  # whose id is there all the same, `intend` refuses
        return await self._writer.call(self._walk.find, rows)

    async def retire(self) -> int:
        """End a walk, once all rows of the input have been given to `find`.

        Records that the walk has not met get positions below 0, so that `lines` leaves them out.

        Returns:
            How many rows of the journal the input does not have.
        """
        self._refuse_if_read_only()
        return await self._writer.call(self._walk.retire)

    async def intend(self, records: Sequence[Record]) -> None:
        """Write down that these rows are about to be sent; when it returns that is committed, and they may be.

        A record that the journal has already, under the same position and id, is replaced, and its result, if there
        was one, is dropped. The state is ``keyed``, whatever the records say.

        Raises:
            DuplicateRowError: An id stands at another position. None of the records was written.
            JournalError: Another row stands at a position, so `find` was not asked. None was written.
        """
        self._refuse_if_read_only()
        await self._writer.call(self._ledger.intend, records)

    async def withdraw(self, positions: Sequence[int]) -> None:
        """Take back intents of rows that were certainly not sent, so that they are not in doubt later.

        Their state becomes ``new``; generation and fingerprint stay. Rows that are not ``keyed`` are left alone.
        """
        self._refuse_if_read_only()
        await self._writer.call(self._ledger.withdraw, positions)

    def settle(self, settlement: Settlement) -> asyncio.Future[None]:
        """Write down how a row ended; the result may be published when the future is done.

        Outcomes gather for some milliseconds and are committed together. They are held in memory until then, so
        wait for some of the futures when many are open. Cancelling the future does not take the outcome back.

        Raises:
            JournalError: In the future: the row is not ``keyed``.
        """
        self._refuse_if_read_only()
        return self._writer.give(self._ledger.settle, settlement)

    async def flush(self) -> None:
        """Wait until everything given so far is committed and, whatever the durability, on the disk."""
        await self._writer.call(_nothing)
        await self._writer.call(self._file.sync)  # after the commit of what it is to bring to the disk

    async def counts(self) -> Counts:
        """How many rows are in each state. Reads every record: about a second for 2 million."""
        return await self._writer.call(self._ledger.counts)

    async def in_doubt(self, limit: int = 100) -> list[Record]:
        """Rows that are keyed and have no result, in order of position, at most `limit` of them."""
        return await self._writer.call(self._ledger.in_doubt, limit)

    async def lines_at(self, positions: Sequence[int]) -> dict[int, bytes]:
        """The results of some rows, by position. Rows without one are left out."""
        return await self._writer.call(self._ledger.lines_at, positions)

    async def lines(
        self, *, states: Sequence[Ending] = ("done", "failed"), after: int = -1
    ) -> AsyncIterator[list[Line]]:
        """The results in input order, in blocks of about a megabyte.

        After `retire` they are those of rows that this input has; before it, those that the walk has not come upon
        are among them, at their old positions.

        Args:
            states: Which results.
            after: Begin behind this position.
        """
        while block := await self._writer.call(self._ledger.lines, states, after):
            yield block
            after = block[-1].position

    async def trace(self, after: int, through: int) -> Trace:
        """What tells the results behind one position, up to another, from any others; see `Trace`."""
        return await self._writer.call(self._ledger.trace, after, through)

    async def settled(self, *, after: int = 0) -> AsyncIterator[list[Settled]]:
        """The results in the order they were committed, in blocks of about a megabyte.

        Ends with what is committed when it gets there; call it again with the last number for what came since.
        """
        while block := await self._writer.call(self._ledger.settled, after):
            yield block
            after = block[-1].number

    async def check(self) -> None:
        """Read the whole file and compare all of it, which takes about a second for 500 MB.

        Raises:
            JournalDamagedError: It says where.
        """
        await self._writer.call(self._file.check)

    async def close(self, *, leave_empty: bool = True) -> None:
        """Commit what was given, and let go of the file. Twice is harmless.

        Args:
            leave_empty: Whether a file that was made by this `open` stays when it has got no row.

        Raises:
            JournalWriteError: What was given last could not be committed. What failed before is not told again.
        """
        was_sound = self._writer.failure is None
        self._file.leaves_empty = leave_empty
        await self._writer.stop()
        if was_sound and self._writer.failure is not None:
            raise copied(self._writer.failure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._writer.is_stopped else "failed" if self._writer.failure else "open"
        return f"<Journal {str(self.path)!r} {state}>"

    def __del__(self) -> None:
        writer: JournalWriter | None = getattr(self, "_writer", None)
        if writer is not None and not writer.is_stopped:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            writer.request_stop()

    def _refuse_if_read_only(self) -> None:
        if self.is_read_only:
            raise JournalError(f"the journal {str(self.path)!r} was opened for reading")


def _nothing() -> None:
    """Work that is done when all before it is."""
