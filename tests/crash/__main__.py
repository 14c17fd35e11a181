"""Runs the whole matrix: ``python -m tests.crash [--kills 200] [--seed 1]``.

Prints a line for each batch and what must not be where something is. Exits with 1 when there was such a thing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from .cases import ONCE, Case, endless_cases
from .lives import Command, Midwife, Nursery, killed_at
from .matrix import every_deed, places, telling
from .removals import REMOVALS
from .trial import Death, Trial, can_mount, random_deaths

SYSTEM_CALLS = {"pwrite64": 7, "fdatasync": 3, "fsync": 1, "ftruncate": 1, "rename": 1, "unlink": 1}
"""Those that change a file; every how many-th is tried."""


@dataclass
class Totals:
    """Of some batches.

    Args:
        repeats: Executions of rows beyond the first.
    """

    batches: int = 0
    rows: int = 0
    lives: int = 0
    kills: int = 0
    requests: int = 0
    repeats: int = 0

    def __str__(self) -> str:
        told = ((count, name) for name, count in vars(self).items() if name != "batches" or count > 1)
        return ", ".join(f"{count:,} {name}" for count, name in told)

    def add(self, trial: Trial) -> None:
        self.include(Totals(1, trial.case.rows, trial.lives, trial.kills, trial.requests, trial.repeats))

    def include(self, others: Totals) -> None:
        for name, count in vars(others).items():
            setattr(self, name, getattr(self, name) + count)


class Matrix:
    """Runs trials, and keeps count."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.totals = Totals()
        self.failed: list[str] = []

    async def random_kills(self, midwife: Midwife, kills: int) -> None:
        """Batches that are killed at random moments: each case once, and on until there were so many kills."""
        until = self.totals.kills + kills
        for number, case in enumerate(endless_cases()):
            if self.totals.kills >= until and number >= ONCE:
                return
            await self.random(midwife, case)

    async def random(self, midwife: Midwife, case: Case, most: int = 12) -> None:
        """One of them."""
        deaths = random_deaths(self._random, case)
        with tempfile.TemporaryDirectory() as folder:
            await self._run(str(case), Trial(case, Path(folder), midwife, (next(deaths) for _ in range(most))))

    async def commands(self) -> None:
        """The same with the command as users run it, an interpreter for each life."""
        for case in (Case(), Case(publish="append", dialect="atrium"), Case(publish="append", ordered=True)):
            await self.random(Command(), replace(case, rows=500), most=4)

    async def places(self, midwife: Midwife) -> None:
        """All steps that have a name."""
        for place in places():
            with tempfile.TemporaryDirectory() as folder:
                trial = place.trial(Path(folder), midwife)
                await self._run(str(place), trial)
            if not trial.steps_reached:
                self._fail(str(place), ["it was never come to"])

    async def deeds(self, midwife: Midwife) -> None:
        """Before each single thing that a small batch asks of SQLite and of the system."""
        for case, way in every_deed():
            totals, started = Totals(), time.monotonic()
            for place in way:
                with tempfile.TemporaryDirectory() as folder:
                    trial = place.trial(Path(folder), midwife)
                    found = await trial.run()
                totals.add(trial)
                if found:
                    self._fail(str(place), found)
                if not trial.steps_reached:
                    break
            self._tell(f"{totals.kills} places ({case})", totals, started)

    async def system_calls(self) -> None:
        """At system calls, SQLite's own among them, which no Python code sees."""
        if shutil.which("strace") is None:
            print("there is no strace here")
            return
        small = Case(publish="append", dialect="atrium", rows=24, concurrency=4)
        for call, stride in SYSTEM_CALLS.items():
            totals, started = Totals(), time.monotonic()
            for nth in itertools.count(1, stride):
                case = replace(small, durability="full" if nth % 2 else "normal")
                with tempfile.TemporaryDirectory() as folder:
                    trial = Trial(case, Path(folder), killed_at(call, nth))
                    if found := await trial.run():
                        self._fail(f"{call}, time {nth}", found)
                totals.add(trial)
                if not trial.kills:
                    break
            self._tell(f"{call} ({small})", totals, started)

    async def full_disks(self, midwife: Midwife) -> None:
        """Disks that fill up, and then are larger; with kills and without."""
        with tempfile.TemporaryDirectory() as folder:
            disks = ("limited", "small") if can_mount(Path(folder)) else ("limited",)
        if "small" not in disks:
            print("no disk of its own: it cannot be mounted here")
        for disk in disks:
            for publish, ordered, most in (("rename", False, 0), ("append", False, 3), ("append", True, 3)):
                case = Case(disk="small" if disk == "small" else "limited", ordered=ordered, rows=300)
                case = replace(case, publish="rename" if publish == "rename" else "append")
                with tempfile.TemporaryDirectory() as name:
                    deaths = random_deaths(self._random, case)
                    trial = Trial(case, Path(name), midwife, _after_the_first(deaths, most))
                    await self._run(str(case), trial)
                if not trial.was_full:
                    self._fail(str(case), ["the disk was never full"])

    async def removed_defences(self, midwife: Midwife) -> None:
        """Each has to be missed."""
        for name in REMOVALS:
            with tempfile.TemporaryDirectory() as folder:
                trial = telling(name, Path(folder), midwife)
                found = await trial.run()
            print(f"{'missed' if found else 'NOT MISSED':<12}{name}: {'; '.join(found)[:150]}", flush=True)
            if not found:
                self.failed.append(f"without {name}: nobody noticed")

    async def _run(self, name: str, trial: Trial) -> None:
        totals, started = Totals(), time.monotonic()
        found = await trial.run()
        totals.add(trial)
        self._tell(name, totals, started)
        if found:
            self._fail(name, found)

    def _tell(self, name: str, totals: Totals, started: float) -> None:
        self.totals.include(totals)
        print(f"{name:<76} {totals}, {time.monotonic() - started:.1f} s", flush=True)

    def _fail(self, name: str, found: list[str]) -> None:
        self.failed.append(f"{name}: " + "; ".join(found))
        print(*(f"  FAILED {name}: {each}" for each in found), sep="\n", flush=True)


def _after_the_first(deaths: Iterator[Death], most: int) -> Iterator[Death | None]:
    """The first life ends by itself, when the disk is full."""
    yield None
    for _ in range(most):
        yield next(deaths)


PARTS = ("random", "command", "steps", "deeds", "syscalls", "disk", "removals")


async def run(options: argparse.Namespace) -> Matrix:
    """All of it, or the parts that were asked for."""
    matrix = Matrix(Random(options.seed))
    async with Nursery() as nursery:
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "random": lambda: matrix.random_kills(nursery, options.kills),
            "command": matrix.commands,
            "steps": lambda: matrix.places(nursery),
            "deeds": lambda: matrix.deeds(nursery),
            "syscalls": matrix.system_calls,
            "disk": lambda: matrix.full_disks(nursery),
            "removals": lambda: matrix.removed_defences(nursery),
        }
        for name in options.only:
            print(f"\n== {name}", flush=True)
            await parts[name]()
    return matrix


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at random moments (200)")
    parser.add_argument("--seed", type=int, default=1, help="of these moments (1)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    started = time.monotonic()
    matrix = asyncio.run(run(parser.parse_args()))
    print(f"\n{matrix.totals}")
    print(f"{len(matrix.failed)} violations, in {time.monotonic() - started:.0f} s", *matrix.failed, sep="\n")
    return int(bool(matrix.failed))


if __name__ == "__main__":
    sys.exit(main())
