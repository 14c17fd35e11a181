"""One stage in one process: starts requests when they are due, until it is over.

All runs on one event loop, and nothing of it per event but `Meter.take`. What starts requests in an open loop is a
timer's callback and no task: each change of tasks would add to how late they are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from .alarm import Alarm
from .asker import Asker, Send
from .lag import LagMeter, most_open_files, peak_memory_bytes
from .loads import Closed, cap_of, check, due
from .meter import Meter
from .moments import Moments
from .patience import Patience
from .progress import Progress
from .prompts import Prompts
from .recording import Client, Ending, Stage, StageRecord

_NS = 1_000_000_000
_EARLY_S = 0.002  # before the first request is due: event loops wait up to a millisecond too long
_MOST_AT_ONCE = 256  # requests of an open loop that one turn of the event loop starts
_MOST_HELD = 200_000  # that wait for a place under the cap: 100 MB, and far more than any answer will come for
_FILES_BESIDE = 64  # open files that are no connections of the run


class StageRun:
    """One stage in one process.

    Args:
        stage: What to do.
        prompts: What to ask.
        send: Makes the streams.
        origin: The start of the run, by `time.monotonic_ns`.
        position: Of the stage in the run.
        worker, workers: Which process this is, of how many.
        raw: Whether to keep the moment of each read with output.
        patience: When to give it up.
        connections: Tells how many connections have been opened so far.
        meter: Makes what times a request, from the arguments of `Meter`.
    """

    def __init__(
        self,
        stage: Stage,
        prompts: Prompts,
        send: Send,
        *,
        origin: int | None = None,
        position: int = 0,
        worker: int = 0,
        workers: int = 1,
        raw: bool = False,
        patience: Patience | None = None,
        connections: Callable[[], int] = lambda: 0,
        meter: Callable[..., Meter] = Meter,
    ) -> None:
        check(stage.load, stage.until)
        self._stage = stage
        self._worker, self._workers = worker, workers
        self._patience = patience or Patience()
        self._connections = connections
        self._origin = time.monotonic_ns() if origin is None else origin
        self._record = StageRecord(stage, position)
        self._client = Client(worker)
        self._asker = Asker(self._record, self._client, prompts, send, self._origin, raw=raw, meter=meter)
        self._tasks: dict[asyncio.Task[None], Moments | None] = {}  # with the request that an open loop started it for
        self._held: deque[Moments] = deque()
        self._over: asyncio.Future[None] | None = None
        self._ending: Ending | None = None
        self._has_all_started = False
        self._last_start: int | None = None  # no request of a closed loop is started after it
        self._next_number = worker

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._asker.progress

    async def run(self, begin: int | None = None) -> StageRecord:
        """Run the stage to its end. Cancelling ends what is running, and leaves no task behind.

        Args:
            begin: When the schedule begins, by `time.monotonic_ns`. `None` is now.
        """
        until = self._stage.until
        files = most_open_files() - _FILES_BESIDE
        before = self._connections()
        lag = LagMeter(self._origin)
        self._over = asyncio.get_running_loop().create_future()
        self._record.began = self._asker.now() if begin is None else begin - self._origin
        await asyncio.sleep(max(0, self._record.began - self._asker.now()) / _NS - _EARLY_S)
        lag.start()
        self._asker.last_success = self._record.began
        if until.duration_s is not None:
            self._last_start = self._record.began + round(until.duration_s * _NS)
        alarm = Alarm()
        self._client.is_precise = alarm.is_precise
        try:
            if isinstance(self._stage.load, Closed):
                self._start_lanes()
            else:
                self._start_arrivals(alarm, files)
            await self._wait(until.duration_s)
            if not self._over.done() and self._ending is None:
                await self._wait(until.drain_s)
            if self._over.done():
                await self._over
        finally:
            alarm.close()
            await self._cut_off()
            self._client.lag = lag.stop()
        self._leave_unsent()
        self._record.ending = self._ending or self._natural_ending()
        self._record.ended = self._asker.now()
        self._client.connections = self._connections() - before
        self._client.peak_memory = peak_memory_bytes()
        self._record.clients.append(self._client)
        return self._record

    def stop(self, ending: Ending = "stopped") -> None:
        """End it: start nothing any more, and cut off what is running. What was measured is kept."""
        if self._ending is None:
            self._ending = ending
        self._asker.is_stopping = True
        self._has_all_started = True
        self._finish()

    # Closed loops

    def _start_lanes(self) -> None:
        load, until = self._stage.load, self._stage.until
        assert isinstance(load, Closed)
        lanes = load.lanes(self._worker, self._workers)
        left = None if until.requests is None else load.share_of(until.requests, self._worker, self._workers)
        numbers = (
            iter(range(self._worker, self._worker + self._workers * left, self._workers)) if left is not None else None
        )
        self._client.cap = len(lanes)
        for lane, offset in lanes:
            self._begin(self._lane(lane, self._record.began + offset, numbers))
        self._has_all_started = True
        self._ended_one()

    async def _lane(self, lane: int, begin: int, numbers: Iterator[int] | None) -> None:
        """One request after another. The next is due when the one before is over."""
        if (wait := begin - self._asker.now()) > 0:
            await asyncio.sleep(wait / _NS)
        free = self._asker.now()
        while self._ending is None and (self._last_start is None or free < self._last_start):
            number = self._number() if numbers is None else next(numbers, None)
            if number is None:
                return
            free = await self._asker.conversation(self._asker.due(number, free, lane)) or self._asker.now()
            self._give_up_if_dead()
            if self._asker.failures:  # what cannot be sent at all waits for nothing, and others would have no turn
                await asyncio.sleep(0)

    def _number(self) -> int:
        number = self._next_number
        self._next_number += self._workers
        return number

    # Open loops

    def _start_arrivals(self, alarm: Alarm, files: int) -> None:
        load = self._stage.load
        assert not isinstance(load, Closed)
        cap = self._client.cap = min(cap_of(load.cap, self._worker, self._workers), max(1, files))
        schedule = due(load, self._stage.until, self._worker, self._workers)
        began = self._record.began
        coming: list[tuple[int, int]] = []

        def start_those_due() -> None:
            """Start those whose moment has come, and set the alarm for the next."""
            for _ in range(_MOST_AT_ONCE):
                if self._ending is not None:
                    return
                if not coming:
                    following = next(schedule, None)
                    if following is None:
                        self._has_all_started = True
                        self._ended_one()
                        return
                    coming.append(following)
                number, offset = coming[0]
                if began + offset > self._asker.now():
                    alarm.set(self._origin + began + offset, start_those_due)
                    return
                coming.clear()
                self._arrive(self._asker.due(number, began + offset, None), cap)
            asyncio.get_running_loop().call_soon(start_those_due)  # answers come in between

        start_those_due()

    def _arrive(self, moments: Moments, cap: int) -> None:
        """A request is due: start it, or hold it back."""
        if len(self._tasks) < cap and not self._held:
            self._begin(self._arrived(moments), moments)
            return
        moments.was_held_back = True
        self._held.append(moments)
        self._asker.progress.held_back = len(self._held)
        limit = self._patience.overrun_s
        is_long = limit is not None and self._asker.now() - self._held[0].scheduled > limit * _NS
        if is_long or len(self._held) >= _MOST_HELD:
            self.stop("overrun")

    async def _arrived(self, moments: Moments) -> None:
        await self._asker.conversation(moments)
        self._give_up_if_dead()

    # Both

    def _begin(self, work: Coroutine[Any, Any, None], moments: Moments | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = moments
        task.add_done_callback(self._ended_task)
        self._client.peak_running = max(self._client.peak_running, len(self._tasks))

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        moments = self._tasks.pop(task)
        if moments is not None and moments.dispatched is None:  # cut off before it ran
            self._record.requests.append(moments)
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._over is not None and not self._over.done():
                self._over.set_exception(error)  # a bug: failures of requests end no task
            return
        if self._held and self._ending is None:
            following = self._held.popleft()
            self._begin(self._arrived(following), following)
            self._asker.progress.held_back = len(self._held)
        self._ended_one()

    def _ended_one(self) -> None:
        if self._has_all_started and not self._tasks and not self._held:
            self._finish()

    def _finish(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _give_up_if_dead(self) -> None:
        patience, asker = self._patience, self._asker
        if asker.failures >= patience.failures and asker.now() - asker.last_success > patience.failing_s * _NS:
            self.stop("dead")

    async def _wait(self, seconds: float | None) -> None:
        """Until it is over, or so many seconds."""
        assert self._over is not None
        await asyncio.wait([self._over], timeout=seconds)

    async def _cut_off(self) -> None:
        """End what is running."""
        self._has_all_started = True
        if self._ending is None and self._tasks:
            self._ending = self._natural_ending()  # so that nothing that was held back begins now
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leave_unsent(self) -> None:
        """What was due, and could not be sent before the end."""
        for moments in self._held:
            self._record.requests.append(moments)
        self._held.clear()

    def _natural_ending(self) -> Ending:
        until = self._stage.until
        if self._last_start is not None and self._asker.now() >= self._last_start:
            return "duration"
        return "requests" if until.requests is not None else "schedule"
