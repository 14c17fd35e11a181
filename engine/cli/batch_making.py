"""The engine and the batch that the options of ``penstock batch`` describe."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from penstock.middleware.concurrency import AdaptiveConcurrency

from ..batch.append_publisher import AppendPublisher
from ..batch.batch import Batch
from ..batch.publishing import Publisher, Shape
from ..batch.reading import RowFile
from ..batch.rename_publisher import RenamePublisher
from ..model_engine import ModelEngine
from ..types import Timeouts
from .engine_options import make_engine

_SHARED_LANES = 256  # rows of a process that may wait for a shared limit which finds itself
_DEADLINE = Timeouts().deadline


def make_batch_engine(options: Namespace) -> ModelEngine:
    """An engine, not started. It can be made in another process: options are plain values, and name the variable that
    the key is in.

    Raises:
        ConfigurationError: It cannot work.
    """
    # Rows wait for their turn as long as that takes; what bounds a call is its deadline.
    timeouts = Timeouts(queue=None, deadline=options.timeout or _DEADLINE)
    return make_engine(options, limiter=_shared_limiter(options), params=dict(options.param), timeouts=timeouts)


def _shared_limiter(options: Namespace) -> Any:
    if options.shared_limit is None:
        return None
    from penstock.middleware.shared_limiter import SharedLimiter

    return SharedLimiter(
        options.shared_limit,
        f"{options.gateway}/{options.model}",
        workers=options.workers,
        concurrency=AdaptiveConcurrency() if options.concurrency == "auto" else options.concurrency,
        requests_per_minute=options.rpm,
        tokens_per_minute=options.tpm,
    )


@contextlib.asynccontextmanager
async def made_batch(options: Namespace, journal: str) -> AsyncIterator[Batch]:
    """A batch that can be run.

    Raises:
        ConfigurationError: It cannot work, or Ray is not installed.
    """
    lanes = _SHARED_LANES if options.concurrency == "auto" and options.shared_limit else options.concurrency
    common: dict[str, Any] = {
        "journal": journal,
        "concurrency": lanes,
        "ordered": options.ordered,
        "row_attempts": options.row_attempts,
        "in_doubt": options.in_doubt,
        "retry_failed": options.retry_failed,
        "on_changed": options.on_changed,
        "durability": options.durability,
    }
    if options.runner == "ray":
        from ..batch.ray_batch import RayBatch

        yield RayBatch(
            partial(make_batch_engine, options), workers=options.workers, address=options.ray_address, **common
        )
        return
    if options.shared_limit is None:
        common |= {"requests_per_minute": options.rpm, "tokens_per_minute": options.tpm}
    async with make_batch_engine(options) as engine:
        yield Batch(engine, **common)


def make_publisher(options: Namespace, rows: RowFile) -> Publisher:
    """Where the results go. They have the shape of the rows unless the options say another."""

    def shape() -> Shape | None:
        if options.shape != "auto":
            chosen: Shape = options.shape
            return chosen
        return None if rows.is_openai is None else "openai" if rows.is_openai else "own"

    common: dict[str, Any] = {"errors": options.errors, "shape": shape, "overwrite": options.overwrite}
    if options.publish == "append":
        return AppendPublisher(options.output, ordered=options.ordered, **common)
    return RenamePublisher(options.output, **common)
