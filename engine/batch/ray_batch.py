"""`RayBatch`: a batch whose calls are made by workers on Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import ConfigurationError
from ..ray_cluster import refuse_key
from .batch import Batch, OnError, Sink
from .feed import Rows
from .journal import Journal
from .keeping import InDoubt, OnChanged, RetryFailed
from .ray_runner import RayRunner
from .records import Durability
from .results import BatchResult
from .row_retry import RowRetry
from .runner import DEFAULT_CONCURRENCY

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from ..model_engine import ModelEngine


class BatchOptions(TypedDict, total=False):
    """Options of `Batch` that mean the same whoever makes the calls."""

    journal: str | os.PathLike[str] | Journal | None
    ordered: bool
    on_error: OnError
    row_attempts: int | RowRetry | None
    row_deadline: float | None
    in_doubt: InDoubt
    retry_failed: RetryFailed | None
    on_changed: OnChanged
    key_lifetime: float
    durability: Durability


class RayBatch(Batch):
    """`Batch`, past one machine: workers on Ray make the calls, each with an engine and an event loop of its own.

    Source, journal, retries of rows and results stay in this process, so all that `Batch` says holds. A row is written
    down before a worker is given it, and its answer comes back within milliseconds. A worker that dies takes what it
    had in flight with it: these rows are sent again by others, with the same keys, where a key protects them or
    nobody forbids it, and are listed as possibly duplicated where none does.

    A limit for all workers is a `SharedLimiter` in the stack that `make_engine` gives its engine.

    Args:
        make_engine: Makes an engine, here and on each worker: ``functools.partial(ModelEngine, "gpt-5")``, or a
            function of yours. The engine here encodes rows and sends none. A key belongs into the environment of the
            workers, where the engine finds it: what is in the function goes through Ray.
        workers: How many processes, at the least one for a node.
        concurrency: Rows in flight, of all workers together.
        address: Of the cluster; see `penstock.engine.ray_cluster.RayCluster`. `None` begins one on this machine
            where there is none.
        worker_options: How workers are placed: Ray's actor options. The default is a CPU for each, spread over the
            nodes.
        start_within: Seconds to wait for a worker while there is none; then the run ends with `NoWorkersError`.
        answer_within: Seconds after which a worker that says nothing is lost.
        options: Those of `Batch` that are in `BatchOptions`.

    Raises:
        ConfigurationError: An option cannot work, or Ray is not installed.
    """

    def __init__(
        self,
        make_engine: Callable[[], ModelEngine],
        *,
        workers: int = 2,
        concurrency: int = DEFAULT_CONCURRENCY,
        address: str | None = None,
        worker_options: Mapping[str, Any] | None = None,
        start_within: float = 60.0,
        answer_within: float = 30.0,
        **options: Unpack[BatchOptions],
    ) -> None:
        if unknown := sorted(options.keys() - BatchOptions.__annotations__.keys()):
            text = f"{unknown[0]}= is not for many processes: give make_engine= a SharedLimiter, or use workers="
            raise ConfigurationError(text)
        runner = RayRunner(
            engine := _made(make_engine),
            make_engine,
            workers=workers,
            concurrency=concurrency,
            address=address,
            worker_options=worker_options,
            start_within=start_within,
            answer_within=answer_within,
        )
        super().__init__(engine, runner=runner, **options)

    async def _results(self, source: Rows, sink: Sink | None = None) -> AsyncGenerator[BatchResult, None]:
        async with self._engine, aclosing(super()._results(source, sink)) as results:
            async for result in results:
                yield result


def _made(make_engine: Callable[[], ModelEngine]) -> ModelEngine:
    if isinstance(make_engine, partial):
        refuse_key(make_engine.keywords.get("api_key"), "make_engine=")
    engine = make_engine()
    if not hasattr(engine, "_send_prepared"):  # the class itself stands above batches
        raise ConfigurationError(f"make_engine= makes a ModelEngine, not {type(engine).__name__}")
    return engine
