"""A process of `penstock.engine.bench.worker`, started here: messages go to it and come from it over its pipes.

It is started with the interpreter that runs this, and not with `multiprocessing`, which would run the caller's main
module again in it. It is in a session of its own: Ctrl-C at a terminal goes to the program that asked for the run,
which decides, and not to a process that is still importing and would die of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys

from .hand import HandLostError

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
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock.engine.bench.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return cls(process)

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

    async def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_S)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
