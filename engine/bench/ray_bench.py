"""`RayBench`: a benchmark whose requests are made by processes on Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .bench import Bench
from .calibration import Calibration
from .loads import Load
from .plan import Plan
from .ray_crew import RayWorkers


class RayBench(Bench):
    """`Bench`, past one machine: processes on the machines of a Ray cluster make the requests.

    They follow one schedule, as those of one machine do, and what they have recorded adds up in the same way. What the
    clocks of several machines make of that stands in ``docs/bench.md``.

    Args:
        plan: What to measure with. A key belongs into the environment of the workers, where the engine finds it: what
            is in the plan goes through Ray. It pickles, and what is in it can be imported there.
        workers: Processes. ``"auto"`` is one for each place that the cluster has free when the run begins.
        address: Of the cluster; see `penstock.engine.ray_cluster.RayCluster`. `None` begins one on this machine where
            there is none.
        worker_options: How workers are placed: Ray's actor options. The default is a CPU for each, spread over the
            nodes.
        start_within: Seconds for all workers to be there; then `NoWorkersError`.
        answer_within: Seconds after which a worker that says nothing is lost.

    Raises:
        ConfigurationError: An option cannot work, a key is in the plan, or Ray is not installed.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        workers: int | Literal["auto"] = 2,
        address: str | None = None,
        worker_options: Mapping[str, Any] | None = None,
        start_within: float = 60.0,
        answer_within: float = 30.0,
    ) -> None:
        self._workers = RayWorkers(
            plan,
            workers,
            address=address,
            worker_options=worker_options,
            start_within=start_within,
            answer_within=answer_within,
        )
        super().__init__(plan, crew=self._workers)

    def __len__(self) -> int:
        """How many workers there are, once it has started."""
        return len(self._workers)

    async def calibrate(self, load: Load) -> Calibration:
        """Measure the client of the first worker, on its machine and in its process.

        Args:
            load: As in the run, the share of one worker.

        Raises:
            OSError: It is lost, or no process could be started there for the server.
        """
        return await self._workers.calibrate(load)
