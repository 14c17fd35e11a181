"""One process of a run, started by `penstock.engine.bench.worker_process`, with which it talks over its pipes.

    python -m penstock.engine.bench.worker

It ends when its standard input does, so that it does not outlive who started it; and when that one is gone, also where
its own loop is too busy to hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import pickle
import signal
import sys
import threading
import time
from typing import Any

from .alone import Alone
from .calibration import calibrate
from .loads import Load
from .plan import Plan
from .worker_process import LENGTH

_PROGRESS_S = 0.25
_LOOK_S = 1.0  # between two looks at whether who started this is still there


class _Talk:
    """What this process hears and says."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._reader = asyncio.StreamReader()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin)

    async def hear(self) -> tuple[Any, ...] | None:
        """The next message; `None` at the end."""
        try:
            size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
            message: tuple[Any, ...] = pickle.loads(await self._reader.readexactly(size))
            return message
        except asyncio.IncompleteReadError:
            return None

    def say(self, kind: str, value: Any = None) -> None:
        """Blocks while the pipe is full, which progress never makes it."""
        data = pickle.dumps((kind, value))
        view = memoryview(LENGTH.pack(len(data)) + data)
        while view:
            view = view[os.write(self._out, view) :]


async def _serve(out: int) -> None:
    talk = _Talk(out)
    await talk.start()
    crew: Alone | None = None
    running: asyncio.Task[None] | None = None
    try:
        while (message := await talk.hear()) is not None:
            kind, *arguments = message
            if kind == "start":
                crew = await _started(talk, *arguments)
            elif kind == "run" and crew is not None:
                running = asyncio.ensure_future(_run(talk, crew, *arguments))
            elif kind == "calibrate":
                running = asyncio.ensure_future(_calibrate(talk, *arguments))
            elif kind == "stop" and crew is not None:
                crew.stop()
    finally:
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        if crew is not None:
            await crew.close()


async def _started(talk: _Talk, plan: Plan, number: int, count: int, core: int | None) -> Alone | None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    crew = Alone(plan, worker=number, workers=count)
    try:
        await crew.start()
    except Exception as error:
        talk.say("failed", error)
        return None
    gc.collect()
    gc.freeze()  # all that is there stays: collections while requests run have less to go through
    talk.say("ready")
    return crew


async def _run(talk: _Talk, crew: Alone, *arguments: Any) -> None:
    telling = asyncio.ensure_future(_tell(talk, crew))
    try:
        record = await crew.run(*arguments)
    except Exception as error:
        talk.say("failed", error)
        return
    finally:
        telling.cancel()
    talk.say("progress", crew.progress())
    talk.say("record", record)


async def _calibrate(talk: _Talk, load: Load) -> None:
    try:
        talk.say("calibration", await calibrate(load))
    except Exception as error:
        talk.say("failed", error)


async def _tell(talk: _Talk, crew: Alone) -> None:
    """Tell how far it is, now and then."""
    while True:
        await asyncio.sleep(_PROGRESS_S)
        talk.say("progress", crew.progress())


def _end_with(parent: int) -> None:
    """End this process when it is another's child."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def _main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; who started us decides
    out = os.dup(1)
    os.dup2(2, 1)  # what others print is no message
    is_faster = importlib.util.find_spec("uvloop") is not None
    new_loop = importlib.import_module("uvloop").new_event_loop if is_faster else asyncio.new_event_loop
    loop = new_loop()
    try:
        loop.run_until_complete(_serve(out))
    except BrokenPipeError:
        os._exit(1)  # nobody is there to tell
    finally:
        loop.close()


if __name__ == "__main__":
    _main()
