"""What ``penstock bench`` runs: stages one after another, or a search, as the options say."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from ..bench.load_words import load_number
from ..bench.loads import Closed, Load, Open, Ramp, Replay, Until
from ..bench.prompt_files import PromptFile
from ..bench.recording import Stage
from ..bench.search import Search
from ..bench.slo import Slo
from .bench_options import CONCURRENCY, DURATION_S, SEARCH_S


def make_stages(options: Namespace, file: PromptFile | None) -> list[Stage]:
    """The stages, with the warm-up before them.

    Args:
        options: As `checked_options` leaves them.
        file: Of ``--prompts``, for its timestamps.

    Raises:
        ConfigurationError: The file cannot be replayed.
    """
    loads = _loads(options, file)
    until = _until(options, None if options.replay else DURATION_S)
    if options.ramp:
        until = Until(drain_s=options.drain)  # it has an end of its own
    stages = [Stage(load, until) for load in loads]
    return [*_warm_up(options, loads[0]), *stages]


def make_search(options: Namespace, slos: Sequence[Slo]) -> tuple[Search, list[Stage]]:
    """The search, and the warm-up before it.

    Raises:
        ConfigurationError: It cannot be searched like that.
    """
    search = Search(
        slos,
        axis=options.search,
        low=options.low,
        high=options.high,
        until=_until(options, SEARCH_S),
        arrivals=options.arrivals,
        cap=options.cap,
        seed=options.seed,
    )
    return search, _warm_up(options, first_load(options))


def first_load(options: Namespace) -> Load:
    """The load a search begins with."""
    if options.search == "concurrency":
        return Closed(round(options.low))
    return Open(options.low, options.arrivals, options.cap, options.seed)


def load_of_one(loads: Sequence[Load], workers: int) -> Load:
    """What one of so many processes has to bear at most, to calibrate with."""
    load = max(loads, key=lambda each: load_number(each) or 0.0)
    if isinstance(load, Closed):
        return Closed(-(-load.concurrency // workers))
    rate = _rate(load)
    arrivals = "constant" if isinstance(load, Replay) else load.arrivals
    return Open(rate / workers, arrivals, -(-load.cap // workers))


def _rate(load: Open | Ramp | Replay) -> float:
    """Requests per second, the most there are."""
    if isinstance(load, Open):
        return load.rate
    if isinstance(load, Ramp):
        return max(load.start, load.end)
    span = (load.moments_s[-1] - load.moments_s[0]) / load.speed
    return len(load.moments_s) / max(span, 1.0)


def _loads(options: Namespace, file: PromptFile | None) -> list[Load]:
    if options.rate:
        return [Open(rate, options.arrivals, options.cap, options.seed) for rate in options.rate]
    if options.ramp:
        start, end = options.ramp
        seconds = options.duration or DURATION_S
        return [Ramp(start, end, seconds, options.arrivals, options.cap, options.seed)]
    if options.replay and file is not None:
        return [file.replay(speed=options.speed, cap=options.cap)]
    return [Closed(each) for each in options.concurrency or (CONCURRENCY,)]


def _until(options: Namespace, default_s: float | None) -> Until:
    """The end of a stage: what was asked for, or a duration."""
    duration = options.duration
    if duration is None and options.requests is None:
        duration = default_s
    return Until(options.requests, duration, options.drain)


def _warm_up(options: Namespace, load: Load) -> list[Stage]:
    if options.warmup is None:
        return []
    if isinstance(load, Ramp):
        load = Open(load.start or load.end, load.arrivals, load.cap, load.seed)
    elif isinstance(load, Replay):
        load = Open(_rate(load), "constant", load.cap)
    return [Stage(load, options.warmup, "warm-up", is_warm_up=True)]
