"""Counts where a coroutine waits, and cancels its task at one of these places."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class CountedAwaits(Generic[T]):
    """Runs a coroutine when it is awaited.

    Args:
        coroutine: What to run.
        cancel_at: The wait, counted from 1, at which the task is cancelled. `None` cancels nowhere.

    Attributes:
        count: How often it has waited.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, cancel_at: int | None = None) -> None:
        self.count = 0
        self._coroutine = coroutine
        self._cancel_at = cancel_at

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._coroutine.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._count()
            try:
                yield waits_for
            except BaseException as error:
                thrown = error
            else:
                thrown = None

    def _count(self) -> None:
        self.count += 1
        if self.count == self._cancel_at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()  # takes effect at the next yield, as if it had come while we wait there
