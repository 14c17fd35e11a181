"""Who makes the calls of a batch: this process, or others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..types import Timeouts
from .errands import Outcome, Prepared, execute

if TYPE_CHECKING:
    from penstock.middleware.stack import AnyHandler

    from ..model_engine import ModelEngine

DEFAULT_CONCURRENCY = 64  # rows in flight

Done = Callable[[Prepared, Outcome], None]
"""Told once for each row, as its outcome comes. Does not wait: what is under way is bounded where rows are read."""


class Runner(Protocol):
    """Makes the calls of rows, in lanes: each lane is a task of the pipeline that awaits one `run` after another."""

    @property
    def lanes(self) -> int:
        """How many lanes there are to be now. It may change while the batch runs."""
        ...

    @property
    def rows_a_lane(self) -> int:
        """How many rows a lane takes for one `run` at most. It may change while the batch runs."""
        ...

    async def start(self) -> None:
        """Make ready to run."""
        ...

    async def run(self, rows: Sequence[Prepared], done: Done) -> None:
        """Make the calls of these rows, and tell `done` of each once, in any order. Cancelling ends them all."""
        ...

    async def stop(self) -> None:
        """End what runs. Twice is harmless."""
        ...


class Limit(Protocol):
    """What lanes can follow: a `Limiter`, for one."""

    @property
    def limit(self) -> int | None:
        """How many may be under way now. `None` for any number."""
        ...


class LocalRunner:
    """Makes the calls with an engine of this process, one for each lane at a time.

    Args:
        engine: Who sends, started.
        concurrency: Lanes. `None` is as many as the limiter lets be under way.
        follow: The limiter whose limit the lanes follow.
        handler: The stack that has the limiter in it. `None` is the engine's.
        timeouts: The clocks of the calls. `None` are the engine's.
    """

    rows_a_lane = 1

    def __init__(
        self,
        engine: ModelEngine,
        concurrency: int | None,
        *,
        follow: Limit | None = None,
        handler: AnyHandler | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._engine = engine
        self._concurrency = concurrency
        self._follow = follow
        self._handler = handler
        self._timeouts = timeouts

    @property
    def lanes(self) -> int:
        if self._concurrency is not None:
            return self._concurrency
        limit = None if self._follow is None else self._follow.limit
        return DEFAULT_CONCURRENCY if limit is None else max(1, limit)

    async def start(self) -> None:
        """Nothing: the engine is started by who owns it."""

    async def run(self, rows: Sequence[Prepared], done: Done) -> None:
        for prepared in rows:
            done(prepared, await execute(self._engine, prepared, handler=self._handler, timeouts=self._timeouts))

    async def stop(self) -> None:
        """Nothing: the lanes are cancelled, and the engine is stopped by who owns it."""
