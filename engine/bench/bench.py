"""A run: stages one after another, in this process or over several, and what they have measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from ..model_engine import ModelEngine
from .alone import Alone
from .plan import Crew, Plan
from .progress import Progress
from .recording import Recording, Stage, StageRecord
from .search import Search, is_saturated
from .workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Self


class Bench:
    """Runs stages and records them.

    Args:
        plan: What to measure with.
        workers: Processes. ``"auto"`` is one for each core this process may use. 0 runs on the loop of the caller,
            whose own work then is in what is measured, and found as lag.
        engine: The caller's own, to be measured as it is, with its retries; on the loop of the caller. Moments are
            then those at which a read had been decoded, and nothing is known of connections.
        crew: Who runs stages, in place of all that.

    ::

        async with Bench(Plan({"model_or_config": "tiny", "base_url": url}, PromptList(["Hi."]))) as bench:
            recording = await bench.run([Stage(Closed(8), Until(requests=100))])
    """

    def __init__(
        self,
        plan: Plan,
        *,
        workers: int | Literal["auto"] = 0,
        engine: ModelEngine | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._crew: Crew
        if crew is not None:
            self._crew = crew
        elif workers == 0 or engine is not None:
            self._crew = Alone(plan, engine)
        else:
            self._crew = Workers(plan, workers)
        self._is_stopped = False
        self._origin = 0
        self.recording: Recording
        """What was measured so far."""
        self.running: Stage | None = None
        """The stage that runs."""

    @property
    def progress(self) -> Progress:
        """How far the stage that runs has come."""
        return self._crew.progress()

    async def __aenter__(self) -> Self:
        await self._crew.start()
        self._origin = time.monotonic_ns()
        self.recording = Recording(time.time())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._crew.close()

    async def run(self, stages: Sequence[Stage], *, until_saturated: bool = False) -> Recording:
        """Run stages in order. One that ended dead, lost a process or was stopped is the last.

        Args:
            stages: One after another; the next begins when all answers of the one before are over.
            until_saturated: Whether to leave out the rest of a sweep to higher and higher loads when it brings no
                more throughput.

        Returns:
            What was measured, in stages that were run before as well.
        """
        done: list[StageRecord] = []
        for stage in stages:
            if self._is_stopped:
                break
            done.append(await self.run_stage(stage))
            if done[-1].ending in ("dead", "lost", "stopped") or (until_saturated and is_saturated(done)):
                break
        return self.recording

    async def search(self, search: Search) -> Recording:
        """Run the stages of a search, until it has found what it looks for."""
        while not self._is_stopped and (stage := search.next_stage()) is not None:
            record = await self.run_stage(stage)
            if record.ending in ("lost", "stopped"):
                break
            search.tell(record)
        return self.recording

    async def run_stage(self, stage: Stage) -> StageRecord:
        """Run one stage, after those that were run before."""
        self.running = stage
        try:
            record = await self._crew.run(stage, len(self.recording.stages), self._origin)
        finally:
            self.running = None
        self.recording.stages.append(record)
        return record

    def stop(self) -> None:
        """End the run: what is running is cut off, and `run` returns what was measured. For Ctrl-C."""
        self._is_stopped = True
        self._crew.stop()
