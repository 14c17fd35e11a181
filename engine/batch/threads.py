"""Calls that block, in threads that nobody has to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


async def in_daemon_thread(function: Callable[[], T], abandoned: Callable[[], None] | None = None) -> T:
    """What the function returns, called in a daemon thread of its own.

    Not the loop's executor, whose threads the end of the loop and of the process wait for: nothing interrupts a thread
    that waits for a pipe. A thread costs some 50 µs, so this is for work by the block.

    Args:
        function: May raise any `Exception`.
        abandoned: Called once the function is over, when waiting for it was cancelled: what it used is free then.
    """
    call = _Call(function, abandoned)
    try:
        return await call.done
    except asyncio.CancelledError:
        call.abandon()
        raise


class ThreadCalls:
    """Calls in threads, one at a time, on something that is to be closed after the last of them.

    Args:
        close: Closes it. Not called while a call runs: one that nobody waits for any more closes it when it is over.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._is_left = False

    async def call(self, function: Callable[[], T]) -> T:
        """What the function returns, called in a thread."""
        try:
            return await in_daemon_thread(function, abandoned=self._close)
        except asyncio.CancelledError:
            self._is_left = True
            raise

    def close(self) -> None:
        """Close it, now or when the call that was left is over."""
        if not self._is_left:
            self._close()


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T], abandoned: Callable[[], None] | None) -> None:
        self._function = function
        self._abandoned = abandoned
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._is_over = self._is_abandoned = False
        self.done: asyncio.Future[T] = self._loop.create_future()
        threading.Thread(target=self._run, name="penstock-blocking", daemon=True).start()

    def abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            is_over = self._is_over
        if is_over and self._abandoned is not None:
            self._abandoned()

    def _run(self) -> None:
        try:
            value = self._function()
        except Exception as error:  # of any kind: it is raised where the call is awaited
            self._end(partial(self._fail, error))
        else:
            self._end(partial(self._succeed, value))

    def _end(self, tell: Callable[[], None]) -> None:
        with self._lock:
            self._is_over = True
            is_abandoned = self._is_abandoned
        if not is_abandoned:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(tell)
        elif self._abandoned is not None:
            self._abandoned()

    def _succeed(self, value: T) -> None:
        if not self.done.cancelled():
            self.done.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self.done.cancelled():
            self.done.set_exception(error)
