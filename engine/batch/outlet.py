"""Where results leave the pipeline: once they may be given out, and in the order that was asked for."""

from __future__ import annotations

import asyncio
from collections import deque

from .results import BatchResult

Entry = tuple["asyncio.Future[None] | None", BatchResult]
"""A result, and what is done when it is in the journal. `None` when it does not have to be."""


class Outlet:
    """Holds results until somebody takes them.

    How many it holds is bounded where rows are read: no more are read than may be under way and held here together.

    Args:
        is_ordered: Whether results leave in the order in which their rows were read.
    """

    def __init__(self, *, is_ordered: bool) -> None:
        self._ready: deque[Entry] = deque()
        self._held: dict[int, Entry] | None = {} if is_ordered else None
        self._next = 0
        self._is_closed = False
        self._arrival: asyncio.Future[None] | None = None

    @property
    def has_ready(self) -> bool:
        """Whether the next result is there and needs no wait."""
        if not self._ready:
            return False
        committed, _ = self._ready[0]
        return committed is None or committed.done()

    def put(self, number: int, result: BatchResult, committed: asyncio.Future[None] | None = None) -> None:
        """A row has its result."""
        if self._held is None:
            self._ready.append((committed, result))
        else:
            self._held[number] = (committed, result)
            while (entry := self._held.pop(self._next, None)) is not None:
                self._ready.append(entry)
                self._next += 1
        self._wake()

    def close(self) -> None:
        """No result comes any more. Those that waited for one before them leave without it."""
        self._is_closed = True
        if self._held:
            self._ready.extend(self._held[number] for number in sorted(self._held))
            self._held.clear()
        self._wake()

    async def take(self) -> BatchResult | None:
        """The next result, in the journal if it has to be. `None` after the last.

        Raises:
            JournalError: It could not be written down.
        """
        while not self._ready:
            if self._is_closed:
                return None
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        committed, result = self._ready.popleft()
        if committed is not None:
            await committed
        return result

    def drop(self) -> None:
        """Forget what nobody has taken."""
        entries = [*self._ready, *(self._held or {}).values()]
        self._ready.clear()
        for committed, _ in entries:
            if committed is not None and not committed.cancel() and not committed.cancelled():
                committed.exception()  # seen: whoever the failure concerns has been told

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done() and (self._ready or self._is_closed):
            self._arrival.set_result(None)
