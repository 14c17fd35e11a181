"""Do 20,000 streams, a fifth of them with a fault, at 500 at a time, lose nothing, run nothing twice and leak nothing?

Against `soak_server.py`, in a process of its own, through sockets. The server's books, not the client's, say how often
a model ran and which connections are open. Exits with 1 when a promise is broken. Needs Linux, for its ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from harness import HERE, pin, report
from soak_server import PACE, PIECES

from penstock import Backoff, ModelEngine, Retry, RetryBudget, Timeouts, default_stack

ANSWER = "an answer"
OUTCOMES = {  # by fault: what the caller may get
    "none": (ANSWER,),
    "429": (ANSWER,),
    "503": (ANSWER,),
    "reset before the head": (ANSWER,),
    "reset mid-stream": ("StreamTruncatedError",),
    "cut": ("StreamTruncatedError",),
    "truncation": ("StreamTruncatedError",),
    "stall": ("IdleTimeoutError",),
    "error event": ("ServerError",),
    "garbage frame": ("MalformedResponseError",),
    "cancelled": ("cancelled", ANSWER),  # it may have been too late
    "abandoned": ("abandoned",),
}
FAULTS = [fault for fault in OUTCOMES if fault != "none"]
IDLE = 0.5  # seconds, where the server falls silent
GRACE = 45.0  # seconds in which kept connections are closed; aiohttp does so after 15, and looks every 15
PATIENCE = 60.0  # seconds without bytes elsewhere: longer than this machine can be busy
MOST_GROWTH = 0.05  # of the memory, from 25 % to 75 % of the run
LONGEST = 120.0  # seconds for one stream, whatever clock fails


@dataclass
class Run:
    """What came of it.

    Args:
        outcomes: Streams by fault and outcome.
        sizes: Resident memory in MiB, each time a hundredth of the streams was over.
        complaints: What the event loop had to say.
        over: Streams that have ended.
        seconds: How long all streams took.
        books: The server's, after all of it.
        leaked: Descriptors that are open at the end and were not at the start.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    sizes: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    over: int = 0
    seconds: float = 0.0
    books: dict[str, int] = field(default_factory=dict)
    leaked: int = 0

    @property
    def lost(self) -> int:
        """Streams that ended otherwise than their fault allows."""
        return sum(count for (fault, outcome), count in self.outcomes.items() if outcome not in OUTCOMES[fault])

    @property
    def endless(self) -> int:
        """Streams that had to be ended from outside."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == "TimeoutError")

    def around(self, part: float) -> float:
        """The memory at this part of the run: the median of a tenth of it."""
        middle = round(part * len(self.sizes))
        return statistics.median(self.sizes[max(0, middle - 5) : middle + 5])


class Soak:
    """One engine, and what it is asked.

    Args:
        random: Decides which stream has which fault, and which call is cancelled when.
    """

    def __init__(self, engine: ModelEngine, options: argparse.Namespace, random: random.Random) -> None:
        self.run = Run()
        self._engine = engine
        self._streams: int = options.streams
        self._concurrency: int = options.concurrency
        self._faults: float = options.faults
        self._random = random

    async def play(self) -> None:
        streams, started = self._plan(), time.perf_counter()
        await asyncio.gather(*(self._work(streams) for _ in range(self._concurrency)))
        self.run.seconds = time.perf_counter() - started

    def _plan(self) -> Iterator[tuple[int, str, float]]:
        """Number and fault of each stream, and the seconds after which it is cancelled, if it is."""
        for number in range(self._streams):
            fault = self._random.choice(FAULTS) if self._random.random() < self._faults else "none"
            yield number, fault, self._random.uniform(0, 3 * PACE * PIECES)

    async def _work(self, streams: Iterator[tuple[int, str, float]]) -> None:
        for number, fault, delay in streams:
            self.run.outcomes[fault, await self._outcome(number, fault, delay)] += 1
            self.run.over += 1
            if self.run.over % max(1, self._streams // 100) == 0:
                self.run.sizes.append(resident())

    async def _outcome(self, number: int, fault: str, delay: float) -> str:
        task = asyncio.ensure_future(self._abandon(number) if fault == "abandoned" else self._read(number, fault))
        if fault == "cancelled":
            asyncio.get_running_loop().call_later(delay, task.cancel)
        try:
            return await asyncio.wait_for(task, LONGEST)
        except asyncio.CancelledError:
            return "cancelled"
        except Exception as error:
            return type(error).__name__

    async def _read(self, number: int, fault: str) -> str:
        idle = IDLE if fault == "stall" else PATIENCE
        timeouts = Timeouts(connect=PATIENCE, first_event=PATIENCE, idle=idle)
        async with self._engine.stream_call(f"{number} {fault}", timeouts=timeouts) as stream:
            said = [chunk.delta_content or "" async for chunk in stream]
        return ANSWER if "".join(said) == "".join(f"{number}:{place} " for place in range(PIECES)) else "another text"

    async def _abandon(self, number: int) -> str:
        stream = self._engine.stream_call(f"{number} abandoned", timeouts=Timeouts(connect=PATIENCE))
        async for _ in stream:
            break
        return "abandoned"


async def soaked(url: str, options: argparse.Namespace) -> Run:
    """Start an engine, play all of it, stop the engine."""
    retry = Retry(backoff=Backoff(0.01, 0.01, 0.05), budget=RetryBudget(math.inf))  # there is trouble on purpose
    async with ModelEngine("soak", base_url=url, api_key="sk-soak", middleware=default_stack(retry=retry)) as engine:
        soak = Soak(engine, options, random.Random(options.seed))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: soak.run.complaints.append(str(context["message"])))
        await soak.play()
        # Kept connections time out by and by, though the engine goes on; one that nobody gave back would stay.
        soak.run.books = await asyncio.to_thread(books_of, url)
    await asyncio.sleep(0)
    soak.run.complaints += [f"a task is pending: {task!r}" for task in asyncio.all_tasks() - {asyncio.current_task()}]
    return soak.run


@contextmanager
def soak_server() -> Iterator[str]:
    """The URL of the server, in a process and on a core of its own."""
    with subprocess.Popen([sys.executable, str(HERE / "soak_server.py")], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def resident() -> float:
    """Resident memory of this process, in MiB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def books_of(url: str) -> dict[str, int]:
    """The server's books, once it has seen every connection end, or `GRACE` seconds have passed."""
    end = time.monotonic() + GRACE
    while True:
        with urllib.request.urlopen(f"{url}/books") as answer:
            books: dict[str, int] = json.load(answer)
        if books["open"] == 0 or time.monotonic() > end:
            return books
        time.sleep(0.5)


def print_outcomes(run: Run) -> None:
    print(f"{'fault':24}{'streams':>8}  outcomes")
    for fault in OUTCOMES:
        counts = {outcome: count for (each, outcome), count in sorted(run.outcomes.items()) if each == fault}
        print(f"{fault:24}{sum(counts.values()):>8}  {', '.join(f'{name} {count}' for name, count in counts.items())}")


def broken_promises(run: Run) -> dict[str, int]:
    """How often each promise was broken; in order of the table."""
    return {
        "streams that ended otherwise than their fault allows": run.lost,
        f"streams that did not end within {LONGEST:g} s": run.endless,
        "calls that ran more than once": run.books["executed_twice"],
        "connections open at the server, the engine still running": run.books["open"],
        "descriptors more than before": run.leaked,
        "complaints of the event loop, pending tasks": len(run.complaints),
    }


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--faults", type=float, default=0.2, help="part of the streams that has one")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    warnings.filterwarnings("ignore", "<ChatStream", ResourceWarning)  # of the abandoned streams
    pin(0)
    with soak_server() as url:
        before = descriptors()
        run = asyncio.run(soaked(url, options))
        run.leaked = descriptors() - before
    early, late = run.around(0.25), run.around(0.75)
    growth = late / early - 1
    print(f"python {sys.version.split()[0]}, aiohttp {aiohttp.__version__}, {vars(options)}")
    print_outcomes(run)
    broken = broken_promises(run)
    for promise, count in broken.items():
        print(f"{promise:60}{count}")
    print(f"{'memory at 25 % and at 75 % of the run':60}{early:.1f} MiB, {late:.1f} MiB: {growth:+.1%}")
    print(
        f"{'time':60}{run.seconds:.0f} s, {run.books['requests']:,} requests, {run.books['connections']:,} connections"
    )
    print(*run.complaints[:10], sep="\n", end="")
    report("soak", {"streams": run.over, "lost": run.lost, "seconds": run.seconds, "growth": growth, **run.books})
    return int(any(broken.values()) or growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
