"""A place for a worker: the worker that has it, the rows it has in hand, and another worker when it is lost."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..clock import Clock
from ..errors import ModelEngineError, WorkerLostError
from ..ray_cluster import RayCluster, WorkerGoneError
from ..types import Attempt
from .errands import Outcome, Prepared
from .ray_worker import RayWorker, WorkerFacts
from .runner import Done

if TYPE_CHECKING:
    from ..model_engine import ModelEngine

_log = logging.getLogger("penstock.batch.ray")

_CHUNK_ROWS = 200
_CHUNK_BYTES = 8 * 1024 * 1024
_POLL = 1.0  # seconds after which a worker that has nothing to give says so: a sign of life
_PARTING = 5.0  # seconds for a worker to end its calls
_AGAIN = 1.0  # seconds before another worker is made in place of one that could not begin


class Pending:
    """A row that is to be sent, or is under way.

    Args:
        prepared: What is sent.
        done: Told what it came to.

    Attributes:
        over: Done when `done` has been told, or raises why that could not be.
        sent: Monotonic time at which a worker was given it. `None` before.
    """

    __slots__ = ("done", "over", "prepared", "sent")

    def __init__(self, prepared: Prepared, done: Done) -> None:
        self.prepared = prepared
        self.done = done
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent: float | None = None

    def settle(self, outcome: Outcome) -> None:
        if self.over.done():  # nobody waits any more
            return
        try:
            self.done(self.prepared, outcome)
        except Exception as error:
            self.over.set_exception(error)
        else:
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)


class Outbox:
    """Rows that no worker has yet, in order."""

    def __init__(self) -> None:
        self._rows: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, pending: Pending) -> None:
        self._rows.append(pending)

    def take(self, most: int) -> list[Pending]:
        """A chunk: up to so many rows, 200 rows, or about 8 MiB of them."""
        chunk: list[Pending] = []
        size = 0
        while self._rows and len(chunk) < min(most, _CHUNK_ROWS) and size < _CHUNK_BYTES:
            pending = self._rows.popleft()
            if not pending.over.done():  # it may have been cancelled
                chunk.append(pending)
                size += len(pending.prepared.call.body)
        return chunk


class Watch(Protocol):
    """Who has the seats."""

    def came(self, seat: Seat, facts: WorkerFacts) -> None:
        """A worker has begun."""
        ...

    def went(self, seat: Seat) -> None:
        """A worker was lost."""
        ...

    def refused(self, seat: Seat, error: ModelEngineError) -> None:
        """A worker could not begin."""
        ...

    def share(self, seat: Seat) -> int:
        """How many rows of the outbox are for this seat, at most."""
        ...


class Seat:
    """Keeps one worker busy.

    Args:
        number: Its number, from 1, for messages.
        cluster: Where workers are had.
        make_engine: Makes the engine of a worker, there.
        in_flight: Rows a worker may have in flight.
        ahead: Rows it may have in hand beside them.
        outbox: Where rows come from.
        watch: Who is told of what happens.
        answer_within: Seconds after which a worker that says nothing is lost.
        clock: Where time comes from.
    """

    def __init__(
        self,
        number: int,
        cluster: RayCluster,
        make_engine: Callable[[], ModelEngine],
        *,
        in_flight: int,
        ahead: int,
        outbox: Outbox,
        watch: Watch,
        answer_within: float,
        clock: Clock,
    ) -> None:
        self.number = number
        self.room = in_flight + ahead
        """Rows its worker may have in hand."""
        self.facts: WorkerFacts | None = None
        """Of the worker. `None` while there is none."""
        self._cluster = cluster
        self._make_engine = make_engine
        self._in_flight = in_flight
        self._outbox = outbox
        self._watch = watch
        self._answer_within = answer_within
        self._clock = clock
        self._actor: Any = None
        self._hand: dict[int, Pending] = {}
        self._news = asyncio.Event()

    @property
    def free(self) -> int:
        """Rows that its worker can take now."""
        return 0 if self.facts is None else self.room - len(self._hand)

    def look(self) -> None:
        """Have it look into the outbox."""
        self._news.set()

    async def keep(self) -> None:
        """Have a worker, and another one when it is lost, until this is cancelled."""
        while True:
            self._actor = actor = self._cluster.actor(RayWorker, self._make_engine, self._in_flight)
            try:
                facts = await self._cluster.ask(actor.start, within=None)
                if isinstance(facts, ModelEngineError):
                    self._watch.refused(self, facts)
                else:
                    self.facts = facts
                    self._watch.came(self, facts)
                    await self._converse(actor)
            except WorkerGoneError as gone:
                self._lose(str(gone))
            self._cluster.kill(actor)
            await asyncio.sleep(_AGAIN)

    async def part(self) -> None:
        """End the worker: first its calls, then itself."""
        actor, self._actor = self._actor, None
        if actor is None:
            return
        if self.facts is not None:
            try:
                await self._cluster.ask(actor.stop, within=_PARTING)
            except WorkerGoneError as gone:
                _log.warning("worker %d did not end its calls: %s", self.number, gone)
        self._cluster.kill(actor)

    async def _converse(self, actor: Any) -> None:
        """Give rows and get outcomes, until the worker is lost."""
        talks = [asyncio.ensure_future(talk(actor)) for talk in (self._push, self._pull)]
        try:
            await asyncio.wait(talks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for talk in talks:
                talk.cancel()
            ends = await asyncio.gather(*talks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _push(self, actor: Any) -> None:
        while True:
            if not (chunk := self._outbox.take(min(self.free, self._watch.share(self)))):
                self._news.clear()
                await self._news.wait()
                continue
            now = self._clock.monotonic()
            for pending in chunk:
                pending.sent = now
                self._hand[pending.prepared.token] = pending
            rows = pickle.dumps([pending.prepared for pending in chunk], protocol=5)
            await self._cluster.ask(actor.take, rows, within=self._answer_within)

    async def _pull(self, actor: Any) -> None:
        while True:
            given = await self._cluster.ask(actor.give, _POLL, within=_POLL + self._answer_within)
            for token, outcome in pickle.loads(given):
                pending = self._hand.pop(token)
                if isinstance(outcome, Outcome):
                    pending.settle(outcome)
                else:
                    pending.fail(RuntimeError(f"a bug on worker {self.number}: {outcome}"))
            self._news.set()

    def _lose(self, how: str) -> None:
        """The worker is gone: what it had in hand may have run, or not."""
        facts, self.facts = self.facts, None
        where = "" if facts is None else f" (process {facts.pid} on {facts.host})"
        hand, self._hand = self._hand, {}
        _log.warning("worker %d%s was lost with %d rows in hand: %s", self.number, where, len(hand), how)
        self._watch.went(self)
        now = self._clock.monotonic()
        for pending in hand.values():
            error = WorkerLostError(f"worker {self.number}{where} was lost: {how}", phase="no_answer")
            attempt = Attempt(1, pending.sent or now, now, error=type(error).__name__, phase="no_answer")
            pending.settle(Outcome(None, error, (attempt,)))
