"""Makes the calls of a batch with workers on Ray.

    run() -> Outbox -> take(chunk) -> RayWorker: a task for each row
                                          |
    done() <- give() <--------------------+

Rows go one by one, not in chunks that are finished as a whole, which would wait for their slowest row: a chunk is what
has gathered while the one before was on its way, and what is finished comes back every few milliseconds. So a worker
that dies takes with it only what it had in flight, and where a key protects rows half as many that waited there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.middleware.concurrency import checked_count
from penstock.middleware.policy import checked_seconds

from ..errors import ConfigurationError, ModelEngineError, NoWorkersError
from ..ray_cluster import RayCluster
from ..ray_facts import refuse_other
from .errands import Outcome, Prepared
from .ray_seat import Outbox, Pending, Seat
from .ray_worker import WorkerFacts
from .runner import Done

if TYPE_CHECKING:
    from ..model_engine import ModelEngine

_log = logging.getLogger("penstock.batch.ray")


class RayRunner:
    """Has workers on Ray make the calls, each with an engine of its own.

    Args:
        engine: The engine of this process, which has encoded the rows. It sends nothing.
        make_engine: Makes the engine of a worker, there: a function that Ray can send to it.
        workers: How many.
        concurrency: Rows in flight, of all workers together.
        address, worker_options: See `RayCluster`.
        start_within: Seconds to wait for a worker while there is none.
        answer_within: Seconds after which a worker that says nothing is lost.

    Raises:
        ConfigurationError: An option cannot work, or Ray is not installed.
    """

    rows_a_lane = 1

    def __init__(
        self,
        engine: ModelEngine,
        make_engine: Callable[[], ModelEngine],
        *,
        workers: int,
        concurrency: int,
        address: str | None = None,
        worker_options: Mapping[str, Any] | None = None,
        start_within: float = 60.0,
        answer_within: float = 30.0,
    ) -> None:
        checked_count("workers=", workers)
        checked_count("concurrency=", concurrency)
        for name, seconds in (("start_within=", start_within), ("answer_within=", answer_within)):
            if checked_seconds(name, seconds) <= 0:
                raise ConfigurationError(f"{name} is longer than 0 s")
        self._engine = engine
        self._cluster = RayCluster(address, worker_options or {})
        self._start_within = start_within
        self._outbox = Outbox()
        in_flight = -(-concurrency // workers)
        # A key that is in doubt does no harm where it protects its row. Elsewhere nothing is written down ahead.
        ahead = in_flight // 2 if engine.gateway.chat.keys == "honoured" and engine._sends_keys else 0
        self._seats = [
            Seat(
                number,
                self._cluster,
                make_engine,
                in_flight=in_flight,
                ahead=ahead,
                outbox=self._outbox,
                watch=self,
                answer_within=answer_within,
                clock=engine._clock,
            )
            for number in range(1, workers + 1)
        ]
        self._keeping: list[asyncio.Task[None]] = []
        self._under_way: set[Pending] = set()
        self._first: asyncio.Future[None] | None = None  # while nobody has come yet
        self._patience: asyncio.TimerHandle | None = None  # while nobody is there any more
        self._failure: ModelEngineError | None = None
        self._refusal: ModelEngineError | None = None

    @property
    def lanes(self) -> int:
        """Rows that the workers which are there may have in hand."""
        return max(1, sum(seat.room for seat in self._here))

    @property
    def _here(self) -> list[Seat]:
        return [seat for seat in self._seats if seat.facts is not None]

    async def start(self) -> None:
        """Connect to the cluster and wait for the first worker. The others begin to work as they come.

        Raises:
            NoWorkersError: None came in time.
            ConfigurationError: There is no cluster, or a worker is not like this process.
            ModelEngineError: The engine could not be made there.
        """
        await self._cluster.connect()
        self._failure = self._refusal = None
        self._first = asyncio.get_running_loop().create_future()
        self._keeping = [asyncio.ensure_future(self._keep(seat)) for seat in self._seats]
        try:
            await asyncio.wait_for(self._first, self._start_within)
        except asyncio.TimeoutError:
            raise self._nobody() from None
        finally:
            self._first = None

    async def run(self, rows: Sequence[Prepared], done: Done) -> None:
        """Have the calls of these rows made, and tell `done` of each once, in any order. Cancelling lets go of them."""
        if self._failure is not None:
            for prepared in rows:
                done(prepared, Outcome(None, self._failure))
            return
        pending = [Pending(prepared, done) for prepared in rows]
        self._under_way.update(pending)
        for each in pending:
            self._outbox.add(each)
        for seat in self._seats:
            if seat.free:
                seat.look()
        try:
            for each in pending:
                await each.over
        finally:
            for each in pending:
                each.over.cancel()
            self._under_way.difference_update(pending)

    async def stop(self) -> None:
        """End the workers, and a cluster that was begun here."""
        if self._patience is not None:
            self._patience.cancel()
        for task in self._keeping:
            task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)
        self._keeping = []
        await asyncio.gather(*(seat.part() for seat in self._seats))
        await self._cluster.disconnect()

    def came(self, seat: Seat, facts: WorkerFacts) -> None:
        """A worker has begun."""
        ours = WorkerFacts.of(self._engine)
        refuse_other(seat.number, facts.process, ours.process)
        for name in ("gateway", "sends_keys"):
            if (there := getattr(facts, name)) != (here := getattr(ours, name)):
                raise ConfigurationError(f"worker {seat.number} on {facts.host} has {name} {there}, and here is {here}")
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def went(self, seat: Seat) -> None:
        """A worker was lost."""
        if not self._here and self._patience is None and self._first is None:
            self._patience = asyncio.get_running_loop().call_later(self._start_within, self._give_up)

    def refused(self, seat: Seat, error: ModelEngineError) -> None:
        """A worker could not begin. Of the first that is the end; later, when it has worked before, it may pass."""
        self._refusal = error
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        else:
            _log.warning("worker %d cannot begin: %s", seat.number, error)

    def share(self, seat: Seat) -> int:
        """An even part of what is in the outbox."""
        return -(-len(self._outbox) // max(1, len(self._here)))

    async def _keep(self, seat: Seat) -> None:
        try:
            await seat.keep()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        for pending in tuple(self._under_way):
            pending.fail(error)

    def _give_up(self) -> None:
        """Nobody has come back: what no worker has been given was not sent."""
        self._failure = self._nobody()
        for pending in tuple(self._under_way):
            pending.settle(Outcome(None, self._failure))

    def _nobody(self) -> NoWorkersError:
        room = f"; Ray has {self._cluster.room}" if self._refusal is None else f": {self._refusal}"
        text = f"none of {len(self._seats)} workers was there within {self._start_within:g} s{room}"
        return NoWorkersError(text, phase="not_sent")
