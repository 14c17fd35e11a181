"""Does Penstock's parser take less time for a stream than `orjson.loads` takes for the JSON in it?

The parsers alone, without a socket: CPU time for one event, of a stream that is in memory. They get it in reads of one
event, of 16 KiB and, on a stream that is short for it, of one byte. Chunk objects are part of it, the text in them is
compared outside of the measured time.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from contest import Contest, ContestantError, Entry, check_texts, contest, parse_arguments
from corpora import CORPORA, corpus
from results import Ratio, Results

CUTS = {"event": "an event", "16384": "16 KiB", "1": "a byte"}
PIECES = {"event": 2000, "16384": 2000, "1": 200}
FLOOR = "orjson.loads"
FLOORS = {"modelgov": "modelgov, orjson.loads"}
AIMS = {"openai": "<= 1.0", "obfuscated": "<= 1.5", "reasoning": "<= 1.5", "tools": "<= 1.5"}
LONGEST = 60.0  # seconds of one measurement
MEASURED = 0.1  # seconds that a measurement should take, so that the clock is fine enough


def measure(field: Contest, entry: Entry, name: str, cut: str, results: Results, number: int) -> None:
    column = column_of(name, cut)
    pieces = 200 if entry.peer.module == "litellm_client" else PIECES[cut]
    task: dict[str, Any] = {"parser": entry.name, "name": name, "pieces": pieces, "cut": cut}
    try:
        once = field.ask(entry, column, "parse", LONGEST, **task, times=1)
        check_texts(once, name, pieces)
        times = max(1, min(200, int(MEASURED / max(once["cpu"], 1e-6))))
        result = field.ask(entry, column, "parse", LONGEST, **task, times=times)
    except ContestantError as reason:
        results.fail(entry, column, reason)
    else:
        results.note(result)
        results.add(entry, column, number, result["cpu"] / len(corpus(name, pieces).payloads) * 1e6)


def column_of(name: str, cut: str) -> str:
    return f"{name}, {CUTS[cut]}"


def is_measured(field: Contest, entry: Entry, name: str, cut: str) -> bool:
    """Reads make no difference to what gets the JSON of each event, and a byte at a time is for two corpora."""
    if not field.understands(entry, name) or ("loads" in entry.name and cut != "event"):
        return False
    return cut != "1" or name in ("openai", "varied")


def ratios() -> list[Ratio]:
    ours, plain = "Penstock ChatDecoder", "Penstock ChatDecoder, no templates"
    found = []
    for name, aim in [*AIMS.items(), ("varied", None), ("modelgov", None)]:
        floor = FLOORS.get(name, FLOOR)
        row = "Penstock ModelgovStreamDecoder" if name == "modelgov" else ours
        for cut, label in [("event", "event"), ("16384", "16k")]:
            column = column_of(name, cut)
            found.append(Ratio(f"{name}_{label}_to_loads", row, floor, column, aim, column_of(name, "event")))
    for name, cut, aim in [("openai", "1", "<= 1.3"), ("varied", "1", "<= 1.3"), ("openai", "16384", None)]:
        found.append(Ratio(f"{name}_{cut}_to_no_templates", ours, plain, column_of(name, cut), aim))
    found += [
        Ratio(f"{other}_to_ours", other, ours, column_of("openai", "16384"))
        for other in ("httpx-sse, json", "openai", "litellm", "nemoguardrails")
    ]
    return found


def main() -> int:
    options = parse_arguments(__doc__, rounds=9, seconds=60)
    results = Results("parse", (__doc__ or "").partition("\n")[0], "µs of CPU for an event")
    with contest(options, results) as field:
        entries = [each for each in field.entries("parsers", results) if each.loop == "asyncio"]
        for number in field.rounds():
            for name, cut, entry in itertools.product(CORPORA, CUTS, entries):
                is_due = field.is_worth_it(entry, column_of(name, cut), number)
                if is_due and is_measured(field, entry, name, cut):
                    measure(field, entry, name, cut, results, number)
    results.finish(options.out, ratios())
    return 0


if __name__ == "__main__":
    sys.exit(main())
