"""Does a whole answer through Penstock's full stack come at 60 % of bare aiohttp's rate, and at 8 times openai's?

Calls per second of one core, one at a time and 64 at a time; and the CPU of a call. What of it is Penstock's own is the
question of `stack.py`.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from contest import Contest, ContestantError, Entry, contest, parse_arguments
from results import Ratio, Results

LONGEST = 60.0  # seconds of one measurement
SECONDS = 0.4  # that a measurement should take
ANSWER = "Seven is a prime."
CONCURRENCY = {"1 at a time": 1, "64 at a time": 64}


def measure(field: Contest, entry: Entry, column: str, results: Results, cpu: Results, number: int) -> None:
    task = {"caller": entry.name, "concurrency": CONCURRENCY[column]}
    try:
        short = field.ask(entry, column, "unary", LONGEST, **task, calls=64)
        calls = max(64, int(64 * SECONDS / short["wall"]))
        result = field.ask(entry, column, "unary", LONGEST, **task, calls=calls)
        if result["texts"] != [ANSWER]:
            raise ContestantError(f"it delivered {result['texts']!r:.80}")
    except ContestantError as reason:
        results.fail(entry, column, reason)
        field.restart(entry)
        return
    results.note(result)
    results.add(entry, column, number, calls / result["wall"])
    cpu.add(entry, column, number, result["cpu"] / calls * 1e6)


def ratios() -> list[Ratio]:
    ours, column = "Penstock chat_completion()", "64 at a time"
    others = {
        "aiohttp, orjson": ">= 0.6",
        "openai": ">= 8",
        "httpx, json": None,
        "litellm": None,
        "nemoguardrails": None,
    }
    found = [Ratio(f"{other}_rate", ours, other, column, aim) for other, aim in others.items()]
    return [*found, Ratio("call_to_aiohttp", "Penstock call()", "aiohttp, orjson", column, ">= 0.6")]


def run(options: argparse.Namespace, results: Results, cpu: Results) -> None:
    with contest(options, results) as field:
        entries = field.entries("callers", results)
        for number in field.rounds():
            for column, entry in itertools.product(CONCURRENCY, entries):
                if field.is_worth_it(entry, column, number):
                    measure(field, entry, column, results, cpu, number)


def main() -> int:
    options = parse_arguments(__doc__, rounds=9, seconds=60)
    question = (__doc__ or "").partition("\n")[0]
    results, cpu = (
        Results("unary", question, "calls per second"),
        Results("unary_cpu", question, "µs of CPU for a call"),
    )
    run(options, results, cpu)
    cpu.versions, cpu.missing = results.versions, results.missing
    cpu.finish(options.out)
    results.finish(options.out, ratios())
    return 0


if __name__ == "__main__":
    sys.exit(main())
