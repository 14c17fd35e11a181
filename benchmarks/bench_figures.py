"""What is read from a run of a client that measures streams: what it says, less what the server says that was."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench_run import BenchRunError, Run
from order import Order
from peers.base import BenchClient, Load, Timed
from results import Ratio, Results

OURS, LOOP, AIPERF, GUIDELLM = NAMES = ("penstock bench", "aiohttp loop", "aiperf", "guidellm")
PACED = Order(pieces=100, rate=100, first=0.1, spread=0.1)


@dataclass
class Figures:
    """What is found out."""

    rates: Results
    times: Results
    sizes: Results
    marks: Results

    def finish(self, options: Namespace) -> None:
        for results in (self.times, self.sizes, self.marks):
            results.versions, results.missing = self.rates.versions, self.rates.missing
        self.marks.finish(options.out, [Ratio("connections_at_50", OURS, None, CONNECTIONS, "50")])
        self.sizes.finish(options.out, SIZE_AIMS)
        self.times.finish(options.out, TIME_AIMS)
        self.rates.finish(options.out, RATE_AIMS)


@dataclass(frozen=True)
class Regime:
    """A load, and what is read from a run with it.

    Args:
        name: For failures.
        order: What each request asks the server for.
        note: Writes down the figures of a run.
        requests: How many.
        concurrency: At a time; 0 for an open loop.
        rate: Per second, evenly; 0 for a closed loop.
    """

    name: str
    order: Order
    note: Callable[[Figures, str, int, Run], None]
    requests: int
    concurrency: int = 0
    rate: float = 0.0

    def load(self, client: BenchClient, share: float) -> Load:
        """For one of the clients: paced requests are as many for all, as they take the same time."""
        if not self.order.rate:
            share *= client.share
        requests = max(2 * self.concurrency, round(self.requests * share))
        return Load(self.order.prompt, requests, self.concurrency, self.rate)


EVENTS, ONE_TOKEN, PACED_EVENTS = "events, unpaced", "one-token requests", "events, 200 streams x 100"
START, ARRIVAL, GAP = "start", "arrival p99, 150/s", "gap p99, 200 streams"
MEMORY, INSTALLED = "memory, 200 streams", "installed"
CONNECTIONS, CODE, SAYS, WRITES = "connections, 50 streams", "behind: exit code", "behind: console", "behind: JSON"


def note_events(figures: Figures, name: str, number: int, run: Run) -> None:
    figures.rates.add(name, EVENTS, number, sum(each.events for each in run.timed) / duration(run))


def note_requests(figures: Figures, name: str, number: int, run: Run) -> None:
    figures.rates.add(name, ONE_TOKEN, number, len(run.timed) / duration(run))


def note_50(figures: Figures, name: str, number: int, run: Run) -> None:
    note_ttft(figures, name, number, run, 50)
    figures.marks.add(name, CONNECTIONS, number, len({each["connection"] for each in run.log}))


def note_200(figures: Figures, name: str, number: int, run: Run) -> None:
    note_ttft(figures, name, number, run, 200)
    gaps = [error for error in (gap_error_ms(timed, noted) for timed, noted in pairs(run)) if error is not None]
    figures.times.add(name, GAP, number, percentile(gaps, 99))
    figures.rates.add(name, PACED_EVENTS, number, sum(each.events for each in run.timed) / duration(run))
    figures.sizes.add(name, MEMORY, number, run.peak_mib)


def note_ttft(figures: Figures, name: str, number: int, run: Run, streams: int) -> None:
    errors = [abs(timed.ttft_ms - (noted["first"] - noted["received"]) / 1e6) for timed, noted in pairs(run)]
    for each in (50, 99):
        figures.times.add(name, ttft(each, streams), number, percentile(errors, each))


def note_arrivals(figures: Figures, name: str, number: int, run: Run) -> None:
    figures.times.add(name, ARRIVAL, number, percentile(lags_ms(run), 99))
    figures.times.add(name, START, number, run.start_s * 1e3)


def note_behind(figures: Figures, name: str, number: int, run: Run) -> None:
    span_s = (run.log[-1]["received"] - run.log[0]["received"]) / 1e9
    for column, value in {CODE: run.code, SAYS: run.marks.console, WRITES: run.marks.document}.items():
        figures.marks.add(name, column, number, float(value))
    figures.marks.notes.append(f"{name} was asked for {run.load.rate:,.0f}/s and made {len(run.log) / span_s:,.0f}/s.")


def ttft(each: int, streams: int) -> str:
    return f"TTFT p{each}, {streams} streams"


REGIMES = (
    Regime("unpaced", Order(pieces=500), note_events, 640, 32),
    Regime("one token", Order(pieces=1), note_requests, 10_000, 64),
    Regime("50 streams", PACED, note_50, 300, 50),
    Regime("200 streams", PACED, note_200, 800, 200),
    Regime("150/s", Order(pieces=10, rate=100, first=0.05, spread=0.05), note_arrivals, 450, rate=150),
)
OVERLOAD = Regime("overload", Order(pieces=1), note_behind, 10_000, rate=10_000)

RATE_AIMS = (
    Ratio("events_to_aiperf", OURS, AIPERF, EVENTS, ">= 4"),
    Ratio("events_to_guidellm", OURS, GUIDELLM, EVENTS),
    Ratio("events_to_loop", OURS, LOOP, EVENTS),
    Ratio("events_per_s", OURS, None, EVENTS, ">= 100000"),
    Ratio("requests_to_aiperf", OURS, AIPERF, ONE_TOKEN, ">= 9"),
    Ratio("requests_to_guidellm", OURS, GUIDELLM, ONE_TOKEN),
    Ratio("requests_to_loop", OURS, LOOP, ONE_TOKEN),
    Ratio("requests_per_s", OURS, None, ONE_TOKEN, ">= 4000"),
)
TIME_AIMS = (
    Ratio("ttft_50_p50_ms", OURS, None, ttft(50, 50), "<= 0.5"),
    Ratio("ttft_50_p99_ms", OURS, None, ttft(99, 50), "<= 3"),
    Ratio("ttft_200_p50_ms", OURS, None, ttft(50, 200), "<= 1"),
    Ratio("ttft_200_p99_ms", OURS, None, ttft(99, 200), "<= 10"),
    Ratio("gap_200_p99_ms", OURS, None, GAP, "<= 0.05"),
    Ratio("arrival_150_p99_ms", OURS, None, ARRIVAL, "<= 3"),
    Ratio("start_ms", OURS, None, START, "<= 700"),
)
SIZE_AIMS = (
    Ratio("memory_mib", OURS, None, MEMORY, "<= 80"),
    Ratio("installed_mib", OURS, None, INSTALLED, "<= 40"),
)


def pairs(run: Run) -> list[tuple[Timed, dict[str, Any]]]:
    """What the client and the server say of the same request, but for the first of each connection in a closed loop."""
    beginning = run.load.concurrency
    noted = {name: each for each in run.log[beginning:] for name in (each["id"], each["sent_id"]) if name}
    return [(timed, noted[timed.id]) for timed in run.timed if timed.id in noted]


def gap_error_ms(timed: Timed, noted: dict[str, Any]) -> float | None:
    if timed.gap_ms is None:
        return None
    was_ms: float = (noted["last"] - noted["first"]) / 1e6 / (PACED.pieces - 1)
    return abs(timed.gap_ms - was_ms)


def lags_ms(run: Run) -> list[float]:
    """How late requests came, by a schedule that begins so that the earliest of them is not late."""
    late = [each["received"] / 1e6 - number * 1e3 / run.load.rate for number, each in enumerate(run.log)]
    return [each - min(late) for each in late]


def duration(run: Run) -> float:
    """Seconds of the client's clock from the beginning of its first request to the end of the last."""
    return max(each.ended for each in run.timed) - min(each.began for each in run.timed)


def percentile(values: list[float], each: int) -> float:
    """The one with at least `each` percent at or below it.

    Raises:
        BenchRunError: There is none.
    """
    if not values:
        raise BenchRunError("no request of the client is one of the server's")
    return sorted(values)[-(-len(values) * each // 100) - 1]
