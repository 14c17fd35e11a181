"""Where rows come in: read, encoded, looked up in the journal, and written down before they are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ..errors import BadRowError, DuplicateRowError, ModelEngineError
from ..gateways import Gateway
from .course import Course
from .feed import Feed
from .journal import Journal
from .keeping import Book, Errand, Found, Memory
from .lanes import Lanes
from .outlet import Outlet
from .results import BatchResult
from .rows import BatchRow
from .supply import Supply

if TYPE_CHECKING:
    from ..model_engine import PreparedCall


class Intake:
    """Keeps the lanes of a run supplied, in one task.

    Args:
        feed: Where rows come from.
        prepare: Encodes a row, or raises why it cannot be sent.
        keeper: What is known and kept of rows.
        journal: Where results are written down. `None` keeps none.
        gateway: What reads answers.
        course: How the run stands.
        supply: Where the rows go.
        lanes: Who sends them.
        outlet: Where rows go that are not to be sent.

    Attributes:
        absent: Rows of the journal that the input does not have, once all was read. `None` before, and without a
            journal.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        prepare: Callable[[BatchRow], PreparedCall],
        keeper: Memory | Book,
        journal: Journal | None,
        gateway: Gateway,
        course: Course,
        supply: Supply,
        lanes: Lanes,
        outlet: Outlet,
    ) -> None:
        self.absent: int | None = None
        self._feed = feed
        self._prepare = prepare
        self._keeper = keeper
        self._journal = journal
        self._gateway = gateway
        self._course = course
        self._supply = supply
        self._lanes = lanes
        self._outlet = outlet
        self._position = 0  # of the next row
        self._number = 0  # of the next row

    async def fill(self) -> None:
        """Keep the lanes supplied, until the source ends."""
        course, supply = self._course, self._supply
        while not course.is_draining:
            wanted = supply.wanted
            if wanted > 0 and supply.found:
                await self._intend(supply.found_rows(wanted))
            elif supply.has_ended and not supply.found:
                break
            elif wanted > 0 and not supply.has_ended and (room := supply.room) > 0:
                await self._read(room)
            else:
                await supply.need()
        else:
            return  # what drains is not read to its end
        if self._journal is not None and course.failure is None:
            self.absent = await self._journal.retire()
        course.is_fed = True
        course.settle_up()

    async def _intend(self, errands: list[Errand]) -> None:
        """Have rows written down before they are sent. Lanes that become free meanwhile are the next block: one block
        at a time makes few and large ones, and it is their number that costs.
        """
        try:
            await self._keeper.intend(errands)
        finally:
            self._supply.add(errands)  # also when the run ends meanwhile: then what was written down is taken back
        self._lanes.call()

    async def _read(self, most: int) -> None:
        try:
            items = await self._feed.take(most)
        except Exception as failure:
            self._end_with(failure)
            return
        if not items:
            self._supply.has_ended = True
            return
        refused: list[tuple[int, BatchResult]] = []  # rows that cannot be sent
        errands = [errand for item in items if (errand := self._errand(item, refused)) is not None]
        try:
            found = await self._keeper.find(errands)
        except DuplicateRowError as duplicate:
            found = Found([], [], [], duplicate)
        for row_id in found.in_doubt:
            self._course.counters.in_doubt.add(row_id)
        for number, result in sorted([*refused, *found.results], key=itemgetter(0)):
            self._course.unsettled -= 1
            self._outlet.put(number, result)
        self._supply.found.extend(found.errands)
        if found.stop is not None:
            self._course.leave(len(errands) - len(found.errands) - len(found.results))
            self._end_with(found.stop)

    def _errand(self, item: Any, refused: list[tuple[int, BatchResult]]) -> Errand | None:
        """The row of an item, encoded. `None` when it cannot be sent: then its result is among the refused."""
        position, number = self._position, self._number
        self._number += 1
        self._course.inside += 1
        self._course.unsettled += 1
        self._course.counters.read += 1
        row: BatchRow | None = None
        try:
            if isinstance(item, BadRowError):
                raise item
            row = BatchRow.of(item, position)
            if row.position < position:
                row = replace(row, position=position)
            self._position = row.position + 1
            return Errand(row, self._prepare(row), number)
        except ModelEngineError as error:
            self._position = max(self._position, position + 1)
            error.__traceback__ = None
            if row is None:
                has_own_id = error.row_id is not None
                row = BatchRow(error.row_id or str(position), position, {}, has_own_id=has_own_id)
            error.row_id = row.id
            refused.append((number, BatchResult(row, error=error, gateway=self._gateway)))
            return None

    def _end_with(self, failure: BaseException) -> None:
        """Read no more, and end the run with an error when all that was read has its result."""
        self._course.fail(failure)
        self._supply.has_ended = True
