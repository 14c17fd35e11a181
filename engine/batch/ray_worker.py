"""One process of a batch on Ray: an engine, and the rows it has in hand. Knows nothing of Ray, nor of journals."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, ModelEngineError, type_name
from ..ray_facts import Facts
from .errands import Outcome, Prepared, execute

if TYPE_CHECKING:
    from ..model_engine import ModelEngine

_GATHER = 0.005  # seconds; what is finished within them goes back together


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself.

    Args:
        process: Where it runs, and with what.
        gateway: Which gateway its engine speaks with.
        sends_keys: Whether its engine sends idempotency keys.
    """

    process: Facts
    gateway: str
    sends_keys: bool

    @classmethod
    def of(cls, engine: ModelEngine) -> WorkerFacts:
        """Those of this process."""
        return cls(Facts.here(), engine.gateway.name, engine._sends_keys)

    @property
    def host(self) -> str:
        return self.process.host

    @property
    def pid(self) -> int:
        return self.process.pid


class RayWorker:
    """Makes the calls of the rows it is given, each in a task, and gives back what they came to, as it comes.

    Everything crosses as bytes made here, so that no log and no error of Ray shows a row.

    Args:
        make_engine: Makes the engine.
        in_flight: Calls under way at a time. Rows above that wait here, so that none has to wait for the way here.
    """

    def __init__(self, make_engine: Callable[[], ModelEngine], in_flight: int) -> None:
        self._make_engine = make_engine
        self._slots = asyncio.Semaphore(in_flight)
        self._engine: ModelEngine | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._finished: list[tuple[int, Outcome | str]] = []
        self._news = asyncio.Event()

    async def start(self) -> WorkerFacts | ModelEngineError:
        """Make the engine and start it. An error is returned: raised, it would stand in a log with its traceback."""
        try:
            self._engine = self._make_engine()
            await self._engine.start()
            return WorkerFacts.of(self._engine)
        except ModelEngineError as error:
            error.__traceback__ = None
            return error
        except Exception as error:
            return ConfigurationError(f"the engine cannot be made on a worker: {type_name(error)}: {error}")

    async def take(self, rows: bytes) -> None:
        """Begin the calls of a chunk: a pickled sequence of `Prepared`."""
        for prepared in pickle.loads(rows):
            call = asyncio.ensure_future(self._call(prepared))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def give(self, within: float) -> bytes:
        """What has been finished since the last time: a pickled list of numbers with their outcomes.

        It waits for something, at most so many seconds; then the list is empty.
        """
        try:
            await asyncio.wait_for(self._news.wait(), within)
        except asyncio.TimeoutError:
            return pickle.dumps([])
        await asyncio.sleep(_GATHER)
        self._news.clear()
        finished, self._finished = self._finished, []
        return pickle.dumps(finished, protocol=5)

    async def stop(self) -> None:
        """End all calls and the engine."""
        calls: Sequence[asyncio.Task[None]] = tuple(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)
        if self._engine is not None:
            await self._engine.stop()

    async def _call(self, prepared: Prepared) -> None:
        assert self._engine is not None
        outcome: Outcome | str
        try:
            async with self._slots:
                outcome = await execute(self._engine, prepared)
        except Exception as bug:  # what fails in a known way is an outcome
            outcome = f"{type_name(bug)}: {bug}"
        self._finished.append((prepared.token, outcome))
        self._news.set()
