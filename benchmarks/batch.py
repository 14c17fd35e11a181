"""Do 20,000 rows with a journal go at 65 % of the rate of a bare loop without one, for at most 0.35 ms of CPU a row?

And at 4 times that of async-batch-llm with its store, at 5 times that of the openai package with a semaphore. All
against one server on another core, whose answers take 20 ms, 100 requests in flight. Each contestant has as many rows
as it takes in ten seconds, 20,000 at most. Then the rate of all at other numbers in flight; what ours holds in memory
while a million rows go through; and how fast the records of a journal are found again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass

from contest import Contest, ContestantError, Entry, contest, parse_arguments
from curves import curves
from results import Ratio, Results
from venvs import BATCH_PEERS

ROWS = 20_000
IN_FLIGHT = 100
COLUMN = f"{IN_FLIGHT} in flight"
OTHERS_IN_FLIGHT = (1, 4, 16, 64, 256)
SECONDS = 10.0  # that a measurement should take; a third of it for the curves
LONGEST = 240.0  # seconds of one measurement
LEAST_OF_MANY = 4_000  # rows for what starts processes of its own, which takes some seconds
RESUMED_ROWS = 200_000
RESUMES = 3
RECORDS = "journal, records found"
MEMORY_ROWS = 1_000_000
MEMORY_SECONDS = 900.0
SAMPLES = 60  # a minute, of the memory
MIB = 1 << 20


@dataclass
class Figures:
    """What is found out."""

    rates: Results
    cpu: Results
    memory: Results
    resumed: Results

    def finish(self, options: argparse.Namespace) -> None:
        for results in (self.cpu, self.memory, self.resumed):
            results.versions, results.missing = self.rates.versions, self.rates.missing
        self.memory.finish(options.out, [Ratio("peak_mib", OURS, None, "most", "<= 80"), GROWTH])
        self.resumed.finish(options.out, [Ratio("records_found", f"Penstock {RECORDS}", None, "rows", ">= 500000")])
        self.cpu.finish(options.out, [Ratio("cpu_us_a_row", OURS, None, COLUMN, "<= 350")])
        self.rates.finish(options.out, ratios())
        (options.out / "batch_curves.svg").write_text(self._curves(), "utf-8")

    def _curves(self) -> str:
        found: dict[str, dict[float, float]] = {}
        for column, rows in self.rates.rounds.items():
            for row in rows:
                if (spread := self.rates.spread(row, column)) is not None:
                    found.setdefault(row, {})[int(column.split()[0])] = spread.median
        return curves("batch: rows per second", "requests in flight", found)


OURS = "Penstock batch, journal"
GROWTH = Ratio("growth", OURS, OURS, "at the end", "<= 1.05", base_column="after a tenth")


def ratios() -> list[Ratio]:
    others = {
        "aiohttp, Semaphore": ">= 0.65",
        "openai, Semaphore": ">= 5",
        "async-batch-llm, SQLite": ">= 4",
        "async-batch-llm": None,
        "litellm, Semaphore": None,
        "Ray Data, HTTP": None,
        "Penstock batch": None,
    }
    return [Ratio(f"{other}_rate", OURS, other, COLUMN, aim) for other, aim in others.items()]


def measure(field: Contest, entry: Entry, in_flight: int, figures: Figures, number: int, seconds: float) -> None:
    """The rate of one contestant: of some rows first, and then of as many as it is expected to take in the time."""
    column = f"{in_flight} in flight"
    task = {"batcher": entry.name, "concurrency": in_flight}
    try:
        few = max(20, 4 * in_flight)
        short = field.ask(entry, column, "batch", LONGEST, **task, rows=few)
        least = LEAST_OF_MANY if seconds >= SECONDS and not field.is_alone(entry) else few
        rows = min(ROWS, max(least, int(few * seconds / short["wall"])))
        result = field.ask(entry, column, "batch", LONGEST, **task, rows=rows)
        if result["done"] != rows:
            raise ContestantError(f"{result['done']} of {rows} rows had the right answer")
    except ContestantError as reason:
        figures.rates.fail(entry, column, reason)
        field.restart(entry)
        return
    figures.rates.note(result)
    figures.rates.add(entry, column, number, rows / result["wall"])
    if field.is_alone(entry):
        figures.cpu.add(entry, column, number, result["cpu"] / rows * 1e6)


def measure_memory(field: Contest, entry: Entry, figures: Figures, rows: int) -> None:
    """What one fresh process holds while many rows go through."""
    field.restart(entry)
    task = {"batcher": entry.name, "concurrency": IN_FLIGHT, "rows": rows}
    samples = SAMPLES * max(1, ROWS * 10 // rows)
    try:
        result = field.ask(entry, "memory", "batch", MEMORY_SECONDS, **task, samples=samples)
    except ContestantError as reason:
        figures.memory.fail(entry, "most", reason)
        return
    finally:
        field.restart(entry)
    resident = result["resident"] or [result["peak"]]
    figures.memory.add(entry, "after a tenth", 0, resident[len(resident) // 10] / MIB)
    figures.memory.add(entry, "at the end", 0, resident[-1] / MIB)
    figures.memory.add(entry, "most", 0, result["peak"] / MIB)
    figures.memory.notes.append(f"{entry}: {rows:,} rows in {result['wall']:.0f} s")


def measure_resumed(field: Contest, entry: Entry, figures: Figures, number: int) -> None:
    """How fast a journal is gone through in which all is done."""
    rows = RESUMED_ROWS if entry.name == RECORDS else RESUMED_ROWS // 40  # those have to be sent before
    try:
        result = field.ask(entry, "resume", "batch", LONGEST, batcher=entry.name, concurrency=IN_FLIGHT, rows=rows)
        if result["done"] != rows:
            raise ContestantError(f"{result['done']} of {rows} rows were there")
    except ContestantError as reason:
        figures.resumed.fail(entry, "rows", reason)
        field.restart(entry)
        return
    figures.resumed.add(entry, "rows", number, rows / result["wall"])


def run(options: argparse.Namespace, figures: Figures) -> None:
    seconds = 1.5 if options.quick else SECONDS
    with contest(options, figures.rates, BATCH_PEERS, "batch_server.py") as field:
        entries = field.entries("batchers", figures.rates)
        forward = [entry for entry in entries if not field.is_resume(entry)]
        for number in field.rounds():
            for entry in forward:
                if number == 0 or field.is_alone(entry):
                    measure(field, entry, IN_FLIGHT, figures, number, seconds)
        for in_flight, entry in itertools.product(() if options.quick else OTHERS_IN_FLIGHT, forward):
            if field.is_alone(entry):
                measure(field, entry, in_flight, figures, 0, seconds / 3)
        for number in range(1 if options.quick else RESUMES):
            for entry in entries:
                if field.is_resume(entry):
                    measure_resumed(field, entry, figures, number)
        for entry in forward:
            if str(entry) == OURS and options.memory_rows:
                measure_memory(field, entry, figures, min(options.memory_rows, 10_000 if options.quick else 10**9))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory-rows",
        type=int,
        default=MEMORY_ROWS,
        metavar="N",
        help=f"rows of which memory is told ({MEMORY_ROWS:,})",
    )


def main() -> int:
    options = parse_arguments(__doc__, rounds=3, seconds=300, add=add_options)
    question = (__doc__ or "").partition("\n")[0]
    figures = Figures(
        Results("batch", question, "rows per second"),
        Results("batch_cpu", question, "µs of CPU for a row"),
        Results("batch_memory", question, "MiB"),
        Results("batch_resume", question, "rows per second of a journal in which all is done"),
    )
    run(options, figures)
    figures.finish(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
