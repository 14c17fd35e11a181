"""A process of a run on another machine: what is there to start it, and to pass on what it hears and says.

The requests are made by a process of its own as they are on one machine, and not by the one that Ray has begun, whose
threads would be in what is measured. Knows nothing of Ray.
"""

from __future__ import annotations

import asyncio
import time

from ..ray_facts import Facts
from .hand import HandLostError
from .worker_process import WorkerProcess


class RayOutpost:
    """Starts a process, and passes messages on. They are bytes: no log and no error of Ray shows what they say."""

    def __init__(self) -> None:
        self._process: WorkerProcess | None = None
        self._reading: asyncio.Task[bytes] | None = None

    async def start(self) -> Facts | str:
        """Start the process. What failed is returned: raised, it would stand in a log with its traceback."""
        try:
            self._process = await WorkerProcess.started()
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return Facts.here()

    async def clock(self) -> int:
        """`time.monotonic_ns` of this machine."""
        return time.monotonic_ns()

    async def tell(self, data: bytes) -> None:
        """Pass a message on to the process."""
        assert self._process is not None
        self._process.write(data)
        await self._process.drain()

    async def hear(self, within: float) -> bytes | str:
        """The next message of the process. Empty when none came within so many seconds, a text when it has ended."""
        assert self._process is not None
        if self._reading is None:  # kept while nobody waits: a message that is half read is not begun again
            self._reading = asyncio.ensure_future(self._process.read())
        await asyncio.wait([self._reading], timeout=within)
        if not self._reading.done():
            return b""
        reading, self._reading = self._reading, None
        try:
            return reading.result()
        except HandLostError as gone:
            return str(gone)

    async def stop(self) -> None:
        """End the process."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._process is not None:
            await self._process.close()
