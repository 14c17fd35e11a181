"""One run of a batch: rows come in, lanes send them, results go out.

    source -> Feed -> find -> intend -> lanes -> settle -> Outlet -> consumer
                                          ^         |
                                          +- wait --+

A fixed number of tasks, whatever the number of rows. Everything between the source and the consumer counts against one
window: when it is full, nothing is read. So a consumer that stops stops the source, and a row that takes long holds
back, in order, no more than the window.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from penstock.middleware.policy import Ambiguous, may_have_run

from ..clock import Clock
from ..errors import BadRowError, DuplicateRowError, EngineStateError, JournalError, ModelEngineError, NoWorkersError
from ..gateways import Gateway
from ..types import Attempt
from .counters import BatchProgress, Counters
from .errands import Outcome, Prepared
from .feed import Feed, Rows
from .journal import Journal
from .keeping import Book, Errand, Found, Memory, never_ran
from .outlet import Outlet
from .records import Settlement
from .results import BatchResult
from .row_retry import RowRetry
from .rows import BatchRow
from .runner import Runner
from .waiting import WaitingRoom

if TYPE_CHECKING:
    from ..model_engine import PreparedCall

_WINDOW = 4  # rows in the pipeline for each that can be sent: room for results that nobody has taken yet
_ORDERED_WINDOW = 16  # as many more as may finish while the first of them runs
_LEAST_WINDOW = 256  # rows; the journal is asked for blocks of them
_INTENDS = 2  # blocks of rows that are being written down at once: one is committed while another gathers


class Pipeline:
    """Takes rows through a batch once.

    Args:
        source: Where rows come from.
        prepare: Encodes a row, or raises why it cannot be sent.
        runner: Who makes the calls.
        keeper: What is known and kept of rows.
        journal: Where results are written down. `None` keeps none.
        gateway: What reads answers.
        retry: When a failed row is tried again.
        ambiguous: What to do when a request may have run, the rule of the engine.
        row_deadline: Seconds for a row, from its first call, over all calls and waits. `None` is no bound.
        is_ordered: Whether results leave in the order of their rows.
        clock: Where time comes from.
    """

    def __init__(
        self,
        source: Rows,
        *,
        prepare: Callable[[BatchRow], PreparedCall],
        runner: Runner,
        keeper: Memory | Book,
        journal: Journal | None,
        gateway: Gateway,
        retry: RowRetry,
        ambiguous: Ambiguous,
        row_deadline: float | None,
        is_ordered: bool,
        clock: Clock,
    ) -> None:
        self.counters = Counters()
        self.failure: BaseException | None = None
        """What stopped the run. `None` while nothing has."""
        self.is_complete = False
        """Whether all of the input was gone through."""
        self.absent: int | None = None
        """Rows of the journal that the input does not have, once all was read. `None` before, and without a journal."""
        self._feed = Feed(source)
        self._prepare = prepare
        self._runner = runner
        self._keeper = keeper
        self._journal = journal
        self._gateway = gateway
        self._retry = retry
        self._ambiguous: Ambiguous = ambiguous
        self._row_deadline = row_deadline
        self._window = _ORDERED_WINDOW if is_ordered else _WINDOW
        self._clock = clock
        self._started = clock.monotonic()
        self._ended: float | None = None
        self._outlet = Outlet(is_ordered=is_ordered)
        self._position = 0  # of the next row
        self._number = 0  # of the next row
        self._inside = 0  # rows read whose result nobody has taken
        self._unsettled = 0  # rows read that have no result yet
        self._found: deque[Errand] = deque()  # to be sent, and not yet written down
        self._ready: deque[Errand] = deque()  # may be sent
        self._intends: set[asyncio.Task[None]] = set()
        self._intending = 0  # rows that are being written down
        self._in_flight: dict[int, Errand] = {}
        self._waiting: WaitingRoom[Errand] = WaitingRoom(clock)
        self._is_fed = False  # all that is to be sent was written down
        self._has_ended = False  # nothing more is read
        self._is_draining = False
        self._idle: deque[asyncio.Future[None]] = deque()  # lanes that have nothing to send
        self._need: asyncio.Future[None] | None = None  # while the feeding waits to be needed
        self._lanes: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def progress(self) -> BatchProgress:
        """How far it is."""
        return self.counters.progress(
            in_flight=len(self._in_flight),
            queued=len(self._found) + len(self._ready),
            waiting=len(self._waiting),
            seconds=(self._clock.monotonic() if self._ended is None else self._ended) - self._started,
            lanes=self._runner.lanes,
        )

    @property
    def has_ready(self) -> bool:
        """Whether the next result is there and needs no wait."""
        return self._outlet.has_ready

    def drain(self) -> None:
        """Send no more rows. What is in flight is finished and given out, but for what would be tried again; then the
        run ends. In order, what stands behind a row without a result is given out without it.
        """
        self._is_draining = True
        self._settle_up()

    async def results(self) -> AsyncGenerator[BatchResult, None]:
        """Run, and give out results as they come. Closing it early ends what is in flight.

        Raises:
            BaseException: What stopped the run, after the results of all that was in flight then.
        """
        try:
            await self._runner.start()
            self._tasks = [asyncio.ensure_future(self._guarded(work)) for work in (self._fill, self._bring_back)]
            self._open_lanes()
            while (result := await self._take()) is not None:
                self._inside -= 1
                yield result
                if self._need is not None:
                    self._ask()
            if self.failure is not None:
                raise self.failure
        finally:
            await self._close()

    def stop(self, failure: BaseException) -> None:
        """End the run with an error: what is in flight is finished first."""
        if self.failure is None:
            self.failure = failure
        self.drain()

    def _end_with(self, failure: BaseException) -> None:
        """Read no more, and end the run with an error when all that was read has its result."""
        if self.failure is None:
            self.failure = failure
        self._has_ended = True

    async def _take(self) -> BatchResult | None:
        while True:
            try:
                result = await self._outlet.take()
            except ModelEngineError as error:
                self._abort(error)  # the journal fails: what is in flight could not be written down
                continue
            if result is not None:
                self.counters.count(result)
            return result

    async def _guarded(self, work: Callable[[], Any]) -> None:
        """What fails in a task of the run fails the run."""
        try:
            await work()
        except Exception as failure:
            self.stop(failure)

    # Reading

    async def _fill(self) -> None:
        """Keep the lanes supplied, until the source ends."""
        while not self._is_draining:
            wanted = self._wanted()
            if wanted > 0 and self._found and len(self._intends) < _INTENDS:
                self._begin_to_intend([self._found.popleft() for _ in range(min(wanted, len(self._found)))])
            elif self._has_ended:
                if not self._found:
                    break
                await self._need_arises()
            elif wanted > 0 and (room := self._room()) > 0:
                await self._read(room)
            else:
                await self._need_arises()
        if self._intends:
            await asyncio.wait(self._intends)
        if self._journal is not None and not self._is_draining and self.failure is None:
            self.absent = await self._journal.retire()
        self._is_fed = True
        self._settle_up()

    def _wanted(self) -> int:
        """Rows that may be written down now: as many as lanes wait for, and a supply where that does no harm."""
        lanes = self._runner.lanes * self._runner.rows_a_lane
        ahead = lanes if self._keeper.keeps_ahead else 0
        return len(self._idle) * self._runner.rows_a_lane + ahead - len(self._ready) - self._intending

    def _room(self) -> int:
        """Rows that may be read now."""
        rows = self._runner.lanes * self._runner.rows_a_lane
        return max(_LEAST_WINDOW, self._window * rows) - self._inside

    async def _need_arises(self) -> None:
        self._need = asyncio.get_running_loop().create_future()
        try:
            await self._need
        finally:
            self._need = None

    def _ask(self) -> None:
        """Wake the feeding when there is work for it: not for each row while the lanes have enough."""
        if self._need is None or self._need.done():
            return
        if not self._is_draining:
            if len(self._intends) == _INTENDS:
                return
            supply = self._wanted()
            least = 1 if self._idle else max(1, self._runner.lanes // 2)
            if supply < least or not (self._found or self._has_ended or self._room() > 0):
                return
        self._need.set_result(None)

    async def _read(self, most: int) -> None:
        try:
            items = await self._feed.take(most)
        except Exception as failure:
            self._end_with(failure)
            return
        self._has_ended = self._has_ended or not items
        refused: list[tuple[int, BatchResult]] = []  # rows that cannot be sent
        errands = [errand for item in items if (errand := self._errand(item, refused)) is not None]
        try:
            found = await self._keeper.find(errands)
        except DuplicateRowError as duplicate:
            found = Found([], [], [], duplicate)
        for row_id in found.in_doubt:
            self.counters.in_doubt.add(row_id)
        for number, result in sorted([*refused, *found.results], key=itemgetter(0)):
            self._unsettled -= 1
            self._outlet.put(number, result)
        self._found.extend(found.errands)
        if found.stop is not None:
            self._leave(len(errands) - len(found.errands) - len(found.results))
            self._end_with(found.stop)

    def _errand(self, item: Any, refused: list[tuple[int, BatchResult]]) -> Errand | None:
        """The row of an item, encoded. `None` when it cannot be sent: then its result is among the refused."""
        position, number = self._position, self._number
        self._number += 1
        self._inside += 1
        self._unsettled += 1
        self.counters.read += 1
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

    def _begin_to_intend(self, errands: list[Errand]) -> None:
        """Have rows written down, while others are, and before they are sent."""
        self._intending += len(errands)
        intend = asyncio.ensure_future(self._guarded(partial(self._intend, errands)))
        self._intends.add(intend)
        intend.add_done_callback(self._intended)

    async def _intend(self, errands: list[Errand]) -> None:
        try:
            await self._keeper.intend(errands)
        finally:
            self._ready.extend(errands)  # also when the run ends meanwhile: then what was written down is taken back
            self._intending -= len(errands)
        self._call_lanes()

    def _intended(self, intend: asyncio.Task[None]) -> None:
        self._intends.discard(intend)
        self._ask()

    def _leave(self, rows: int) -> None:
        """So many rows leave without a result."""
        self._inside -= rows
        self._unsettled -= rows

    # Sending

    def _open_lanes(self) -> None:
        for _ in range(max(1, self._runner.lanes) - len(self._lanes)):
            lane = asyncio.ensure_future(self._guarded(self._lane))
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    def _call_lanes(self) -> None:
        """Wake as many lanes as there is work for, and open those that may be."""
        if len(self._ready) > len(self._idle):
            self._open_lanes()
        for _ in range(min(len(self._idle), len(self._ready))):
            lane = self._idle.popleft()
            if not lane.done():
                lane.set_result(None)

    async def _lane(self) -> None:
        """Send one row after another, until there are more lanes than there are to be."""
        while True:
            errands = self._next_errands()
            if not errands:
                idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                self._ask()
                await idle
                continue
            try:
                await self._runner.run([self._prepared(errand) for errand in errands], self._done)
            finally:
                for errand in errands:  # of those that have an outcome none is left
                    self._in_flight.pop(errand.number, None)
            lanes = self._runner.lanes
            if len(self._lanes) > max(1, lanes):
                # At once: others that end their run in this turn of the loop must not count this one.
                self._lanes.discard(asyncio.current_task())
                return
            if len(self._lanes) < lanes:
                self._open_lanes()

    def _next_errands(self) -> list[Errand]:
        if self._is_draining:
            return []
        most = min(self._runner.rows_a_lane, len(self._ready))
        errands = [self._ready.popleft() for _ in range(most)]
        if self._need is not None:
            self._ask()
        return errands

    def _prepared(self, errand: Errand) -> Prepared:
        errand.calls += 1
        self._in_flight[errand.number] = errand
        return Prepared(errand.number, errand.call, errand.key, self._time_left(errand))

    def _time_left(self, errand: Errand) -> float | None:
        if self._row_deadline is None:
            return None
        now = self._clock.monotonic()
        if errand.due is None:
            errand.due = now + self._row_deadline
        return max(errand.due - now, 0.001)  # a deadline has to be positive, and none to be had ends the call at once

    def _done(self, prepared: Prepared, outcome: Outcome) -> None:
        """A call is over: its row has its result, or waits to be tried again."""
        errand = self._in_flight.pop(prepared.token, None)
        if errand is None:
            return  # the run has been given up meanwhile
        error = outcome.error
        errand.attempts.extend(outcome.attempts)
        self.counters.count_call(len(outcome.attempts))
        errand.may_have_run |= error is None or bool(outcome.attempts and not never_ran(error, outcome.attempts))
        if isinstance(error, (EngineStateError, NoWorkersError)):
            self._ready.append(errand)  # it goes with those that were not sent, or stays in doubt
            self.stop(error)
            return
        if error is not None and self._goes_back(errand, error):
            self._settle_up()  # a run that drains does not wait for it: it has not failed for good
            return
        self._settle(errand, outcome)

    def _goes_back(self, errand: Errand, error: ModelEngineError) -> bool:
        left = None if errand.due is None else errand.due - self._clock.monotonic()
        decision = self._retry.decide(
            error, errand.calls, is_keyed=errand.is_keyed, ambiguous=self._ambiguous, time_left=left
        )
        if errand.attempts:
            errand.attempts[-1].why = f"{errand.attempts[-1].why or ''}; row: {decision.why}".lstrip("; ")
        if decision.again:
            errand.is_doubtful |= may_have_run(error) and not errand.is_protected
            self.counters.row_retries += 1
            self._waiting.add(errand, decision.wait)
        return decision.again

    async def _bring_back(self) -> None:
        """Rows whose wait is over go before those that have not been sent yet."""
        while True:
            self._ready.appendleft(await self._waiting.next())
            self._call_lanes()

    def _settle(self, errand: Errand, outcome: Outcome) -> None:
        error = outcome.error
        here = errand.attempts if errand.was_in_doubt else outcome.attempts  # what came after the one in doubt
        is_ran_twice = errand.is_doubtful and (error is None or not never_ran(error, here))
        attempts = _numbered(errand.attempts)
        if error is not None:
            error.attempts, error.row_id = attempts, errand.row.id
        result = BatchResult(
            errand.row,
            outcome.body,
            error,
            attempts,
            errand.key,
            is_ran_twice or any(attempt.possibly_duplicated for attempt in attempts),
            False,
            outcome.status,
            outcome.request_id,
            outcome.governance,
            outcome.usage,
            self._gateway,
            self._journal is not None,
        )
        committed = None
        if self._journal is not None:
            settlement = Settlement(errand.row.position, "done" if error is None else "failed", result.line())
            committed = self._journal.settle(settlement)
        self._unsettled -= 1
        self._outlet.put(errand.number, result, committed)
        if self._unsettled <= 0 or self._is_draining:
            self._settle_up()

    # Ending

    def _settle_up(self) -> None:
        """Close the outlet when nothing more can come."""
        if self._is_draining:
            if self._in_flight:
                return
        elif not self._is_fed or self._unsettled > 0:
            return
        else:
            self.is_complete = self.failure is None
        if self._ended is None:
            self._ended = self._clock.monotonic()
        self._outlet.close()

    def _abort(self, error: ModelEngineError) -> None:
        """End the run now: nothing can be written down any more."""
        if self.failure is None:
            self.failure = error
        self._is_draining = True
        for task in (*self._lanes, *self._tasks, *self._intends):
            task.cancel()
        self._in_flight.clear()
        self._outlet.close()

    async def _close(self) -> None:
        """End every task, and take back what was written down and not sent."""
        self._is_draining = True
        tasks = [*self._lanes, *self._tasks, *self._intends]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._outlet.drop()
        unsent = [*self._ready, *self._waiting.clear()]
        self._ready.clear()
        try:
            if unsent and not isinstance(self.failure, JournalError):
                await self._keeper.withdraw(unsent)
        finally:
            await self._runner.stop()
            await self._feed.aclose()


def _numbered(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """The attempts of several calls as one ledger."""
    for number, attempt in enumerate(attempts, 1):
        attempt.number = number
    return tuple(attempts)
