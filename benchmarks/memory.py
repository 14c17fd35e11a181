"""Does an open stream hold at most 40 KB, with ten thousand of them in one process, and do all of them end within 5 s?

Resident memory of the process with all streams open and three events read from each, less what it was before, for one
stream; the client's side of the connection is in it, the kernel's buffers are not. Then the library is closed with all
streams open. Each measurement has a process of its own, in which a few streams were read before.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys

from contest import Contest, ContestantError, Entry, contest, parse_arguments
from harness import raise_file_limit
from order import Order
from results import Ratio, Results

OPEN_WITHIN = {1000: 15.0, 10_000: 25.0}  # seconds
RATE = 1.0  # events per second of a stream
PIECES = 600  # more than are waited for
RESERVED_FILES = 100
READERS = ("async for", "pump()", "aiohttp, bytes", "aiohttp lines, orjson", "openai", "httpx-sse, json")


def measure(
    field: Contest, entry: Entry, streams: int, figures: tuple[Results, Results], order_number: int, number: int
) -> None:
    results, times = figures
    column = f"{streams:,} streams"
    order = Order(pieces=PIECES, rate=RATE, joins=streams, number=order_number)
    within = OPEN_WITHIN[streams]
    field.restart(entry)
    with contextlib.suppress(ContestantError):  # what fails here fails again
        field.ask(entry, "", "stream", within, reader=entry.name, prompt=Order(pieces=50).prompt, streams=10, least=0)
    task = {"reader": entry.name, "prompt": order.prompt, "streams": streams, "open_within": within}
    try:
        result = field.ask(entry, column, "memory", within * 3, **task)
    except ContestantError as reason:
        results.fail(entry, column, reason)
        return
    finally:
        field.restart(entry)
    results.note(result)
    results.add(entry, column, number, result["bytes"] / 1024)
    times.add(entry, f"open {column}", number, result["open_s"])
    times.add(entry, f"stop {column}", number, result["stop_s"])
    if result["most"] - result["fewest"] > 1:
        results.notes.append(f"{entry}, {column}: {result['fewest']} to {result['most']} events were read of a stream")


def ratios() -> list[Ratio]:
    ours = "Penstock async for"
    found = [Ratio("kib_of_a_stream", ours, None, "10,000 streams", "<= 40")]
    for streams, other in itertools.product(OPEN_WITHIN, ("aiohttp lines, orjson", "openai", "httpx-sse, json")):
        found.append(Ratio(f"{other}_{streams}", ours, other, f"{streams:,} streams"))
    return found


def run(options: argparse.Namespace, results: Results, times: Results) -> None:
    most = 1000 if options.quick else raise_file_limit() - RESERVED_FILES
    numbers = itertools.count(1)
    counts = [streams for streams in OPEN_WITHIN if streams <= most]
    if 10_000 not in counts:
        results.notes.append(f"10,000 streams were left out: it was to be {most:,} files at most.")
    with contest(options, results) as field:
        entries = [each for each in field.entries("readers", results) if each.name in READERS]
        for number in field.rounds():
            for streams, entry in itertools.product(counts, entries):
                if entry.loop == "asyncio" and field.is_worth_it(entry, f"{streams:,} streams", number):
                    measure(field, entry, streams, (results, times), next(numbers), number)


def main() -> int:
    options = parse_arguments(__doc__, rounds=3, seconds=110)
    question = (__doc__ or "").partition("\n")[0]
    results, times = Results("memory", question, "KiB for a stream"), Results("memory_times", question, "seconds")
    run(options, results, times)
    times.versions = results.versions
    times.finish(options.out, [Ratio("stop_s", "Penstock async for", None, "stop 10,000 streams", "<= 5")])
    results.finish(options.out, ratios())
    return 0


if __name__ == "__main__":
    sys.exit(main())
