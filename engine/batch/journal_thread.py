"""The thread that owns a journal file: takes what has gathered, commits it as one transaction, tells it once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ..errors import BatchError, JournalError, copied
from .journal_failures import journal_failure
from .journal_file import JournalFile

_TRANSACTION = 256  # calls and gatherings of one transaction, about: bounds how long the first of them waits


class Answer(NamedTuple):
    """What came of a call: an exception is raised to who waits."""

    future: asyncio.Future[Any]
    value: Any


class Call(NamedTuple):
    """Work for the thread."""

    future: asyncio.Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def answers(self) -> list[Answer]:
        """Do it."""
        try:
            return [Answer(self.future, self.function(*self.arguments))]
        except (BatchError, ValueError) as error:  # refused
            return [Answer(self.future, error)]

    def failed(self, failure: JournalError) -> list[Answer]:
        """Do not."""
        return [Answer(self.future, copied(failure))]


class Gathering(NamedTuple):
    """Work of one kind for the thread, to be done at once: a future for each argument, an answer for each."""

    function: Callable[[list[Any]], Sequence[Any]]
    futures: list[asyncio.Future[Any]]
    arguments: list[Any]

    def answers(self) -> list[Answer]:
        """Do it."""
        return list(map(Answer, self.futures, self.function(self.arguments)))

    def failed(self, failure: JournalError) -> list[Answer]:
        """Do not."""
        return [Answer(future, copied(failure)) for future in self.futures]


Work = Call | Gathering
Tell = Callable[[list[Answer], JournalError | None], None]
"""Takes answers, and what has ended the journal if something has."""


class JournalThread(threading.Thread):
    """Runs calls in the order they are given, until it is told to stop.

    A call that is refused (`BatchError`, `ValueError`) has changed nothing, and the others go on. Any other failure
    undoes the whole transaction: all its calls have failed then, and so does every call that comes after.

    Args:
        open_file: Opens the file, in this thread.
        path: Of the file, for messages.
        opened: Gets the file, or why there is none.
        ended: Is done when the file is closed.
        tell: Called in this thread.

    Attributes:
        work: What is to be done. `None` stops the thread once those before it are answered.
    """

    def __init__(
        self,
        open_file: Callable[[], JournalFile],
        path: Path,
        opened: asyncio.Future[JournalFile],
        ended: asyncio.Future[None],
        tell: Tell,
    ) -> None:
        super().__init__(name="penstock-journal", daemon=True)
        self.work: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._open_file = open_file
        self._path = path
        self._opened = opened
        self._ended = ended
        self._tell = tell
        self._is_stopping = False
        self._failure: JournalError | None = None

    def run(self) -> None:
        """Open the file, serve, close it."""
        try:
            file = self._open_file()
        except Exception as error:
            self._tell([Answer(self._opened, journal_failure(error, self._path)), Answer(self._ended, None)], None)
            return
        self._tell([Answer(self._opened, file)], None)
        try:
            while not self._is_stopping:
                self._serve(file)
        finally:
            if self._failure is None:
                self._guard(file.sync)  # SQLite does it only where no reader is left
            self._guard(file.close)
            self._tell([Answer(self._ended, None)], self._failure)

    def _serve(self, file: JournalFile) -> None:
        work: list[Work] = []
        answers: list[Answer] = []
        try:
            work = self._take(file.sync_in())
        except Empty:
            self._guard(file.sync)
        if self._failure is None:
            self._guard(self._transact, file, work, answers)
        if self._failure is not None:
            answers = [answer for item in work for answer in item.failed(self._failure)]
        self._tell(answers, self._failure)

    def _take(self, wait_s: float | None) -> list[Work]:
        """What was given, or what is given next.

        Raises:
            Empty: Nothing came in time.
        """
        work: list[Work] = []
        given = self.work.get(timeout=wait_s)
        while given is not None:
            work += given
            if len(work) >= _TRANSACTION or self.work.empty():
                return work
            given = self.work.get()
        self._is_stopping = True
        return work

    def _guard(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._failure = self._failure or journal_failure(error, self._path)

    def _transact(self, file: JournalFile, work: list[Work], answers: list[Answer]) -> None:
        file.begin()
        for item in work:
            answers += item.answers()
        file.commit()
