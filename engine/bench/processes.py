"""Processes that a run starts on its machine, and how they end.

They are started with the interpreter that runs this, and not with `multiprocessing`, which would run the caller's main
module again in each. They are in sessions of their own: Ctrl-C at a terminal goes to the program that asked for the
run, which decides, and not to a process that is still importing and would die of it, with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys


async def start_process(module: str) -> asyncio.subprocess.Process:
    """Start a module of ours, whose standard input and output are pipes. It can import what this process can.

    Raises:
        OSError: It did not start.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


async def end_process(process: asyncio.subprocess.Process, within_s: float) -> None:
    """End it by the end of its standard input, and by force after so many seconds. 0 is at once, for one that is not
    ready: while it imports it hears of nothing.
    """
    assert process.stdin is not None
    process.stdin.close()
    if within_s:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), within_s)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
