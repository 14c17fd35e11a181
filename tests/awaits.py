"""Counts where a coroutine waits, and does something at one of these places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Deed = Callable[[], "BaseException | None"]
"""What is done at a wait. What it returns is raised out of what is awaited there; after `None` that is awaited."""

_MANY = 1000  # waits; no call of a test has as many


class CountedAwaits(Generic[T]):
    """Runs a coroutine when it is awaited.

    Args:
        coroutine: What to run.
        at: The wait, counted from 1, at which `do` is called. `None` is never.
        do: What is done there.
        cancel_at: The wait at which the task is cancelled. `None` cancels nowhere.

    Attributes:
        count: How often it has waited.
        place: Where `do` was called: the functions that wait for one another, each as ``file.py:function``, outermost
            first. Empty before.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        at: int | None = None,
        do: Deed | None = None,
        cancel_at: int | None = None,
    ) -> None:
        self.count = 0
        self.place: tuple[str, ...] = ()
        self._coroutine = coroutine
        self._at = at if cancel_at is None else cancel_at
        self._do = cancel_this_task if do is None else do

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._coroutine.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as stop:
                result: T = stop.value
                return result
            failure = self._at_a_wait()
            if failure is not None:
                _give_up(waits_for)
                waits_for = None  # for a turn of the loop, in which who was to resolve it cleans up
            try:
                yield waits_for
            except BaseException as error:
                thrown = error
            else:
                thrown = failure

    @property
    def has_done(self) -> bool:
        """Whether it has come to the wait at which something is done."""
        return self._at is not None and self.count >= self._at

    def _at_a_wait(self) -> BaseException | None:
        self.count += 1
        if self.count != self._at:
            return None
        self.place = _waiting_functions(self._coroutine)
        return self._do()


async def at_each_wait(run: Callable[[int], Coroutine[Any, Any, bool]]) -> int:
    """Call `run` with 1, 2, ... until it says that there was no such wait. Returns how many there were."""
    for wait in range(1, _MANY):
        if not await run(wait):
            return wait - 1
    raise AssertionError(f"there were more than {_MANY} waits")


def cancel_this_task() -> None:
    """Cancel the task that waits. It takes effect when that next gives way, as if it had come while it waits there."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def _give_up(waits_for: Any) -> None:
    if isinstance(waits_for, asyncio.Future) and not isinstance(waits_for, asyncio.Task):
        waits_for.cancel()


def _waiting_functions(coroutine: Any) -> tuple[str, ...]:
    functions = []
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
        if code is None:
            break
        functions.append(f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_name}")
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return tuple(functions)
