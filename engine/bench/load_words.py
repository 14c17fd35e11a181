"""A load in words, and as a number where there is one."""

from __future__ import annotations

from .loads import Closed, Load, Open, Ramp
from .recording import Stage


def load_words(load: Load) -> str:
    """For a person: ``32 at a time``, ``150 requests/s``."""
    if isinstance(load, Closed):
        return f"{load.concurrency:,} at a time"
    if isinstance(load, Open):
        return f"{load.rate:,.10g} requests/s"
    if isinstance(load, Ramp):
        return f"{load.start:,.10g} to {load.end:,.10g} requests/s"
    return "replayed" if load.speed == 1 else f"replayed {load.speed:g} times as fast"


def load_kind(load: Load) -> str:
    """What kind of loop it is, in a few words."""
    if isinstance(load, Closed):
        return "closed loop"
    if isinstance(load, (Open, Ramp)):
        return f"open loop, {'Poisson' if load.arrivals == 'poisson' else 'constant'} arrivals, at most {load.cap:,}"
    return f"open loop, at most {load.cap:,}"


def load_number(load: Load) -> float | None:
    """What stages of a sweep are ordered by. `None` for a load that is not one number."""
    if isinstance(load, Closed):
        return float(load.concurrency)
    return float(load.rate) if isinstance(load, Open) else None


def stage_words(stage: Stage) -> str:
    """The name of a stage, or its load."""
    return stage.name or load_words(stage.load)
