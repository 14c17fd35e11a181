"""An event loop in a thread of its own, for threads that wait.

It knows no engines: coroutines go in, results come out.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from ..errors import EngineClosedError, EngineStateError, ForkedProcessError, WrongEventLoopError

T = TypeVar("T")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
"""Makes an event loop: `uvloop.new_event_loop`, for one."""

_GRACE = 1.0  # seconds for what was cancelled to clean up; nothing of ours takes longer than closing a socket
_EXIT = 5.0  # seconds that the end of the interpreter waits at most: the threads are daemons
_POLL = 0.1 if os.name == "nt" else None  # seconds; on Windows Ctrl-C does not interrupt the wait for a lock


class LoopThread:
    """Runs coroutines for other threads, until it is stopped, forgotten by its owner, or the interpreter ends.

    The thread holds no reference to whoever owns this, so the owner can ask for `request_stop` in a finalizer.

    Args:
        loop_factory: Makes the loop. `None` is asyncio's own.

    Attributes:
        resources: What to close on the loop when it ends, last first. To be entered on the loop.
    """

    def __init__(self, loop_factory: LoopFactory | None = None) -> None:
        self.resources = contextlib.AsyncExitStack()
        self._process = os.getpid()
        self._loop = (loop_factory or asyncio.new_event_loop)()
        self._door = threading.Lock()  # held to let a call in, and to shut; never while waiting
        self._is_shut = False
        self._thread = threading.Thread(target=self._serve, name="penstock", daemon=True)
        _running.add(self)
        self._thread.start()

    @property
    def is_inherited(self) -> bool:
        """Whether this is a forked child, where the thread does not exist."""
        return self._process != os.getpid()

    @property
    def is_gone(self) -> bool:
        """Whether it runs nothing any more, here."""
        return self._is_shut or self.is_inherited

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, in the context variables of this thread, and wait for what it returns or raises.

        An exception that ends the wait, for instance the `KeyboardInterrupt` of Ctrl-C, cancels the coroutine first.

        Raises:
            EngineClosedError: The loop was stopped, before or meanwhile.
            ForkedProcessError: This is a forked child.
            WrongEventLoopError: An event loop runs in this thread, which the wait would stop.
        """
        call = _Call(coroutine)
        try:
            self._submit(call.start)
            call.wait()
        except BaseException:
            self._give_up(call)
            raise
        assert call.task is not None
        try:
            return call.task.result()
        except asyncio.CancelledError:
            if self._is_shut:
                raise EngineClosedError("the engine was stopped while the call ran") from None
            raise
        finally:
            del call  # its error holds this frame

    def stop(self) -> None:
        """Close `resources`, cancel what still runs, and wait until the thread has ended. Twice is harmless."""
        refuse_inside_loop()
        self.request_stop()
        self.join()

    def request_stop(self) -> None:
        """As `stop`, without waiting. Callable from wherever the garbage collector runs: takes no lock."""
        if not self.is_inherited:
            with contextlib.suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._leave)

    def join(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended."""
        if not self.is_inherited:
            self._thread.join(seconds)

    def check_usable(self) -> None:
        """Raise what `run` would raise, here and now."""
        if self.is_inherited:
            raise ForkedProcessError("the engine was started in another process, before this one was forked")
        refuse_inside_loop()
        if self._is_shut:
            raise EngineClosedError("the engine has been stopped")

    def _submit(self, callback: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self.check_usable()
        with self._door:
            self.check_usable()  # again: it may have been shut meanwhile
            self._loop.call_soon_threadsafe(callback, self._loop, context=copy_context())

    def _give_up(self, call: _Call[Any]) -> None:
        try:
            self._submit(call.cancel)
        except EngineStateError:
            call.drop()
        else:
            call.wait_briefly()  # so that its connection is closed when the caller goes on

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
            with self._door:
                self._is_shut = True  # what was let in before is on the loop, ahead of what follows
            self._loop.run_until_complete(self._shut_down())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            _running.discard(self)

    def _leave(self) -> None:
        if not self._is_shut:
            self._loop.stop()

    async def _shut_down(self) -> None:
        try:
            await self.resources.aclose()
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:  # calls that the engine has just ended; a wait between two attempts has to be cancelled
                _, left = await asyncio.wait(left, timeout=_GRACE / 10)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_GRACE)


class _Call(Generic[T]):
    """A coroutine on the loop, and the thread that waits for it."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.task: asyncio.Task[T] | None = None
        self._coroutine = coroutine
        self._over = threading.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task = loop.create_task(self._coroutine)
        self.task.add_done_callback(lambda _: self._over.set())

    def cancel(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.task is not None:
            self.task.cancel()
        self.drop()

    def drop(self) -> None:
        """Do not start it any more."""
        if self.task is None:
            self._coroutine.close()
            self._over.set()

    def wait(self) -> None:
        while not self._over.wait(_POLL):
            pass

    def wait_briefly(self) -> None:
        self._over.wait(_GRACE)


_running: set[LoopThread] = set()


def refuse_inside_loop() -> None:
    """Raise where a blocking call would stop the event loop that runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongEventLoopError(
        "a blocking call would stop the event loop of this thread: await an engine of `penstock`,"
        " or call this one by `asyncio.to_thread`"
    )


@atexit.register
def _stop_all() -> None:
    """At the end of the interpreter: engines that nobody stopped."""
    threads = tuple(_running)
    for thread in threads:
        thread.request_stop()
    for thread in threads:
        thread.join(_EXIT)
