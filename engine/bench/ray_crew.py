"""A run over the machines of a Ray cluster: processes like those of one machine, which agree on when to begin.

Each machine has a clock of its own. Before and after a stage the clocks are compared by asking for the time there a
few times: it was read between question and answer, and the shortest way there and back says it best (Cristian's
algorithm, as NTP does it). Each process is told the beginning of the run and of the stage by its own clock. So every
time of a request is by one clock, the one of the process that made it; moments of different machines are as comparable
as the clocks are, which is recorded with each process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penstock.middleware.policy import checked_seconds

from ..errors import ConfigurationError, NoWorkersError
from ..ray_cluster import RayCluster, WorkerGoneError, refuse_key
from ..ray_facts import Facts, refuse_other
from .calibration import Calibration
from .hand import ClockOffset, Hand, HandLostError
from .loads import Load
from .plan import Plan
from .ray_outpost import RayOutpost
from .workers import Workers

_LEAD_NS = 250_000_000  # from the order to begin to the beginning, and as many ways there and back as below
_LEAD_WAYS = 4
_QUESTIONS = 10  # for the time there; the best of ten is within a tenth of the best there is
_POLL_S = 1.0  # after which an outpost that has heard nothing says so: a sign of life
_PARTING_S = 8.0  # for an outpost to end its process


class RayWorkers(Workers):
    """A crew of processes on the machines of a Ray cluster.

    Args:
        plan: What each of them gets.
        count: How many. ``"auto"`` is one for each place that the cluster has free when the run begins.
        address, worker_options: See `RayCluster`.
        start_within: Seconds for all of them to be there.
        answer_within: Seconds after which one that says nothing is lost.

    Raises:
        ConfigurationError: An option cannot work, a key is in the plan, or Ray is not installed.
    """

    def __init__(
        self,
        plan: Plan,
        count: int | Literal["auto"],
        *,
        address: str | None = None,
        worker_options: Mapping[str, Any] | None = None,
        start_within: float = 60.0,
        answer_within: float = 30.0,
    ) -> None:
        super().__init__(plan, count)
        for name, seconds in (("start_within=", start_within), ("answer_within=", answer_within)):
            if checked_seconds(name, seconds) <= 0:
                raise ConfigurationError(f"{name} is longer than 0 s")
        refuse_key(plan.engine.get("api_key"), "the plan")
        self._cluster = RayCluster(address, worker_options or {})
        self._start_within = start_within
        self._answer_within = answer_within
        self._actors: list[Any] = []

    async def calibrate(self, load: Load) -> Calibration:
        """Measure the first of them, where it is.

        Args:
            load: The share of one.

        Raises:
            OSError: It is lost, or no process could be started there for the server.
        """
        hand = self._hands[0]
        calibration: Calibration = await hand.ask("calibrate", load)
        calibration.host = hand.host
        return calibration

    async def close(self) -> None:
        await super().close()
        actors, self._actors = self._actors, []
        for actor in actors:
            self._cluster.kill(actor)
        await self._cluster.disconnect()

    def __len__(self) -> int:
        return len(self._hands)

    async def _hire(self) -> None:
        await self._cluster.connect()
        count = max(1, self._cluster.places) if self._count == "auto" else self._count
        self._actors = [self._cluster.actor(RayOutpost) for _ in range(count)]
        coming = [asyncio.ensure_future(self._cluster.ask(actor.start, within=None)) for actor in self._actors]
        try:
            await asyncio.wait(coming, timeout=self._start_within)
        finally:
            there = sum(each.done() for each in coming)
            for each in coming:
                each.cancel()
            told = await asyncio.gather(*coming, return_exceptions=True)
        if there < count:
            text = f"{there} of {count} workers were there within {self._start_within:g} s"
            raise NoWorkersError(f"{text}; Ray has {self._cluster.room}", phase="not_sent")
        for number, facts in enumerate(told):
            if not isinstance(facts, Facts):
                raise NoWorkersError(f"worker {number} could not begin: {facts}", phase="not_sent")
            refuse_other(number, facts, Facts.here())
            self._hands.append(_RayHand(number, facts, self._actors[number], self._cluster, self._answer_within))

    def _lead_ns(self, clocks: Sequence[ClockOffset]) -> int:
        return _LEAD_NS + _LEAD_WAYS * 2 * max(clock.error_ns for clock in clocks)


class _RayHand(Hand):
    """A process on a machine of the cluster, by way of its outpost there."""

    def __init__(self, number: int, facts: Facts, outpost: Any, cluster: RayCluster, answer_within: float) -> None:
        super().__init__(number, facts.host)
        self.pid = facts.pid
        self._outpost = outpost
        self._cluster = cluster
        self._answer_within = answer_within

    async def clock(self) -> ClockOffset:
        best = ClockOffset(0, 2**62)
        for _ in range(_QUESTIONS):
            before = time.monotonic_ns()
            there = await self._ask(self._outpost.clock)
            after = time.monotonic_ns()
            if (error := (after - before + 1) // 2) < best.error_ns:
                best = ClockOffset(there - (before + after) // 2, error)
        return best

    async def close(self) -> None:
        with contextlib.suppress(WorkerGoneError):  # and with it its process, whose standard input ends then
            await self._cluster.ask(self._outpost.stop, within=_PARTING_S)

    def post(self, data: bytes) -> None:
        self._cluster.tell(self._outpost.tell, data)

    async def send(self, data: bytes) -> None:
        await self._ask(self._outpost.tell, data)

    async def receive(self) -> bytes:
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < self._answer_within:
            heard: bytes | str = await self._ask(self._outpost.hear, _POLL_S, more=_POLL_S)
            if isinstance(heard, str):
                raise HandLostError(heard)
            if heard:
                return heard
        raise HandLostError(f"it has said nothing for {self._answer_within:g} s")

    async def _ask(self, method: Any, *arguments: Any, more: float = 0.0) -> Any:
        try:
            return await self._cluster.ask(method, *arguments, within=self._answer_within + more)
        except WorkerGoneError as gone:
            raise HandLostError(str(gone)) from None
