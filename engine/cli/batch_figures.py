"""How far a batch is, in figures: for a line of JSON, and for a person. Values in, values out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..batch.counters import BatchProgress

_WINDOW = 30.0  # seconds that rates look back: long enough for slow models, short enough to show a stall
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in one currency that is not named. `None` where it was not said."""

    input: float | None = None
    output: float | None = None

    def of(self, progress: BatchProgress) -> float | None:
        """What the tokens of this run cost. `None` without a price."""
        if self.input is None and self.output is None:
            return None
        spent = progress.input_tokens * (self.input or 0.0) + progress.output_tokens * (self.output or 0.0)
        return spent / _MILLION


@dataclass(frozen=True, slots=True)
class Figures:
    """One moment of a batch.

    Args:
        progress: What the batch counts.
        rows: Rows in all, as far as can be told. `None` when it cannot.
        is_estimate: Whether `rows` is a guess.
        rows_per_s, tokens_per_s: Over the last half a minute; tokens of prompts and answers together.
        estimated_cost: By the price that was given. `None` without one.
    """

    progress: BatchProgress
    rows: int | None
    is_estimate: bool
    rows_per_s: float
    tokens_per_s: float
    estimated_cost: float | None

    @property
    def settled(self) -> int:
        """Rows that are over."""
        return self.progress.done + self.progress.failed

    @property
    def share(self) -> float | None:
        """How much of the rows is settled, 0 to 1. `None` when the rows are not known."""
        if self.rows is None:
            return None
        return min(1.0, self.settled / self.rows) if self.rows else 1.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the present rate. `None` when that cannot be told."""
        if self.rows is None or not self.rows_per_s:
            return None
        return max(0.0, self.rows - self.settled) / self.rows_per_s

    def to_json(self) -> dict[str, Any]:
        """For a program. Every field is always there; `None` where it is not known."""
        progress = self.progress
        return {
            "seconds": round(progress.seconds, 3),
            "rows": self.rows,
            "rows_is_estimate": self.is_estimate,
            "read": progress.read,
            "done": progress.done,
            "failed": progress.failed,
            "from_journal": progress.from_journal,
            "in_flight": progress.in_flight,
            "queued": progress.queued,
            "waiting": progress.waiting,
            "concurrency": progress.lanes,
            "requests": progress.requests,
            "retries": progress.retries,
            "in_doubt": progress.in_doubt,
            "possibly_duplicated": progress.possibly_duplicated,
            "rows_per_s": round(self.rows_per_s, 3),
            "tokens_per_s": round(self.tokens_per_s, 3),
            "input_tokens": progress.input_tokens,
            "output_tokens": progress.output_tokens,
            "cost": dict(progress.cost),
            "estimated_cost": self.estimated_cost,
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "errors": dict(progress.errors),
        }

    def rows_line(self) -> str:
        """Rows, their rate, and when it is over."""
        of = "" if self.rows is None else f" of {'about ' if self.is_estimate else ''}{self.rows:,}"
        share = "" if self.share is None else f" ({self.share:.0%})"
        parts = [f"{self.settled:,}{of} rows{share}", f"{self.rows_per_s:,.1f} rows/s"]
        if self.eta_s is not None:
            parts.append(f"{clock(self.eta_s)} left")
        if self.progress.failed:
            parts.append(f"{self.progress.failed:,} failed")
        if self.progress.from_journal:
            parts.append(f"{self.progress.from_journal:,} from the journal")
        return ", ".join(parts)

    def work_line(self) -> str:
        """What is under way, and what it took."""
        progress = self.progress
        parts = [f"{progress.in_flight:,} in flight, {progress.queued:,} queued"]
        if progress.waiting:
            parts.append(f"{progress.waiting:,} waiting to be tried again")
        if progress.retries:
            parts.append(f"{progress.retries:,} retries")
        if progress.input_tokens or progress.output_tokens:
            tokens = f"{amount(progress.input_tokens)} tokens in, {amount(progress.output_tokens)} out"
            parts.append(f"{tokens}, {self.tokens_per_s:,.0f}/s")
        if cost := told_cost(progress.cost, self.estimated_cost):
            parts.append(cost)
        return ", ".join(parts)


class Meter:
    """Makes figures from what a batch counts. Its rates are those of the moments it was asked at."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self._moments: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])

    def read(self, progress: BatchProgress, rows: float | None, is_estimate: bool) -> Figures:
        """The figures of this moment. `rows` are those in all, `None` when that is not known."""
        settled = progress.done + progress.failed - progress.from_journal
        tokens = progress.input_tokens + progress.output_tokens
        self._moments.append((progress.seconds, settled, tokens))
        while len(self._moments) > 2 and self._moments[1][0] <= progress.seconds - _WINDOW:
            self._moments.popleft()
        since, settled_then, tokens_then = self._moments[0]
        span = progress.seconds - since
        return Figures(
            progress,
            None if rows is None else max(round(rows), progress.done + progress.failed),
            is_estimate,
            (settled - settled_then) / span if span > 0 else 0.0,
            (tokens - tokens_then) / span if span > 0 else 0.0,
            self._price.of(progress),
        )


def told_cost(cost: Mapping[str, float], estimated: float | None) -> str:
    """What it cost as gateways told, else by the price that was given. Empty when nobody knows."""
    if cost:
        return "cost " + ", ".join(f"{value:,.4g} {currency}" for currency, value in cost.items())
    return "" if estimated is None else f"cost about {estimated:,.4g}"


def amount(count: int) -> str:
    """A large number in a few letters: 950, 12.3k, 4.56M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}" if count < unit * 999.5 else f"{count / unit:.0f}{letter}"
    return str(count)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours, minutes and seconds."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
