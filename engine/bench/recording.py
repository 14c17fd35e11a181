"""What a run has measured: of each stage all requests, the gaps of their streams, and how late the client was.

What several processes have recorded adds up without loss: requests are all kept, histograms have the same buckets
everywhere, and the processes of a machine share a clock; those of several machines are put on one time axis. How late
each process was stays by itself: one that was blocked is not excused by seven that were not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .histogram import Histogram
from .lag import Lag
from .loads import Load, Until
from .moments_table import MomentsTable

Ending = Literal["requests", "duration", "schedule", "stopped", "dead", "overrun", "lost"]
"""Why a stage was over.

``requests``, ``duration``: as `Until` says. ``schedule``: the load has an end of its own. ``stopped``: from outside, as
by Ctrl-C. ``dead``: every request failed, see `Patience`. ``overrun``: requests waited too long for a place under the
cap, see `Patience`. ``lost``: a process of the run was lost.
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """One load, and when it is over.

    Args:
        load: Who starts when.
        until: When it is over. May be left out for a load that has an end.
        name: For people. `""` is made of the load.
        is_warm_up: Whether its requests are for nothing but to warm up.
    """

    load: Load
    until: Until = field(default_factory=Until)
    name: str = ""
    is_warm_up: bool = False


@dataclass(slots=True)
class Client:
    """What one process was, in one stage.

    Args:
        worker: Which, from 0.
        lag: How late its event loop was, and why.
        dispatch_delay: How late its requests began, those of open loops that no cap held back; nanoseconds.
        held_back: How late those began that a cap held back.
        cap: The most that it let run at a time: the lanes of a closed loop.
        peak_running: How many ran at a time.
        connections: That it opened.
        peak_memory: Bytes, resident, since the process began. `None` where the system does not tell.
        is_precise: Whether its timer is finer than the milliseconds of event loops.
        host: Name of its machine. `None` is the one that the run was asked for on.
        clock_error: By how many nanoseconds its clock may differ from that one's at most, after all was put on one time
            axis. 0 on the same machine.
    """

    worker: int = 0
    lag: Lag = field(default_factory=Lag)
    dispatch_delay: Histogram = field(default_factory=Histogram)
    held_back: Histogram = field(default_factory=Histogram)
    cap: int = 0
    peak_running: int = 0
    connections: int = 0
    peak_memory: int | None = None
    is_precise: bool = True
    host: str | None = None
    clock_error: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """A process that was lost in a stage, and with it what it had measured.

    Args:
        worker: Which, from 0.
        host: Name of its machine. `None` is the one that the run was asked for on.
        why: How that was seen.
        requests: That were over in it when it was last heard of: at least so many are missing.
    """

    worker: int
    host: str | None
    why: str
    requests: int


@dataclass(slots=True)
class StageRecord:
    """What one stage has measured.

    Args:
        stage: What was asked for.
        position: In the run, from 0.
        began, ended: In nanoseconds from the start of the run; `ended` when the last answer was over.
        ending: Why it was over.
        requests: All of them, in no order.
        gaps: Times between two reads with output of an answer, after one another, in nanoseconds; of completed
            requests, pooled. Events that came in the same read have none: there are ``content_events -
            content_reads`` of them.
        gaps_of_failed: The same of requests that were not completed.
        clients: The processes.
        lost: Those of which nothing is here.
    """

    stage: Stage
    position: int = 0
    began: int = 0
    ended: int = 0
    ending: Ending = "requests"
    requests: MomentsTable = field(default_factory=MomentsTable)
    gaps: Histogram = field(default_factory=Histogram)
    gaps_of_failed: Histogram = field(default_factory=Histogram)
    clients: list[Client] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)

    def add(self, other: StageRecord) -> None:
        """Take in what another process has measured of the same stage."""
        self.began, self.ended = min(self.began, other.began), max(self.ended, other.ended)
        if _WORST_LAST.index(other.ending) > _WORST_LAST.index(self.ending):
            self.ending = other.ending
        self.requests.extend(other.requests)
        self.gaps.add(other.gaps)
        self.gaps_of_failed.add(other.gaps_of_failed)
        self.clients.extend(other.clients)
        self.lost.extend(other.lost)


_WORST_LAST: tuple[Ending, ...] = ("requests", "duration", "schedule", "overrun", "dead", "stopped", "lost")


@dataclass(slots=True)
class Recording:
    """What a run has measured.

    Args:
        started: Seconds since 1970, by the clock of the first process.
        stages: In order; fewer than asked for when the run ended early.
    """

    started: float
    stages: list[StageRecord] = field(default_factory=list)

    @classmethod
    def merged(cls, recordings: Iterable[Recording]) -> Recording:
        """One of what several processes have recorded of the same run."""
        whole: Recording | None = None
        for recording in recordings:
            if whole is None:
                whole = cls(recording.started)
            whole.add(recording)
        if whole is None:
            raise ValueError("there is no recording to merge")
        return whole

    def add(self, other: Recording) -> None:
        """Take in what another process has recorded of the same run."""
        self.started = min(self.started, other.started)
        mine = {record.position: record for record in self.stages}
        for record in other.stages:
            if record.position in mine:
                mine[record.position].add(record)
            else:
                own = StageRecord(record.stage, record.position, record.began, record.ended, record.ending)
                own.add(record)
                self.stages.append(own)
        self.stages.sort(key=lambda record: record.position)
