"""A run over several processes: one for each core, each with its own loop, engine and connections.

Nothing goes between them and the one that asked for the run while requests run, but counts for the live view. The
processes of a machine have one clock, work out the same schedule and take their shares of it, so what comes back adds
up to what one process with enough hands would have measured.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

from ..errors import ConfigurationError
from .hand import ClockOffset, Hand, HandLostError
from .plan import Plan
from .progress import Progress
from .recording import Lost, Recording, Stage, StageRecord
from .worker_process import WorkerProcess

_MOST = 1000  # processes; each has a core to itself, and 60 MB
_LEAD_NS = 20_000_000  # from the order to begin to the beginning: what a pipe and a busy loop take


class Workers:
    """A crew of processes.

    Args:
        plan: What each of them gets.
        count: How many. ``"auto"`` is one for each core this process may use.
    """

    def __init__(self, plan: Plan, count: int | Literal["auto"] = "auto") -> None:
        if count != "auto" and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ConfigurationError(f"workers= is a number from 1, or 'auto', not {count!r:.80}")
        if count != "auto" and count > _MOST:
            raise ConfigurationError(f"workers= is at most {_MOST:,}, not {count!r:.80}")
        self._plan = plan
        self._count: int | Literal["auto"] = count
        self._hands: list[Hand] = []

    async def start(self) -> None:
        """Start them, and wait until each is ready.

        Raises:
            ModelEngineError: The plan does not work, as `MeasuredEngine` says.
            ChildProcessError: A process did not start.
        """
        try:
            await self._hire()
            await asyncio.gather(*map(self._begin, self._hands))
        except BaseException:
            await self.close()
            raise

    async def run(self, stage: Stage, position: int, origin: int) -> StageRecord:
        """Run a stage in all of them, begun at the same moment.

        When one of them is lost the others are stopped, since a part of a schedule is another load, and the record is
        what they have measured; it says who was lost.
        """
        clocks = await asyncio.gather(*map(_clock_of, self._hands))
        begin = time.monotonic_ns() + self._lead_ns(clocks)
        parts = [self._part(*each, stage, position, origin, begin) for each in zip(self._hands, clocks)]
        recordings, lost = [], []
        for part in await asyncio.gather(*parts):
            if isinstance(part, Lost):
                lost.append(part)
            else:
                recordings.append(Recording(0.0, [part]))
        now = time.monotonic_ns() - origin
        whole = Recording.merged(recordings).stages[0] if recordings else StageRecord(stage, position, now, now)
        if lost:
            whole.lost, whole.ending = lost, "lost"
        return whole

    def stop(self) -> None:
        for hand in self._hands:
            hand.stop()

    def progress(self) -> Progress:
        """The sum of what they last told, a quarter of a second ago at most."""
        whole = Progress()
        for hand in self._hands:
            for each in fields(Progress):
                setattr(whole, each.name, getattr(whole, each.name) + getattr(hand.progress, each.name))
        return whole

    async def close(self) -> None:
        """End them. Twice is harmless."""
        hands, self._hands = self._hands, []
        await asyncio.gather(*(hand.close() for hand in hands))

    async def _hire(self) -> None:
        """Fill `_hands`, one by one, so that those that are there are ended when the next fails."""
        count = cores() if self._count == "auto" else self._count
        for number in range(count):
            self._hands.append(_LocalHand(number, await WorkerProcess.started()))

    async def _begin(self, hand: Hand) -> None:
        """Have a process take up the plan."""
        count = len(self._hands)
        mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        core = mine[hand.number] if hand.host is None and count == len(mine) else None
        try:
            await hand.ask("start", self._plan, hand.number, count, core)
        except HandLostError as gone:
            raise HandLostError(f"process {hand.number} of the run was lost: {gone}") from None
        hand.is_ready = True

    async def _part(
        self, hand: Hand, clock: ClockOffset, stage: Stage, position: int, origin: int, begin: int
    ) -> StageRecord | Lost:
        """What one of them measures, on the time axis of this process."""
        hand.progress = Progress()  # not that of the stage before
        try:
            there = (origin + clock.offset_ns, begin + clock.offset_ns)
            record: StageRecord = await hand.ask("run", stage, position, *there)
            error_ns = clock.error_until(await hand.clock())
        except HandLostError as gone:
            self.stop()
            done = hand.progress.completed + hand.progress.failed
            return Lost(hand.number, hand.host, str(gone), done)
        for client in record.clients:
            client.host, client.clock_error = hand.host, error_ns
        return record

    def _lead_ns(self, clocks: Sequence[ClockOffset]) -> int:
        """From the order to begin to the beginning."""
        return _LEAD_NS


async def _clock_of(hand: Hand) -> ClockOffset:
    try:
        return await hand.clock()
    except HandLostError:  # which it is told once more when it is to run
        return ClockOffset()


class _LocalHand(Hand):
    """A process of this machine."""

    def __init__(self, number: int, process: WorkerProcess) -> None:
        super().__init__(number)
        self._process = process

    async def clock(self) -> ClockOffset:
        return ClockOffset()

    async def close(self) -> None:
        await self._process.close(at_once=not self.is_ready)

    def post(self, data: bytes) -> None:
        self._process.write(data)

    async def send(self, data: bytes) -> None:
        self._process.write(data)
        await self._process.drain()

    async def receive(self) -> bytes:
        return await self._process.read()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
