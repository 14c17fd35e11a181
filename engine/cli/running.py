"""Runs a command's coroutine so that Ctrl-C cancels it, or does what the command wants."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def run_interruptible(command: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`. SIGINT cancels the command, which closes what it has open, and is raised as
    `KeyboardInterrupt`.
    """
    if sys.version_info >= (3, 11):
        return asyncio.run(command)
    try:
        return asyncio.run(_cancelled_by_interrupt(command))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _cancelled_by_interrupt(command: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does from Python 3.11 on: before, an interrupt breaks out of the loop wherever it is."""
    task = asyncio.ensure_future(command)
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    return await task


async def finish(running: asyncio.Future[Any], showing: asyncio.Future[None], interrupt: Callable[[], None]) -> None:
    """Wait until the first is over, which signals bear on as `interrupt` says; then nothing is shown any more. A wait
    that is cancelled cancels both.
    """
    with signals_handled(interrupt):
        try:
            await asyncio.wait((running,))
        finally:
            running.cancel()
            showing.cancel()
            await asyncio.gather(running, showing, return_exceptions=True)


@contextlib.contextmanager
def signals_handled(interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call a function, and do nothing else."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            loop.add_signal_handler(number, interrupt)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
