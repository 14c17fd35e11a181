"""Running the command line: in this process, and as a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

OWN_VARIABLES = ("NO_COLOR", "NVIDIA_API_KEY", "OPENAI_API_KEY", "PENSTOCK_MODEL", "TERM")
"""What the environment may set and a test wants to say itself."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, and what it wrote."""

    code: int | None
    out: str
    err: str

    @property
    def json_lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.out.splitlines()]


@asynccontextmanager
async def process(
    *arguments: str,
    stdin: int = asyncio.subprocess.PIPE,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m penstock`` with these arguments; killed when it is not over at the end."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock",
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment(env or {}),
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def finish(started: asyncio.subprocess.Process, stdin: bytes | None = None) -> Result:
    """Wait for the end of a process."""
    out, err = await asyncio.wait_for(started.communicate(stdin), 30.0)
    return Result(started.returncode, (out or b"").decode(), err.decode())


def environment(more: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES} | dict(more)


async def on_terminal(*arguments: str, **variables: str) -> tuple[int | None, str]:
    """A command whose stderr is a terminal: its exit code, and what was written there."""
    import pty  # which Windows has not

    own, its = pty.openpty()
    try:
        async with process(*arguments, stderr=its, env={"TERM": "xterm", "COLUMNS": "100", **variables}) as started:
            os.close(its)
            written = await asyncio.to_thread(_read_all, own)
            await asyncio.wait_for(started.communicate(), 30)
        return started.returncode, written
    finally:
        os.close(own)


def _read_all(descriptor: int) -> str:
    data = b""
    with suppress(OSError):  # how a terminal ends on Linux
        while piece := os.read(descriptor, 65536):
            data += piece
    return data.decode()
