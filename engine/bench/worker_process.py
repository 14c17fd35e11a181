"""A process of `penstock.engine.bench.worker`, started here: messages go to it and come from it over its pipes."""

from __future__ import annotations

import asyncio
import contextlib
import struct

from .hand import HandLostError
from .processes import end_process, start_process

LENGTH = struct.Struct("!Q")
"""Before each message: how many bytes it has."""

_END_S = 5.0  # for a process to end by itself


class WorkerProcess:
    """A process that runs stages. It ends when its standard input does, so that it does not outlive this one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def started(cls) -> WorkerProcess:
        """Start one. It can import what this process can.

        Raises:
            OSError: It did not start.
        """
        return cls(await start_process("penstock.engine.bench.worker"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, data: bytes) -> None:
        """Give it a message."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():  # it may be gone
            self._process.stdin.write(LENGTH.pack(len(data)) + data)

    async def drain(self) -> None:
        """Wait until what was written is on its way. That it is gone says `read`."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()

    async def read(self) -> bytes:
        """Its next message.

        Raises:
            HandLostError: It has ended.
        """
        assert self._process.stdout is not None
        try:
            size = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))[0]
            return await self._process.stdout.readexactly(size)
        except asyncio.IncompleteReadError:
            raise HandLostError(f"it has ended with code {await self._process.wait()}") from None

    async def close(self, *, at_once: bool = False) -> None:
        """End it: at once, or in order."""
        await end_process(self._process, 0 if at_once else _END_S)
