"""What processes that share limits ask Redis, and what it answers. Values in, values out: nothing here connects.

A process says in each call how many requests it has under way, not how many more or less: so a call that is lost, and a
server that has forgotten everything, make nothing wrong for longer than until the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .concurrency import AdaptiveConcurrency
from .gate import Slot, is_throttle, really_taken
from .line import NEVER
from .outcome import Outcome
from .rate_headers import RateWindow

Settlement = tuple[float, float, float]
"""When so much was taken (the server's time, or `LONG_AGO`), how much, and how much it has turned out to be."""

LONG_AGO = -1.0
UNKNOWN_ENTRY = -1  # is never the number of falls


@dataclass(slots=True)
class RateAsked:
    """One of the rates, as a process knows it.

    Args:
        second: What fills in a second. 0 for no bound of our own.
        burst: Seconds; what fills in that time may be taken at once.
        follows: Whether the gateway's headers count.
        window: What they have said last, since the last call. `None` when nothing.
        settled: What has turned out since the last call.
    """

    second: float
    burst: float
    follows: bool
    window: RateWindow | None = None
    settled: list[Settlement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Question:
    """What a process asks for.

    Args:
        worker: Its name.
        lease: Seconds after which what it has under way counts no more, unless it is heard of again.
        held: How many it has under way.
        wanted: Tokens of the requests that wait, in their order.
        concurrency: How the number under way moves. `None` is any number.
        succeeded: How many went well that had entered with this number.
        throttled: With which numbers those had entered that were too much for the gateway.
    """

    worker: str
    lease: float
    held: int
    wanted: Sequence[int]
    concurrency: AdaptiveConcurrency | None
    requests: RateAsked
    tokens: RateAsked
    succeeded: dict[int, int]
    throttled: Sequence[int]

    def encoded(self) -> bytes:
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says.

    Args:
        now: Its time, in seconds since 1970.
        granted: How many of those that wait may start, from the first.
        wait: Seconds until the next one may; 0 when all may, `NEVER` for as soon as another is over.
        entered: What to give back with the outcome of those that start.
        limit: How many may be under way in all. `None` for any number.
        workers: Processes that were heard of within their leases.
        requests: What fills in a second. 0 for no bound.
        tokens: The same.
    """

    now: float
    granted: int
    wait: float
    entered: int
    limit: int | None
    workers: int
    requests: float
    tokens: float


def read_answer(values: Sequence[Any]) -> Answer:
    """The answer that the script gave, a list of texts.

    Raises:
        ValueError: It is none.
    """
    if len(values) != 8:
        raise ValueError(f"eight values were expected, not {len(values)}")
    now, wait, requests, tokens = (float(values[place]) for place in (0, 2, 6, 7))
    granted, entered, limit, workers = (int(values[place]) for place in (1, 3, 4, 5))
    return Answer(now, granted, wait if wait >= 0 else NEVER, entered, limit or None, workers, requests, tokens)


@dataclass(slots=True)
class Unsaid:
    """What Redis has not been told yet.

    Args:
        requests: What has turned out of requests.
        tokens: The same of tokens.
        succeeded: How many went well that had entered with this number.
        throttled: With which numbers those had entered that were too much for the gateway.
    """

    requests: RateAsked
    tokens: RateAsked
    succeeded: Counter[int] = field(default_factory=Counter)
    throttled: set[int] = field(default_factory=set)

    def over(self, slot: Slot, outcome: Outcome) -> None:
        """A request is over, in whatever way."""
        if outcome.is_success:
            self.succeeded[slot.entered] += 1
        elif is_throttle(outcome.error):
            self.throttled.add(slot.entered)
        requests, tokens = really_taken(slot, outcome)
        if requests != 1:
            self.requests.settled.append((slot.started, 1, requests))
        if tokens != slot.tokens and self.tokens.follows:
            self.tokens.settled.append((slot.started, slot.tokens, tokens))
