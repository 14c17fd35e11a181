"""Whether a stage measured the server, or the client: a verdict with its reason and its threshold.

A client that is late itself makes every server look slow, and all the more so the better the server is. What it takes
to say so is measured with each stage (`Lag`, `Client`); here it is held against what the figures can bear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from .histogram import Histogram
from .recording import Client, Lost, StageRecord

Kind = Literal["client", "cap"]
"""What a finding says when its threshold is passed.

``client``: the client was the limit, and figures of the stage are of the client as much as of the server. ``cap``: the
load was not the one that was asked for, because a cap closed the loop (coordinated omission).
"""

LEAST_TOLERANCE_NS = 5_000_000  # what a loop that has work to do is late now and then
TOLERANCE_SHARE = 0.05  # of the median time to the first output: an error that changes no conclusion
LEAST_INTERVAL_NS = 3_000_000  # arrivals that are closer than this are late by one another
MOST_CPU_SHARE = 0.9  # of one core; what comes then waits for its turn, whoever measures it
MOST_STARVED_SHARE = 0.1  # of the time; a tenth of all events is late by somebody else's doing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was held against its threshold.

    Args:
        name: ``loop_delay``, ``dispatch_delay``, ``cpu``, ``starved``, ``processes_lost`` or ``held_back``.
        kind: What it says when it is exceeded.
        value: What was measured, of the worst process.
        threshold: The most that is good.
        unit: Of both: ``ns`` or ``share``.
        text: What that means, for people.
    """

    name: str
    kind: Kind
    value: float
    threshold: float
    unit: Literal["ns", "share"]
    text: str

    @property
    def is_exceeded(self) -> bool:
        return self.value > self.threshold


def findings(record: StageRecord) -> tuple[Finding, ...]:
    """All that was held against a threshold, exceeded or not. What was not measured is not among them."""
    return tuple(_findings(record))


def is_client_the_limit(record: StageRecord) -> bool:
    """Whether what was measured is the client as much as the server."""
    return any(finding.kind == "client" and finding.is_exceeded for finding in findings(record))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What all of the requests of a stage say together.

    Args:
        count: How many.
        tolerance_ns: How late a client may be without its being in the figures.
        interval_ns: Between two that were due.
        held_back: How many could not be sent at all, because others had all places.
    """

    count: int
    tolerance_ns: int
    interval_ns: int
    held_back: int

    @classmethod
    def of(cls, record: StageRecord) -> _Seen:
        firsts: list[int] = []
        count, held_back, latest = len(record.requests), 0, 0
        earliest: int | None = None
        for each in record.requests:
            latest = max(latest, each.scheduled)
            earliest = each.scheduled if earliest is None else min(earliest, each.scheduled)
            held_back += each.was_held_back and each.outcome == "unsent"
            if (first := each.time_to_first_output) is not None:
                firsts.append(first)
        tolerance = max(LEAST_TOLERANCE_NS, round(TOLERANCE_SHARE * median(firsts)) if firsts else 0)
        interval = (latest - (earliest or 0)) // (count - 1) if count > 1 else LEAST_TOLERANCE_NS
        return cls(count, tolerance, interval, held_back)


def _findings(record: StageRecord) -> Iterator[Finding]:
    clients = record.clients
    if record.lost:
        yield _lost(record.lost, len(record.lost) + len(clients))
    if not clients:
        return
    seen = _Seen.of(record)
    late = max(client.lag.loop_delay.percentile(99) or 0 for client in clients)
    yield Finding(
        "loop_delay",
        "client",
        late,
        seen.tolerance_ns,
        "ns",
        f"the client looked at its connections up to {_ms(late)} late (p99), and all times are late by that",
    )
    late, place = max(_latest(client.dispatch_delay) for client in clients)
    yield Finding(
        "dispatch_delay",
        "client",
        late,
        max(LEAST_INTERVAL_NS, min(seen.interval_ns, seen.tolerance_ns)),
        "ns",
        f"requests began up to {_ms(late)} after they were due (p{place:g}): the client fell behind its schedule",
    )
    share = max(client.lag.cpu_share for client in clients)
    yield Finding(
        "cpu", "client", share, MOST_CPU_SHARE, "share", f"the client used {share:.0%} of a core: it had no time left"
    )
    starved = [each for client in clients if (each := client.lag.starved_share) is not None]
    if starved:
        share = max(starved)
        text = f"the client had to wait for a core for {share:.0%} of the time: other programs had it"
        yield Finding("starved", "client", share, MOST_STARVED_SHARE, "share", text)
    yield _held_back(seen, clients)


def _lost(lost: list[Lost], processes: int) -> Finding:
    first = lost[0]
    which = f"process {first.worker}{f' on {first.host}' if first.host else ''}"
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    missing = sum(each.requests for each in lost)
    return Finding(
        "processes_lost",
        "client",
        len(lost) / processes,
        0.0,
        "share",
        f"{which}{more} of {processes} was lost with what it had measured, {missing:,} requests at least "
        f"({first.why}). What is left is another load than the one that was asked for",
    )


def _latest(delays: Histogram) -> tuple[int, float]:
    """How late the latest were, and the percentile that is: of few requests not the very last, which may be chance."""
    place = min(99.0, max(50.0, float(int(100 - 200 / delays.count)))) if delays.count else 99.0
    return delays.percentile(place) or 0, place


def _held_back(seen: _Seen, clients: list[Client]) -> Finding:
    held = seen.held_back + sum(client.held_back.count for client in clients)
    longest = max(client.held_back.highest or 0 for client in clients)
    cap = sum(client.cap for client in clients)
    return Finding(
        "held_back",
        "cap",
        held / max(1, seen.count),
        0.0,
        "share",
        f"{held} of {seen.count} requests waited for one of {cap} places, up to {_ms(longest)} (coordinated omission)"
        ". Latencies count from when requests were due and have that wait in them",
    )


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.1f} ms"
