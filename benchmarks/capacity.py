"""How many streams of 50 events per second does one core carry, with 99 of 100 events read within 50 ms?

The text of an event is the time at which the server wrote it, on the clock that both processes read. Its age when the
library hands it over is the lag. All streams are open before the second event of each is sent, and the server keeps its
schedule whatever the client does, so a client that is too slow finds its events old: none is left out.

The number of streams grows, as fast as the load of the core suggests, until the lag is too long; then the gap is halved
until it is small. In further rounds the search begins with what was found before.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator

from contest import Contest, ContestantError, Entry, contest, parse_arguments
from order import Order
from results import Ratio, Results

RATE = 50.0  # events per second of a stream
LAG_MS = 50.0  # the most that 99 of 100 events may have
COLUMN = "streams"
FIRST, MOST = 32, 4096
STEP = 1.25  # at which the search goes on where nothing suggests more
GAP = 1.08  # between what is carried and what is not, at the end of the search
SERVER_LATE_MS = 10.0  # a measurement with the server later than this says nothing about the client
TRIES = 2  # undisturbed ones
MOST_TRIES = 8
STOLEN = 0.01  # share of a try that a core may be taken away by the machine's other guests; more is a disturbance
OPEN_WITHIN = 30.0  # seconds
READERS = ("async for", "pump()", "aiohttp lines, orjson", "asyncio.Protocol", "openai", "litellm")
ON_UVLOOP = READERS[:-2]


class Search:
    """How many streams one contestant carries."""

    def __init__(self, field: Contest, entry: Entry, results: Results, seconds: float, numbers: Iterator[int]) -> None:
        self._field = field
        self._entry = entry
        self._results = results
        self._seconds = seconds
        self._numbers = numbers
        self._found: int | None = None
        self._busy = 1.0  # share of the core that the last try needed
        self._was_disturbed = False  # the last try

    def run(self) -> int:
        """The most streams that were carried.

        Raises:
            ContestantError: Not even one.
        """
        carried, not_carried = self._bracket()
        while not_carried > carried * GAP and not_carried - carried > 1:
            middle = (carried + not_carried) // 2
            if self._carries(middle):
                carried = middle
            else:
                not_carried = middle
        self._found = carried
        return carried

    def _bracket(self) -> tuple[int, int]:
        """A number that is carried, and one that is not."""
        streams = FIRST if self._found is None else self._found
        if self._carries(streams):
            while streams < MOST:
                carried, streams = streams, min(MOST, int(streams * self._room()) + 1)
                if not self._carries(streams):
                    return carried, streams
            self._results.notes.append(f"{self._entry}: the search ends at {MOST} streams.")
            return MOST, MOST
        while streams > 1:
            not_carried, streams = streams, int(streams / STEP)
            if self._carries(streams):
                return streams, not_carried
        raise ContestantError("not even one stream is carried")

    def _room(self) -> float:
        """How many times as many streams to try: as the load of the core suggests."""
        return min(8.0, max(STEP, 0.9 / self._busy))

    def _carries(self, streams: int) -> bool:
        """Whether one of two tries is in time. Those in which the machine itself stood still do not count."""
        tries = 0
        for _ in range(MOST_TRIES):
            if self._p99_ms(streams) <= LAG_MS:
                return True
            tries += not self._was_disturbed
            if tries == TRIES:
                break
        return False

    def _p99_ms(self, streams: int) -> float:
        """The lag that 99 of 100 events do not exceed; infinite when not all of them came."""
        pieces = int(RATE * self._seconds)
        order = Order(pieces=pieces, rate=RATE, joins=streams, stamped=True, number=next(self._numbers))
        end_within = self._seconds * 2.5
        task = {"reader": self._entry.name, "prompt": order.prompt, "streams": streams, "pieces": pieces}
        self._was_disturbed = False
        try:
            result = self._field.ask(
                self._entry,
                COLUMN,
                "lag",
                OPEN_WITHIN + end_within + 10,
                **task,
                open_within=OPEN_WITHIN,
                end_within=end_within,
            )
        except ContestantError as reason:
            self._results.notes.append(f"{self._entry}, {streams} streams: {reason}")
            self._field.restart(self._entry)
            return math.inf
        self._results.note(result)
        self._busy = result["busy"]
        late, stolen = result["server"]["late_p99_ms"], result["stolen"]
        self._was_disturbed = late > SERVER_LATE_MS or stolen > STOLEN
        if self._was_disturbed:
            told = f"the server was late by {late:.0f} ms, the machine took {stolen:.1%} of the cores"
            self._results.notes.append(f"{self._entry}, {streams} streams: {told}")
        return float(result["p99_ms"])


def ratios() -> list[Ratio]:
    base = "aiohttp lines, orjson"
    aims = {"async for": (">= 1.1", ">= 2"), "pump()": (">= 1.4", ">= 2.5")}
    found = []
    for way, (aim, aim_on_uvloop) in aims.items():
        for loop, wanted, more in (("", aim, ">= 8"), (", uvloop", aim_on_uvloop, ">= 15")):
            found.append(Ratio(f"{way}{loop}_to_lines", f"Penstock {way}{loop}", base, COLUMN, wanted))
            found.append(Ratio(f"{way}{loop}_to_openai", f"Penstock {way}{loop}", "openai", COLUMN, more))
    found += [
        Ratio(f"pump(){loop}_to_litellm", f"Penstock pump(){loop}", "litellm", COLUMN) for loop in ("", ", uvloop")
    ]
    return found


def run(options: argparse.Namespace, results: Results) -> None:
    seconds = 1.0 if options.quick else 1.6
    numbers = itertools.count(1)
    with contest(options, results) as field:
        wanted = {"asyncio": READERS, "uvloop": ON_UVLOOP}
        entries = [entry for entry in field.entries("readers", results) if entry.name in wanted[entry.loop]]
        searches = {entry: Search(field, entry, results, seconds, numbers) for entry in entries}
        for number in field.rounds():
            for entry, search in searches.items():
                try:
                    results.add(entry, COLUMN, number, search.run())
                except ContestantError as reason:
                    results.fail(entry, COLUMN, reason)


def main() -> int:
    options = parse_arguments(__doc__, rounds=3, seconds=240)
    results = Results("capacity", (__doc__ or "").partition("\n")[0], "streams")
    run(options, results)
    results.finish(options.out, ratios())
    return 0


if __name__ == "__main__":
    sys.exit(main())
