"""The results of a run, as its reader takes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from .counters import BatchProgress, BatchSummary
from .results import BatchResult

if TYPE_CHECKING:
    from typing_extensions import Self

    from .batch import Batch


class BatchResults:
    """The results of a run. Iterate it once: ``async for result in results``.

    Left early, it ends what is in flight when it is forgotten; `aclose`, or ``contextlib.aclosing``, does it at once.
    """

    def __init__(self, batch: Batch, results: AsyncGenerator[BatchResult, None]) -> None:
        self._batch = batch
        self._results = results

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult:
        return await self._results.__anext__()

    async def aclose(self) -> None:
        """End what is in flight. Twice is harmless."""
        await self._results.aclose()

    @property
    def has_ready(self) -> bool:
        """Whether the next result is there and needs no wait."""
        return self._batch.has_ready

    def drain(self) -> None:
        """As `Batch.drain`."""
        self._batch.drain()

    @property
    def progress(self) -> BatchProgress:
        """As `Batch.progress`."""
        return self._batch.progress

    @property
    def summary(self) -> BatchSummary:
        """As `Batch.summary`."""
        return self._batch.summary
