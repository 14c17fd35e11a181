"""How late this client itself is, measured while it measures.

Bytes that arrive while the event loop is busy are seen when it is free again, and what looks like a slow server is a
slow client. Therefore the loop is asked every few milliseconds whether it comes in time. A loop that was blocked for a
second missed a hundred of these questions, and all of them are counted, each with how late it was: counting the one
that was answered would say that one question in many was late, when the loop was blocked for half of the time.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass, field
from typing import Any

from .alarm import Alarm
from .histogram import Histogram

PERIOD_NS = 10_000_000  # a hundred wake-ups a second cost 1.3 % of a core that is idle otherwise; at 5 ms it was 2.2 %
BIN_NS = 100_000_000
MOST_BINS = 1200  # two minutes by tenths of a second; then two bins become one
MOST_PAUSES = 1000  # that are kept one by one
SHORTEST_PAUSE_NS = 500_000


@dataclass(slots=True)
class LagBin:
    """A stretch of the run.

    Args:
        at: Where it begins, in nanoseconds from the start of the run.
        span: How long it is.
        worst: The latest that the loop came in it, in nanoseconds.
        cpu: Nanoseconds of CPU time that this process used in it.
    """

    at: int
    span: int
    worst: int = 0
    cpu: int = 0


@dataclass(slots=True)
class Lag:
    """How late a process was, in one stage.

    Args:
        began, ended: In nanoseconds from the start of the run.
        loop_delay: How late the loop came, asked every `PERIOD_NS`.
        bins: The same over time.
        pauses: Collections of garbage, all of them: how long each stopped everything.
        longest_pauses: When, how long and of which generation: those of half a millisecond or more, the first thousand.
        cpu: Nanoseconds of CPU time of the process, all threads.
        starved: Nanoseconds in which the thread of the loop could have run and had no core. `None` where the
            system does not tell.
    """

    began: int = 0
    ended: int = 0
    loop_delay: Histogram = field(default_factory=Histogram)
    bins: list[LagBin] = field(default_factory=list)
    pauses: Histogram = field(default_factory=Histogram)
    longest_pauses: list[tuple[int, int, int]] = field(default_factory=list)
    cpu: int = 0
    starved: int | None = None

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu / max(1, self.ended - self.began)

    @property
    def starved_share(self) -> float | None:
        """Of the time of the stage."""
        return None if self.starved is None else self.starved / max(1, self.ended - self.began)


class LagMeter:
    """Measures the running loop from `start` to `stop`.

    Args:
        origin: The start of the run, by `time.monotonic_ns`.
    """

    def __init__(self, origin: int) -> None:
        self._origin = origin
        self.lag = Lag()
        self._alarm: Alarm | None = None
        self._due = 0
        self._bin_ns = BIN_NS
        self._bin_cpu = 0
        self._cpu = 0
        self._starved: int | None = None
        self._pause_began = 0

    def start(self) -> None:
        now = time.monotonic_ns()
        self.lag.began = now - self._origin
        self._cpu = self._bin_cpu = time.process_time_ns()
        self._starved = starved_ns()
        gc.callbacks.append(self._collected)
        self._alarm = Alarm()
        self._due = now + PERIOD_NS
        self._alarm.set(self._due, self._asked)

    def stop(self) -> Lag:
        """The measurements. Twice gives the same."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
            gc.callbacks.remove(self._collected)
            now = time.monotonic_ns()
            self._note(now)  # a loop that is blocked to the end is blocked nevertheless
            self.lag.ended = now - self._origin
            cpu = time.process_time_ns()
            self.lag.cpu = cpu - self._cpu
            if self.lag.bins:
                self.lag.bins[-1].cpu += cpu - self._bin_cpu
            after = starved_ns()
            self.lag.starved = None if after is None or self._starved is None else after - self._starved
        return self.lag

    def _asked(self) -> None:
        self._note(time.monotonic_ns())
        if self._alarm is not None:
            self._alarm.set(self._due, self._asked)

    def _note(self, now: int) -> None:
        """Count every question that was due."""
        late = now - self._due
        while late >= 0:
            self.lag.loop_delay.record(late)
            self._note_bin(self._due - self._origin, late)
            self._due += PERIOD_NS
            late -= PERIOD_NS

    def _note_bin(self, at: int, late: int) -> None:
        bins = self.lag.bins
        if not bins or at >= bins[-1].at + bins[-1].span:
            cpu = time.process_time_ns()
            if bins:
                bins[-1].cpu += cpu - self._bin_cpu
                self._bin_cpu = cpu
            if len(bins) >= MOST_BINS:
                self._bin_ns *= 2
                self.lag.bins = bins = _halved(bins)
            bins.append(LagBin(at, self._bin_ns))
        if late > bins[-1].worst:
            bins[-1].worst = late

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        if phase == "start":
            self._pause_began = now
            return
        if not self._pause_began:
            return  # it began before we did
        pause = now - self._pause_began
        self.lag.pauses.record(pause)
        if pause >= SHORTEST_PAUSE_NS and len(self.lag.longest_pauses) < MOST_PAUSES:
            self.lag.longest_pauses.append((self._pause_began - self._origin, pause, int(info["generation"])))


def starved_ns() -> int | None:
    """How long this process was ready to run and had no core, since it began. `None` where that is not told."""
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return None


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever had resident. `None` where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None


def most_open_files() -> int:
    """Let this process have as many open files as it may. Returns how many; each connection is one."""
    if os.name != "posix":
        return 512  # what the C runtime of Windows allows
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def _halved(bins: list[LagBin]) -> list[LagBin]:
    """Two bins as one each."""
    pairs = [bins[at : at + 2] for at in range(0, len(bins), 2)]
    return [
        LagBin(pair[0].at, sum(each.span for each in pair), max(each.worst for each in pair), sum(e.cpu for e in pair))
        for pair in pairs
    ]
