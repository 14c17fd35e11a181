"""One process of a run, as the one that asked for the run sees it: what it is told, and what it answers.

Messages are bytes made here and in `penstock.engine.bench.worker`, whatever they go over.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from .progress import Progress


class HandLostError(ChildProcessError):
    """A process of a run is gone, or says nothing any more. The text says how that was seen."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The clock of another machine, as seen from here.

    Args:
        offset_ns: What `time.monotonic_ns` says there, less what it says here.
        error_ns: By how much that may be wrong at most. 0 for a process of this machine: it has the same clock.
    """

    offset_ns: int = 0
    error_ns: int = 0

    def error_until(self, later: ClockOffset) -> int:
        """By how much this may be wrong at most from then on until a later comparison: clocks differ in speed."""
        return max(self.error_ns, abs(later.offset_ns - self.offset_ns) + later.error_ns)


class Hand(ABC):
    """A process of a run.

    Args:
        number: Of it, from 0.
        host: Name of its machine. `None` is this one.
    """

    def __init__(self, number: int, host: str | None = None) -> None:
        self.number = number
        self.host = host
        self.progress = Progress()
        """What it last told."""
        self.is_ready = False
        """Whether it has taken up the plan. One that has not is still importing, and has nothing to end in order."""

    @abstractmethod
    async def clock(self) -> ClockOffset:
        """How its clock differs from the one of this process.

        Raises:
            HandLostError: It is gone.
        """

    @abstractmethod
    async def close(self) -> None:
        """End it."""

    @abstractmethod
    def post(self, data: bytes) -> None:
        """Give it a message, and do not wait. Of no effect when it is gone."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Give it a message.

        Raises:
            HandLostError: It is gone.
        """

    @abstractmethod
    async def receive(self) -> bytes:
        """The next message of it.

        Raises:
            HandLostError: It is gone.
        """

    async def ask(self, *message: Any) -> Any:
        """Tell it something, and wait for what it answers; what it tells of its progress meanwhile is kept.

        Raises:
            HandLostError: It is gone.
            Exception: What failed there.
        """
        await self.send(pickle.dumps(message))
        while True:
            kind, value = pickle.loads(await self.receive())
            if kind == "failed":
                raise value
            if kind != "progress":
                return value
            self.progress = value

    def stop(self) -> None:
        """Have it end the stage that runs. Whoever waits for the record gets what was measured."""
        self.post(pickle.dumps(("stop",)))
