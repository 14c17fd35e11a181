"""A program that measures streams, run on a core of its own, with what the server and the system know of the run."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import pin
from peers.base import BenchClient, Load, Marks, Timed
from venvs import PeerVenv

CORE = 0
SAMPLE_S = 1.0  # between two looks at the memory: one takes up to 50 ms of the server's core
ASK_S = 60
ENOUGH = 0.95  # of the requests; guidellm now and then ends one before its end
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchRunError(Exception):
    """A program has not measured what it was asked for."""


@dataclass(frozen=True)
class Run:
    """What became of a run.

    Args:
        load: What was asked for.
        code: The program's exit code.
        timed: What it says of each completed request.
        marks: Where it says that it was behind.
        log: What the server says of each request, in the order of their coming, see `bench_server.Noted`.
        start_s: From the start of the program until the first request was at the server.
        peak_mib: Memory of its processes together, each shared page counted once, the most that was seen. 0 when it was
            not looked at.
        quality: See `results.Results.note`.
    """

    load: Load
    code: int
    timed: list[Timed]
    marks: Marks
    log: list[dict[str, Any]]
    start_s: float
    peak_mib: float
    quality: dict[str, Any]


def run_client(
    peer: PeerVenv, client: BenchClient, url: str, load: Load, *, within: float, is_memory_asked: bool = False
) -> Run:
    """Run a program to its end.

    Args:
        peer: Its environment.
        client: How it is called and read.
        url: The server's.
        load: What to ask for.
        within: Seconds, after which all of its processes are ended.
        is_memory_asked: Whether to look at its memory now and then.

    Raises:
        BenchRunError: It did not end in time, has failed, or did not make all requests.
    """
    _ask(f"{url}/log")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = client.command(Path(peer.python).parent, url, load, folder)
        busy, cpu, began = _core_seconds(), _children_seconds(), time.monotonic_ns()
        with (
            _started(command, {**os.environ, **client.variables}, folder) as process,
            _sampled(process.pid, is_memory_asked) as peak,
        ):
            try:
                code = process.wait(within)
            except subprocess.TimeoutExpired:
                raise BenchRunError(f"it had not ended after {within:g} s") from None
        wall = (time.monotonic_ns() - began) / 1e9
        others = _core_seconds() - busy - (_children_seconds() - cpu)
        server, log = _ask(f"{url}/stats"), _ask(f"{url}/log")
        printed = (folder / "printed").read_text("utf-8", "replace")
        try:
            timed, marks = client.read(folder), client.marks(printed, folder)
        except (OSError, LookupError, ValueError, TypeError) as error:
            last = printed.strip().rpartition("\n")[2]
            raise BenchRunError(
                f"exit code {code}, and nothing to read ({type(error).__name__}): {last:.200}"
            ) from error
    if len(timed) < ENOUGH * load.requests:
        raise BenchRunError(f"exit code {code}, {len(timed)} of {load.requests} requests were completed")
    start_s = (log[0]["received"] - began) / 1e9
    return Run(
        load, code, timed, marks, log, start_s, peak[0], {"server": server, "disturbed": max(0.0, others / wall)}
    )


@contextmanager
def _started(command: list[str], variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process, of which nothing is left afterwards."""
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=variables,
            start_new_session=True,
            preexec_fn=functools.partial(pin, CORE),
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                for each in _tree(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has left behind in its session
            process.wait()


@contextmanager
def _sampled(root: int, is_asked: bool) -> Iterator[list[float]]:
    """The most memory that a process and all it has started have had so far, in MiB, in a list of one."""
    peak = [0.0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            peak[0] = max(peak[0], _memory_mib(root))

    sampling = threading.Thread(target=sample)
    if is_asked:
        sampling.start()
    try:
        yield peak
    finally:
        ended.set()
        if is_asked:
            sampling.join()


def _memory_mib(root: int) -> float:
    """Proportional set sizes of a process and all it has started."""
    kib = 0
    for process in _tree(root):
        with suppress(OSError, StopIteration):  # it has ended
            lines = Path("/proc", str(process), "smaps_rollup").read_text().splitlines()
            kib += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return kib / 1024


def _tree(root: int) -> set[int]:
    """A process, all it has started, and what those have; some have a session of their own."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it has ended
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
    tree, size = {root}, 0
    while len(tree) > size:
        size = len(tree)
        tree |= {process for process, parent in parents.items() if parent in tree}
    return tree


def _core_seconds() -> float:
    """How long the core of the programs has been busy, with whatever."""
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line for line in lines if line.startswith(f"cpu{CORE} ")).split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def _children_seconds() -> float:
    """CPU of all processes that were started here and have ended, with theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=ASK_S) as answer:
        return json.load(answer)
