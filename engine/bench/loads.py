"""Who starts when.

In a closed loop a number of lanes each send one request after another: when the server slows down, so does the load,
and a stall of a second costs one slow request for each lane, however many would have come in that second. In an open
loop requests come when they come, as users do; a cap on how many may run at a time makes it a closed one while it
holds, and every request it holds back is counted (coordinated omission).

All of it is a function of its arguments and the seed: each process works out the whole schedule and takes its share,
so the schedule is the same however many processes run it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Literal

from ..errors import ConfigurationError

Arrivals = Literal["poisson", "constant"]

MOST_AT_A_TIME = (
    4096  # requests of an open loop; each has a connection, and a server's queue is longer than this rarely
)
_LANE_START_S = 0.001  # between the first requests of two lanes: opening a connection and sending takes a part of that
MOST_OF_ANYTHING = 10**15  # that is counted: more is a slip of the hand, and soon no number of JSON any more
MOST_LANES = 100_000  # there are not as many ports that connections to one address could have
_LONGEST_S = 1e9  # 30 years: what in nanoseconds adds to a clock without an overflow
_SLOWEST = 1e-6  # requests per second: one in eleven days
FASTEST = 1e6  # requests per second; of many machines some thousand times fewer
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Closed:
    """So many requests at a time, each followed by the next.

    Args:
        concurrency: Lanes.
        start_s: Seconds from the first lane's first request to the last one's. `None` is a millisecond for each lane:
            begun together they would wait for each other in this client, and it would look like the server's doing.
    """

    concurrency: int
    start_s: float | None = None

    def __post_init__(self) -> None:
        _check_whole("concurrency", self.concurrency)
        if self.concurrency > MOST_LANES:
            raise ConfigurationError(f"concurrency= is at most {MOST_LANES:,}, not {self.concurrency!r:.80}")
        _check_number("start_s", self.start_s, is_zero_good=True)

    def lanes(self, worker: int = 0, workers: int = 1) -> list[tuple[int, int]]:
        """The lanes of a process, each with the moment it begins, in nanoseconds from the start."""
        span = self.concurrency * _LANE_START_S if self.start_s is None else self.start_s
        return [
            (lane, round(span * _NS * lane / self.concurrency)) for lane in range(worker, self.concurrency, workers)
        ]

    def share_of(self, requests: int, worker: int, workers: int) -> int:
        """How many of the requests a process makes: in proportion to its lanes, and all of them over all."""
        bounds = [0, *accumulate(len(range(each, self.concurrency, workers)) for each in range(workers))]
        low, high = (requests * bound // self.concurrency for bound in bounds[worker : worker + 2])
        return high - low


@dataclass(frozen=True, slots=True)
class Open:
    """So many new requests a second, whether or not others are done.

    Args:
        rate: Requests per second.
        arrivals: ``poisson``: at random, as from many users who do not know of each other. ``constant``: evenly.
        cap: How many may run at a time. What it holds back waits, and the wait is in its latency.
        seed: For ``poisson``.
    """

    rate: float
    arrivals: Arrivals = "poisson"
    cap: int = MOST_AT_A_TIME
    seed: int = 0

    def __post_init__(self) -> None:
        _check_rate("rate", self.rate)
        _check_arrivals(self.arrivals, self.cap)

    def offsets(self) -> Iterator[int]:
        """When each request is due, in nanoseconds from the start; without an end."""
        return (round(units * _NS / self.rate) for units in _units(self.arrivals, self.seed))


@dataclass(frozen=True, slots=True)
class Ramp:
    """An open loop whose rate goes evenly from one value to another, and is over then.

    Args:
        start, end: Requests per second; one of them may be 0.
        over_s: Seconds.
        arrivals, cap, seed: As for `Open`.
    """

    start: float
    end: float
    over_s: float
    arrivals: Arrivals = "poisson"
    cap: int = MOST_AT_A_TIME
    seed: int = 0

    def __post_init__(self) -> None:
        _check_rate("start", self.start, is_zero_good=True)
        _check_rate("end", self.end, is_zero_good=True)
        _check_number("over_s", self.over_s)
        _check_arrivals(self.arrivals, self.cap)
        if not self.start + self.end:
            raise ConfigurationError("a ramp from 0 to 0 sends nothing")

    def offsets(self) -> Iterator[int]:
        """As `Open.offsets`, with an end."""
        whole = (self.start + self.end) / 2 * self.over_s
        for units in _units(self.arrivals, self.seed):
            if units >= whole:
                return
            yield round(self._moment(units) * _NS)

    def rate_at(self, seconds: float) -> float:
        """Requests per second at a moment of the ramp."""
        return self.start + (self.end - self.start) * min(max(seconds / self.over_s, 0.0), 1.0)

    def _moment(self, units: float) -> float:
        """When so many requests have come: the area under the rate, turned round."""
        if not units:
            return 0.0
        slope = (self.end - self.start) / self.over_s
        return 2 * units / (self.start + math.sqrt(max(0.0, self.start**2 + 2 * slope * units)))


@dataclass(frozen=True, slots=True)
class Replay:
    """An open loop at moments that were recorded.

    Args:
        moments_s: Seconds, in order; the first request is due at once.
        speed: How much faster than recorded.
        cap: As for `Open`.
    """

    moments_s: tuple[float, ...] = field(repr=False)
    speed: float = 1.0
    cap: int = MOST_AT_A_TIME

    def __post_init__(self) -> None:
        _check_number("speed", self.speed)
        _check_arrivals("constant", self.cap)
        if not self.moments_s:
            raise ConfigurationError("there is no moment to replay")
        if any(later < earlier or not math.isfinite(later) for earlier, later in _pairs(self.moments_s)):
            raise ConfigurationError("the moments of a replay have to be in order")
        if (span := (self.moments_s[-1] - self.moments_s[0]) / self.speed) > _LONGEST_S:
            raise ConfigurationError(f"a replay takes at most {_LONGEST_S:g} s, and this one {span:g} s")

    def offsets(self) -> Iterator[int]:
        """As `Open.offsets`, with an end."""
        first = self.moments_s[0]
        return (round((moment - first) * _NS / self.speed) for moment in self.moments_s)


Load = Closed | Open | Ramp | Replay


@dataclass(frozen=True, slots=True)
class Until:
    """When a stage is over: after so many requests or so many seconds, whichever comes first.

    Args:
        requests: That are started; all that are running are waited for.
        duration_s: Seconds; no request is started after them.
        drain_s: Seconds for what is running then. What is not done by the end of them is cut off, and counted as
            unfinished. Long answers are cut off more often than short ones: where any is, latencies look too good.
    """

    requests: int | None = None
    duration_s: float | None = None
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        if self.requests is not None:
            _check_whole("requests", self.requests)
        _check_number("duration_s", self.duration_s)
        _check_number("drain_s", self.drain_s, is_zero_good=True)

    @property
    def is_endless(self) -> bool:
        return self.requests is None and self.duration_s is None


def due(load: Open | Ramp | Replay, until: Until, worker: int = 0, workers: int = 1) -> Iterator[tuple[int, int]]:
    """The requests of a process: the number of each, and when it is due, in nanoseconds from the start."""
    end = math.inf if until.duration_s is None else until.duration_s * _NS
    for number, offset in enumerate(load.offsets()):
        if offset >= end or (until.requests is not None and number >= until.requests):
            return
        if number % workers == worker:
            yield number, offset


def cap_of(cap: int, worker: int, workers: int) -> int:
    """A process's part of the cap, at least 1."""
    return max(1, len(range(worker, cap, workers)))


def check(load: Load, until: Until) -> None:
    """Raise `ConfigurationError` for a load that would never end."""
    if until.is_endless and isinstance(load, (Closed, Open)):
        raise ConfigurationError("say when it ends: a number of requests, or a duration")


def _units(arrivals: Arrivals, seed: int) -> Iterator[float]:
    """When requests come if one comes in each unit of time."""
    if arrivals == "constant":
        return map(float, count())
    draw = random.Random(seed).expovariate
    return accumulate(draw(1.0) for _ in count())


def _pairs(moments: Sequence[float]) -> Iterator[tuple[float, float]]:
    return zip((moments[0], *moments), moments)


def _check_whole(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_OF_ANYTHING:
        raise ConfigurationError(f"{name}= is a whole number from 1 to {MOST_OF_ANYTHING:,}, not {value!r:.80}")


def _check_number(name: str, value: float | None, *, is_zero_good: bool = False) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or not (value or is_zero_good):
        raise ConfigurationError(f"{name}= is a finite number above 0, not {value!r:.80}")


def _check_rate(name: str, value: float, *, is_zero_good: bool = False) -> None:
    _check_number(name, value, is_zero_good=is_zero_good)
    if value and not _SLOWEST <= value <= FASTEST:
        raise ConfigurationError(f"{name}= is {_SLOWEST:g} to {FASTEST:g} requests per second, not {value!r:.80}")


def _check_arrivals(arrivals: str, cap: int) -> None:
    if arrivals not in ("poisson", "constant"):
        raise ConfigurationError(f"arrivals= is 'poisson' or 'constant', not {arrivals!r:.80}")
    _check_whole("cap", cap)
