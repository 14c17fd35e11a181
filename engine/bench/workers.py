"""A run over several processes: one for each core, each with its own loop, engine and connections.

Nothing goes between them and the one that asked for the run while requests run, but counts for the live view. The
processes of a machine have one clock, work out the same schedule and take their shares of it, so what comes back adds
up to what one process with enough hands would have measured.

They are started with the interpreter that runs this, and not with `multiprocessing`, which would run the caller's main
module again in each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import sys
import time
from dataclasses import fields
from typing import Any, Literal

from ..errors import ConfigurationError
from .plan import Plan
from .progress import Progress
from .recording import Recording, Stage, StageRecord

LENGTH = struct.Struct("!Q")
_LEAD_NS = 20_000_000  # from the order to begin to the beginning: what a pipe and a busy loop take
_END_S = 5.0  # for a process to end by itself


class Workers:
    """A crew of processes.

    Args:
        plan: What each of them gets.
        count: How many. ``"auto"`` is one for each core this process may use.
    """

    def __init__(self, plan: Plan, count: int | Literal["auto"] = "auto") -> None:
        if count != "auto" and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ConfigurationError(f"workers= is a number from 1, or 'auto', not {count!r:.80}")
        self._plan = plan
        self._count = cores() if count == "auto" else count
        self._workers: list[_Worker] = []

    def __len__(self) -> int:
        return self._count

    async def start(self) -> None:
        """Start them, and wait until each is ready.

        Raises:
            ModelEngineError: The plan does not work, as `MeasuredEngine` says.
            ChildProcessError: A process did not start.
        """
        cores_left = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        try:
            for number in range(self._count):
                core = cores_left[number] if self._count == len(cores_left) else None
                self._workers.append(await _Worker.started(number))
                await self._workers[-1].tell("start", self._plan, number, self._count, core)
            await asyncio.gather(*(worker.answer() for worker in self._workers))
        except BaseException:
            await self.close()
            raise

    async def run(self, stage: Stage, position: int, origin: int) -> StageRecord:
        """Run a stage in all of them, begun at the same moment.

        Raises:
            ChildProcessError: One of them has ended. What the others measured is lost with it: a part of a schedule is
                another load.
        """
        begin = time.monotonic_ns() + _LEAD_NS
        for worker in self._workers:
            await worker.tell("run", stage, position, origin, begin)
        records = await asyncio.gather(*(worker.answer() for worker in self._workers))
        whole = Recording.merged(Recording(0.0, [record]) for record in records)
        return whole.stages[0]

    def stop(self) -> None:
        for worker in self._workers:
            worker.write("stop")

    def progress(self) -> Progress:
        """The sum of what they last told, a quarter of a second ago at most."""
        whole = Progress()
        for worker in self._workers:
            for each in fields(Progress):
                setattr(whole, each.name, getattr(whole, each.name) + getattr(worker.progress, each.name))
        return whole

    async def close(self) -> None:
        """End them. Twice is harmless."""
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.close() for worker in workers))


class _Worker:
    """One process, as the one that asked for the run sees it."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.progress = Progress()
        self._number = number
        self._process = process

    @classmethod
    async def started(cls, number: int) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock.engine.bench.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(number, process)

    def write(self, *message: Any) -> None:
        """Tell it something, for which nobody waits."""
        assert self._process.stdin is not None
        data = pickle.dumps(message)
        self._process.stdin.write(LENGTH.pack(len(data)) + data)

    async def tell(self, *message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it is gone, which `answer` says
            self.write(*message)
            await self._process.stdin.drain()

    async def answer(self) -> Any:
        """What it says next that is no progress. What failed there is raised here."""
        assert self._process.stdout is not None
        while True:
            try:
                size = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))[0]
                kind, value = pickle.loads(await self._process.stdout.readexactly(size))
            except asyncio.IncompleteReadError:
                code = await self._process.wait()
                raise ChildProcessError(f"process {self._number} of the run has ended with code {code}") from None
            if kind == "failed":
                raise value
            if kind != "progress":
                return value
            self.progress = value

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_S)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
