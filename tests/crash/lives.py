"""Begins lives of a batch in other processes, and kills them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ..project import ROOT

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE_S = 60.0  # for a life that nobody kills
KEYS = ("OPENAI_API_KEY", "NVIDIA_API_KEY", "MODELGOV_API_KEY", "ATRIUM_API_KEY")
ENVIRONMENT = {**os.environ, **dict.fromkeys(KEYS, "sk-crash"), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Birth:
    """What a life begins with.

    Args:
        arguments: Of ``penstock``.
        log: Where stdout and stderr go: files of this name, with ``.out`` and ``.err`` behind it.
        step, nth: Where it kills itself, see `steps`. `None` is nowhere.
        without: A defence it has to do without, see `removals`.
        largest_file: Bytes that a file of it may have.
    """

    arguments: Sequence[str]
    log: Path
    step: str | None = None
    nth: int = 1
    without: str | None = None
    largest_file: int | None = None


class Life:
    """A process that runs a batch.

    Args:
        pid: Its number, which stays its own until the next life begins.
        ending: Its exit code, below 0 when a signal ended it.
    """

    def __init__(self, pid: int, ending: asyncio.Future[int]) -> None:
        self._pid = pid
        self.ending = ending

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.ending.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    async def end(self) -> int:
        """Wait for its end. One that takes too long is killed.

        Raises:
            TimeoutError: It was.
        """
        try:
            return await asyncio.wait_for(asyncio.shield(self.ending), PATIENCE_S)
        except asyncio.TimeoutError:
            self.send(signal.SIGKILL)
            await self.ending
            raise TimeoutError(f"a batch was not done within {PATIENCE_S:g} s") from None


class Midwife(Protocol):
    """Begins lives, one after the other."""

    async def begin(self, birth: Birth) -> Life: ...


class Command:
    """Begins lives as users do: an interpreter for each.

    Args:
        tracer: What the first life is run under.
    """

    def __init__(self, tracer: Sequence[str] = ()) -> None:
        self._tracer = tracer

    async def begin(self, birth: Birth) -> Life:
        assert (birth.step, birth.without, birth.largest_file) == (None, None, None)
        with birth.log.with_suffix(".out").open("wb") as out, birth.log.with_suffix(".err").open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                *(*self._tracer, sys.executable, "-m", "penstock", *birth.arguments),
                stdout=out,
                stderr=err,
                env=ENVIRONMENT,
                cwd=ROOT,
            )
        self._tracer = ()
        return Life(process.pid, asyncio.ensure_future(process.wait()))


def killed_at(call: str, nth: int) -> Command:
    """Begins lives, the first of which is killed as it comes to a system call for the nth time. Needs strace."""
    what = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}")
    return Command(("strace", "--follow-forks", "--output=/dev/null", *what))


class Nursery:
    """Begins lives in children of a process that has everything loaded."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._is_used = False

    async def begin(self, birth: Birth) -> Life:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        told = {**vars(birth), "arguments": list(birth.arguments)}
        log = told.pop("log")
        told |= {"stdout": str(log.with_suffix(".out")), "stderr": str(log.with_suffix(".err"))}
        process.stdin.write((b"next\n" if self._is_used else b"") + json.dumps(told).encode() + b"\n")
        self._is_used = True
        pid = int(await process.stdout.readline())
        return Life(pid, asyncio.ensure_future(_number(process.stdout)))

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crash.nursery"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        await self._process.communicate(b"")  # the end of its stdin ends it


async def _number(stream: asyncio.StreamReader) -> int:
    return int(await stream.readline())
