"""Does a stream through Penstock's full stack cost at most 1.8 times the CPU of counting its bytes with aiohttp?

CPU time of the client's process for one event, in three regimes:

* unpaced: 1, 64 and 1,000 streams at the same time, as fast as they can be read, in writes of 16 KiB. What a request
  costs is in it, spread over the events of its stream;
* one event a read: a single stream of 1,000 events per second, so that each is read alone;
* paced: 64 streams of 50 events per second and 1,000 of 10, measured while all of them run, without the requests.

Contestants take turns, and each has to deliver the text that was sent.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from dataclasses import dataclass

from contest import Contest, ContestantError, Entry, check_texts, contest, parse_arguments
from order import Order
from results import Ratio, Results

LONGEST = 60.0  # seconds of one measurement
OPEN_WITHIN = 10.0  # seconds
SETTLE = 0.3  # seconds that paced streams go on after the measured time: reads of the last events are not cut
FULL = 0.95  # share of the core from which on a contestant does not keep up, so that its events are read together


@dataclass(frozen=True)
class Regime:
    """A way to be sent streams.

    Args:
        streams: At the same time.
        pieces: Events of a stream, when it has no pace.
        rate: Events per second. 0 has no pace.
    """

    name: str
    streams: int
    pieces: int = 0
    rate: float = 0.0

    @property
    def is_paced(self) -> bool:
        return bool(self.rate)

    def order(self, seconds: float, number: int) -> Order:
        pieces = int(self.rate * (seconds + SETTLE)) if self.is_paced else self.pieces
        return Order(pieces=pieces, rate=self.rate, joins=self.streams, number=number)


ONE = "1 stream"
REGIMES = (
    Regime(ONE, 1, 2000),
    Regime("64 streams", 64, 200),
    Regime("1,000 streams", 1000, 30),
    Regime("one event a read", 1, rate=1000),
    Regime("64 paced", 64, rate=50),
    Regime("1,000 paced", 1000, rate=10),
)


BUFFERED = "asyncio.BufferedProtocol"
ON_UVLOOP = ("async for", "pump()", "aiohttp, bytes", "aiohttp lines, orjson", "asyncio.Protocol")
UNPACED = ("async for, core", "batches()", "text()")  # differ by the chunk, where a read costs far more


def is_measured(entry: Entry) -> bool:
    """On uvloop some are enough."""
    return entry.loop == "asyncio" or entry.name in ON_UVLOOP


def warm_up(field: Contest, entry: Entry) -> None:
    """Have everything imported that is imported late. What fails here fails again, and is noted then."""
    order = Order(pieces=50)
    with contextlib.suppress(ContestantError):
        field.ask(entry, "", "stream", LONGEST, reader=entry.name, prompt=order.prompt, streams=1, least=0)


def measure(
    field: Contest, entry: Entry, regime: Regime, order: Order, seconds: float, results: Results, number: int
) -> None:
    task = {"reader": entry.name, "prompt": order.prompt, "streams": regime.streams}
    try:
        if regime.is_paced:
            result = field.ask(entry, regime.name, "paced", LONGEST, **task, seconds=seconds, open_within=OPEN_WITHIN)
            count = result["events"]
        else:
            result = field.ask(entry, regime.name, "stream", LONGEST, **task, least=seconds / 4)
            count = result["runs"] * regime.streams * regime.pieces
        check_texts(result, order.corpus, order.pieces)
    except ContestantError as reason:
        results.fail(entry, regime.name, reason)
        field.restart(entry)
        return
    results.note(result)
    if regime.is_paced and result["cpu"] > FULL * result["wall"]:
        results.fail(entry, regime.name, "the core is full")
        return
    results.add(entry, regime.name, number, result["cpu"] / count * 1e6)


def ratios() -> list[Ratio]:
    ours, floor, protocol = "Penstock async for", "aiohttp, bytes", "asyncio.Protocol"
    found = [Ratio("unpaced_to_byte_counter", ours, floor, ONE, "<= 1.8")]
    for other, aim in [("nemoguardrails", ">= 5"), ("openai", ">= 60"), ("litellm", ">= 180")]:
        found.append(Ratio(f"{other}_to_unpaced", other, ours, ONE, aim))
    others = ("aiohttp lines, json", "aiohttp lines, orjson", "httpx-sse, json", "langchain-openai")
    found += [Ratio(f"{other}_to_unpaced", other, ours, ONE) for other in others]
    for way, loop in itertools.product(("async for", "pump()"), ("", ", uvloop")):
        row, base = f"Penstock {way}{loop}", f"{protocol}{loop}"
        found.append(Ratio(f"paced_{way}{loop}_to_protocol", row, base, "64 paced", "<= 1.6"))
        found.append(Ratio(f"paced_1000_{way}{loop}_to_protocol", row, base, "1,000 paced", "<= 1.6"))
        if not loop:
            found.append(Ratio(f"paced_{way}_to_buffered_protocol", row, BUFFERED, "64 paced"))
            found.append(Ratio(f"paced_1000_{way}_to_buffered_protocol", row, BUFFERED, "1,000 paced"))
    found.append(Ratio("full_stack_to_core", ours, f"{ours}, core", ONE, "<= 1.05"))
    found.append(Ratio("batches_to_async_for", "Penstock batches()", ours, ONE))
    found.append(Ratio("pump_to_async_for", "Penstock pump()", ours, "64 paced"))
    return found


def run(options: argparse.Namespace, results: Results) -> None:
    seconds = 0.4 if options.quick else 1.0
    numbers = itertools.count(1)
    with contest(options, results) as field:
        entries = [each for each in field.entries("readers", results) if is_measured(each)]
        for entry in entries:
            warm_up(field, entry)
        for number in field.rounds():
            for regime, entry in itertools.product(REGIMES, entries):
                if field.is_worth_it(entry, regime.name, number) and not (regime.is_paced and entry.name in UNPACED):
                    measure(field, entry, regime, regime.order(seconds, next(numbers)), seconds, results, number)


def main() -> int:
    options = parse_arguments(__doc__, rounds=7, seconds=330)
    results = Results("stream", (__doc__ or "").partition("\n")[0], "µs of CPU for an event")
    run(options, results)
    results.finish(options.out, ratios())
    return 0


if __name__ == "__main__":
    sys.exit(main())
