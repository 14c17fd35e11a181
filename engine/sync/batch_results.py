"""The results of a batch, as a thread takes them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import EngineClosedError
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..batch.batch_results import BatchResults as AsyncBatchResults
    from ..batch.counters import BatchProgress, BatchSummary
    from ..batch.results import BatchResult

_MOST = 100  # results that change threads together


class BatchResults:
    """The results of a batch. Iterate it once: ``for result in engine.batch(rows)``.

    Use it as ``with`` when it may be left early, so that what is in flight is ended at once; else that happens when it
    is forgotten. Threads change once for all results that are ready, not for each.
    """

    def __init__(self, results: AsyncBatchResults, loop_thread: LoopThread, owner: object) -> None:
        self._results = results
        self._loop_thread = loop_thread
        self._owner = owner  # kept alive: the loop ends with the engine
        self._ready: list[BatchResult] = []  # in reverse: taken from the end
        self._failure: Exception | None = None  # comes after what is ready

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BatchResult:
        if not self._ready:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._ready = self._loop_thread.run(self._block())[::-1]
            if not self._ready:
                raise StopIteration
        return self._ready.pop()

    def close(self) -> None:
        """End what is in flight. Twice is harmless."""
        self._ready = []
        try:
            self._loop_thread.run(self._results.aclose())
        except EngineClosedError:
            return  # what was in flight went with the engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def drain(self) -> None:
        """Send no more rows. What is in flight is finished and given out, and the iteration ends."""
        self._loop_thread.run(_call(self._results.drain))

    @property
    def progress(self) -> BatchProgress:
        """How far it is."""
        return self._results.progress

    @property
    def summary(self) -> BatchSummary:
        """What it was, or is so far."""
        return self._results.summary

    async def _block(self) -> list[BatchResult]:
        """The next result, and those that are ready behind it. None at the end."""
        first = await anext(self._results, None)
        if first is None:
            return []
        block = [first]
        while self._results.has_ready and len(block) < _MOST:
            try:
                following = await anext(self._results, None)
            except Exception as failure:
                self._failure = failure
                break
            if following is None:
                break
            block.append(following)
        return block


async def _call(function: Callable[[], None]) -> None:
    function()
