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
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from penstock.middleware.policy import Ambiguous

from ..clock import Clock
from ..errors import BatchError, JournalError, ModelEngineError
from ..gateways import Gateway
from .counters import BatchProgress, Counters
from .course import Course
from .endings import Endings
from .feed import Feed, Rows
from .intake import Intake
from .journal import Journal
from .keeping import Book, Errand, Memory
from .lanes import Lanes
from .outlet import Outlet
from .results import BatchResult
from .row_retry import RowRetry
from .rows import BatchRow
from .runner import Runner
from .supply import Supply
from .waiting import WaitingRoom

if TYPE_CHECKING:
    from ..model_engine import PreparedCall


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
        self._feed = Feed(source)
        self._runner = runner
        self._keeper = keeper
        self._outlet = outlet = Outlet(is_ordered=is_ordered)
        self._course = course = Course(outlet, clock)
        self._supply = supply = Supply(course, runner, keeps_ahead=keeper.keeps_ahead, is_ordered=is_ordered)
        self._waiting: WaitingRoom[Errand] = WaitingRoom(clock)
        endings = Endings(
            course=course,
            supply=supply,
            outlet=outlet,
            waiting=self._waiting,
            journal=journal,
            gateway=gateway,
            retry=retry,
            ambiguous=ambiguous,
            clock=clock,
        )
        self._lanes = Lanes(
            runner,
            course=course,
            supply=supply,
            endings=endings,
            row_deadline=row_deadline,
            clock=clock,
            guard=self._guarded,
        )
        self._intake = Intake(
            self._feed,
            prepare=prepare,
            keeper=keeper,
            journal=journal,
            gateway=gateway,
            course=course,
            supply=supply,
            lanes=self._lanes,
            outlet=outlet,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ending = False  # whether its tasks are cancelled

    @property
    def counters(self) -> Counters:
        """What the run has counted."""
        return self._course.counters

    @property
    def is_complete(self) -> bool:
        """Whether all of the input was gone through, and nothing failed."""
        return self._course.is_complete and self._course.failure is None

    @property
    def absent(self) -> int | None:
        """Rows of the journal that the input does not have, once all was read. `None` before, and without a journal."""
        return self._intake.absent

    @property
    def progress(self) -> BatchProgress:
        """How far it is."""
        return self.counters.progress(
            in_flight=len(self._course.in_flight),
            queued=len(self._supply.found) + len(self._supply.ready),
            waiting=len(self._waiting),
            seconds=self._course.seconds,
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
        self._course.drain()

    def stop(self, failure: BaseException) -> None:
        """End the run with an error: what is in flight is finished first."""
        self._course.stop(failure)

    async def results(self) -> AsyncGenerator[BatchResult, None]:
        """Run, and give out results as they come. Closing it early ends what is in flight.

        Raises:
            BaseException: What stopped the run, after the results of all that was in flight then.
        """
        course = self._course
        try:
            await self._runner.start()
            self._tasks = [asyncio.ensure_future(self._guarded(work)) for work in (self._intake.fill, self._bring_back)]
            self._lanes.open()
            while (result := await self._take()) is not None:
                course.inside -= 1
                yield result
                self._supply.ask()
            if course.failure is not None:
                raise course.failure
        finally:
            await self._close()

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

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What fails in a task of the run fails the run; a cancellation that is not ours as well, or nobody would ever
        hear of the rows that were in it.
        """
        try:
            await work()
        except asyncio.CancelledError:
            if self._is_ending:
                raise
            self._course.stop(BatchError("the work of the batch was cancelled by something that it waited for"))
        except Exception as failure:
            self._course.stop(failure)

    async def _bring_back(self) -> None:
        """Rows whose wait is over go before those that have not been sent yet."""
        while True:
            self._supply.add_first(await self._waiting.next())
            self._lanes.call()

    def _abort(self, error: ModelEngineError) -> None:
        """End the run now: nothing can be written down any more."""
        self._course.fail(error)
        self._cancel_tasks()
        self._course.in_flight.clear()
        self._outlet.close()

    def _cancel_tasks(self) -> list[asyncio.Task[None]]:
        self._is_ending = self._course.is_draining = True
        tasks = [*self._lanes.tasks, *self._tasks]
        for task in tasks:
            task.cancel()
        return tasks

    async def _close(self) -> None:
        """End every task, and take back what was written down and not sent."""
        if tasks := self._cancel_tasks():
            await asyncio.wait(tasks)
        self._outlet.drop()
        unsent = [*self._supply.ready, *self._waiting.clear()]
        self._supply.ready.clear()
        try:
            if unsent and not isinstance(self._course.failure, JournalError):
                await self._keeper.withdraw(unsent)
        finally:
            await self._runner.stop()
            await self._feed.aclose()
