"""How far a benchmark is, in words. Values in, values out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..bench.load_words import stage_words
from ..bench.loads import Ramp, Replay
from ..bench.progress import Progress
from ..bench.recording import Stage

_WINDOW_S = 5.0  # that rates look back: they are seen to change, and do not flicker


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a run.

    Args:
        stage: What runs.
        number: Of it, from 1.
        of: How many there are. `None` when that is not known, as in a search.
        seconds: Since it began.
        progress: Counts of it.
        requests_per_s, events_per_s: Over the last seconds.
    """

    stage: Stage
    number: int
    of: int | None
    seconds: float
    progress: Progress
    requests_per_s: float
    events_per_s: float

    @property
    def share(self) -> float:
        """How much of the stage is over, 0 to 1."""
        load, until = self.stage.load, self.stage.until
        shares = [0.0]
        if until.requests is not None:
            shares.append((self.progress.completed + self.progress.failed) / until.requests)
        if until.duration_s is not None:
            shares.append(self.seconds / until.duration_s)
        elif isinstance(load, Ramp):
            shares.append(self.seconds / load.over_s)
        elif isinstance(load, Replay):
            shares.append((self.progress.completed + self.progress.failed) / len(load.moments_s))
        return min(1.0, max(shares))

    def stage_line(self) -> str:
        """Which stage, and how far it is."""
        of = "" if self.of is None else f" of {self.of}"
        return f"{stage_words(self.stage)} ({self.number}{of}), {self.share:.0%}, {self.seconds:.0f} s"

    def work_line(self) -> str:
        """What it counts."""
        progress = self.progress
        parts = [f"{progress.completed:,} done", f"{progress.running:,} running"]
        if progress.failed:
            parts.append(f"{progress.failed:,} failed")
        if progress.held_back:
            parts.append(f"{progress.held_back:,} held back")
        return ", ".join([*parts, f"{self.requests_per_s:,.1f} requests/s", f"{self.events_per_s:,.0f} events/s"])


class Watch:
    """Makes snapshots of a run, one after another.

    Args:
        of: How many stages there are. `None` when that is not known.
    """

    def __init__(self, of: int | None) -> None:
        self._of = of
        self._number = 0
        self._began = 0.0
        self._stale = Progress()
        self._seen: deque[tuple[float, int, int]] = deque()

    def read(self, stage: Stage, number: int, progress: Progress, now: float) -> Snapshot:
        """A snapshot.

        Args:
            stage: That runs.
            number: Of it, from 1.
            progress: What the processes last told; for a moment it is of the stage before.
            now: Seconds of any monotonic clock.
        """
        if number != self._number:
            self._number, self._began, self._stale = number, now, progress
            self._seen.clear()
        if number > 1 and progress == self._stale:
            progress = Progress()
        done = progress.completed + progress.failed
        self._seen.append((now, done, progress.events))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        then, done_then, events_then = self._seen[0]
        span = max(now - then, 1e-9)
        return Snapshot(
            stage,
            number,
            self._of,
            now - self._began,
            progress,
            max(0, done - done_then) / span,
            max(0, progress.events - events_then) / span,
        )
