"""What an event loop holds of a journal's thread: gives it calls, gathered, and gets their results."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ForkedProcessError, JournalError, WrongEventLoopError, copied
from .journal_file import JournalFile
from .journal_thread import Answer, Call, Gathering, JournalThread, Work

T = TypeVar("T")

_GATHER_S = 0.005  # for what nobody waits for: at 3,000 rows/s 15 outcomes are a transaction, and 200 wake the loop
_LET_GO_S = 5.0  # a commit and a sync take milliseconds, on a busy disk a second
_GATHERED_AT_MOST = 1_024  # arguments, each of which may be a whole result


class JournalWriter:
    """Starts a thread, and talks to it. Used on one event loop only.

    Args:
        path: Of the file, for messages.
        open_file: Opens it, in the thread.

    Attributes:
        failure: What ended the journal: nothing is accepted any more. `None` while all is well.
    """

    def __init__(self, path: Path, open_file: Callable[[], JournalFile]) -> None:
        self.failure: JournalError | None = None
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._gathered: list[Work] = []
        self._timer: asyncio.Handle | None = None  # hands over what has gathered
        self._is_urgent = False  # whether it does so before anything else runs
        self._is_stopped = False
        self._opened: asyncio.Future[JournalFile] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = JournalThread(open_file, path, self._opened, self._ended, self._tell)

    async def start(self) -> JournalFile:
        """Open the file.

        Returns:
            The file, to give its methods to `call` and to `give`.

        Raises:
            JournalError: It cannot be opened.
        """
        self._thread.start()
        try:
            return await self._opened
        except asyncio.CancelledError:
            self._thread.work.put(None)  # for one that opens it still
            await self._let_go()
            raise

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Have a function called and committed with what has gathered, now, and wait for its result.

        When the wait is cancelled it is called all the same.
        """
        self._check()
        future: asyncio.Future[T] = self._loop.create_future()
        self._gathered.append(Call(future, function, arguments))
        self._hand_over_soon()
        return await future

    def give(self, function: Callable[[list[T]], Sequence[Any]], argument: T) -> asyncio.Future[Any]:
        """Have a function called and committed with this argument and others, when some have gathered.

        Args:
            function: Takes the arguments that have gathered; returns a result for each, or an exception.
            argument: One of them.
        """
        self._check()
        future: asyncio.Future[Any] = self._loop.create_future()
        last = self._gathered[-1] if self._gathered else None
        if not isinstance(last, Gathering) or last.function != function:
            last = Gathering(function, [], [])
            self._gathered.append(last)
        last.futures.append(future)
        last.arguments.append(argument)
        if len(last.futures) == _GATHERED_AT_MOST:
            self._hand_over_soon()
        elif self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._hand_over)
        return future

    async def stop(self) -> None:
        """Have what has gathered committed, and the file closed. Twice is harmless.

        In a forked process it does nothing: the thread and the file are the parent's.
        """
        if os.getpid() != self._process:
            return
        self._check_place()
        self._hand_over()
        self.request_stop()
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            await self._let_go()
            raise
        self._thread.join()

    async def _let_go(self) -> None:
        """Wait for the thread to close the file, though nobody waits any more: who opens it next finds it unlocked.

        A disk that stands still holds up a cancellation for `_LET_GO_S`, and a second one not at all.
        """
        await asyncio.wait((self._ended,), timeout=_LET_GO_S)

    def request_stop(self) -> None:
        """As `stop`, without waiting, and without what has gathered. For a garbage collector."""
        if not self._is_stopped:
            self._is_stopped = True
            self._thread.work.put(None)

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._is_stopped

    def _check(self) -> None:
        self._check_place()
        if self.failure is not None:
            raise copied(self.failure)
        if self._is_stopped:
            raise JournalError(f"the journal {str(self._path)!r} has been closed")

    def _check_place(self) -> None:
        if os.getpid() != self._process:
            raise ForkedProcessError("the journal was opened in another process, before this one was forked")
        if asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError("the journal was opened on another event loop")

    def _hand_over_soon(self) -> None:
        """What comes in the same iteration of the loop comes along."""
        if not self._is_urgent:
            self._is_urgent = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._is_urgent = False
        if self._gathered:
            self._thread.work.put(self._gathered)
            self._gathered = []

    def _tell(self, answers: list[Answer], failure: JournalError | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._resolve, answers, failure)

    def _resolve(self, answers: list[Answer], failure: JournalError | None) -> None:
        self.failure = failure
        for future, value in answers:
            if future.done():  # cancelled
                continue
            if isinstance(value, Exception):
                future.set_exception(value)
                future.exception()  # known: who drops the future hears it from the next call, not from the collector
            else:
                future.set_result(value)
