"""The highest load that still keeps the objectives: doubled until it does not, then halved in between.

Decides and waits for nothing: it gives a stage, is told its record, and gives the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError
from .loads import FASTEST, MOST_AT_A_TIME, MOST_LANES, Arrivals, Closed, Load, Open, Until
from .recording import Stage, StageRecord
from .slo import Slo, good
from .trust import is_client_the_limit

Axis = Literal["rate", "concurrency"]

_MOST_STAGES = 32  # fifteen doublings are thirty thousandfold, and as many halvings find the last one
_ENOUGH_MORE = 1.03  # of throughput, for a load to have brought more than another: less is noise


@dataclass(frozen=True, slots=True)
class Step:
    """One load that was tried.

    Args:
        load: Requests per second, or at a time.
        good_share: Of the requests that were due, those that kept every objective. What failed or was not done has not.
        has_kept: Whether that is enough.
        is_client_limit: Whether the client was the limit: then it says nothing of the server.
    """

    load: float
    good_share: float
    has_kept: bool
    is_client_limit: bool


class Search:
    """Looks for the knee.

    Args:
        slos: What a request has to keep, at least one.
        axis: What is searched: requests per second of an open loop, or requests at a time of a closed one.
        low: The first load that is tried.
        high: The highest. `None` doubles until it is found.
        share: How many requests have to be good.
        precision: When to stop: the lowest load that misses is at most so much more than the highest that keeps.
        until: Of each stage.
        arrivals, cap, seed: As for `Open`.

    Raises:
        ConfigurationError: Something in it cannot be searched.
    """

    def __init__(
        self,
        slos: Sequence[Slo],
        *,
        axis: Axis = "rate",
        low: float = 1.0,
        high: float | None = None,
        share: float = 0.99,
        precision: float = 0.05,
        until: Until | None = None,
        arrivals: Arrivals = "poisson",
        cap: int = MOST_AT_A_TIME,
        seed: int = 0,
    ) -> None:
        if not slos:
            raise ConfigurationError("a search needs an objective to keep, such as ttft=300ms")
        if axis not in ("rate", "concurrency"):
            raise ConfigurationError(f"axis= is 'rate' or 'concurrency', not {axis!r:.80}")
        if not (0 < share <= 1 and precision > 0 and low > 0 and (high is None or high >= low)):
            raise ConfigurationError(
                "a search goes from low to high, both above 0; share is up to 1, precision above 0"
            )
        self.steps: list[Step] = []
        self._slos = tuple(slos)
        self._axis = axis
        self._low, self._high = low, high or (FASTEST if axis == "rate" else float(MOST_LANES))
        self._share, self._precision = share, precision
        self._until = until or Until(duration_s=10.0)
        self._arrivals: Arrivals = arrivals
        self._cap, self._seed = cap, seed
        self._load(low)  # what cannot be a load is refused now

    @property
    def best(self) -> float | None:
        """The highest load that kept the objectives. `None` when none did."""
        return max((step.load for step in self.steps if step.has_kept), default=None)

    @property
    def missed(self) -> float | None:
        """The lowest load that missed them. `None` when none did."""
        return min((step.load for step in self.steps if not step.has_kept), default=None)

    @property
    def is_limited_by_client(self) -> bool:
        """Whether it ended at what the client can do: the server may be able to do more."""
        return bool(self.steps) and self.steps[-1].is_client_limit

    def next_stage(self) -> Stage | None:
        """What to try next; `None` when there is nothing more to find."""
        load = self._next_load()
        return None if load is None else Stage(self._load(load), self._until, f"{self._axis} {load:g}")

    def tell(self, record: StageRecord) -> Step:
        """The record of the stage that was given last."""
        load = record.stage.load
        value = float(load.concurrency) if isinstance(load, Closed) else load.rate if isinstance(load, Open) else 0.0
        share = (good(record.requests, self._slos) or 0) / max(1, len(record.requests))
        is_client_limit = is_client_the_limit(record)
        has_kept = share >= self._share and record.ending not in ("dead", "overrun")
        step = Step(value, share, has_kept, is_client_limit)
        self.steps.append(step)
        return step

    def _next_load(self) -> float | None:
        if not self.steps:
            return self._low
        best, missed = self.best, self.missed
        if best is None or self.is_limited_by_client or len(self.steps) >= _MOST_STAGES:
            return None
        if missed is None:
            return None if best == self._high else self._rounded(min(2 * best, self._high))
        if missed <= best * (1 + self._precision):
            return None
        between = self._rounded(math.sqrt(best * missed))
        return between if best < between < missed else None

    def _rounded(self, load: float) -> float:
        if self._axis == "concurrency":
            return float(round(load))
        return float(f"{load:.3g}")  # for people; three digits are finer than any precision that makes sense

    def _load(self, value: float) -> Load:
        if self._axis == "concurrency":
            return Closed(round(value))
        return Open(value, self._arrivals, self._cap, self._seed)


def is_saturated(records: Sequence[StageRecord]) -> bool:
    """Whether a sweep to higher and higher loads has come to its end: the last two brought no more throughput than
    those before them.
    """
    rates = [throughput(record) for record in records if not record.stage.is_warm_up]
    return len(rates) > 2 and max(rates[-2:]) < _ENOUGH_MORE * max(rates[:-2])


def throughput(record: StageRecord) -> float:
    """Output tokens per second of completed requests; without token counts, requests per second."""
    completed = [each for each in record.requests if each.outcome == "completed"]
    ends = [each.end for each in completed if each.end is not None]
    if not ends:
        return 0.0
    seconds = max(1, max(ends) - record.began) / 1e9
    return (sum(each.output_tokens or 0 for each in completed) or len(completed)) / seconds
