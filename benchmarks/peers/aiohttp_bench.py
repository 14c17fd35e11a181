"""The loop of `bench_loop`, which makes no statistics, and says nothing of itself."""

from __future__ import annotations

import json
from pathlib import Path

from .base import BenchClient, Load, Marks, Timed

SCRIPT = Path(__file__).parent.parent / "bench_loop.py"


def command(programs: Path, url: str, load: Load, folder: Path) -> list[str]:
    pace = ["--rate", str(load.rate)] if load.rate else ["--concurrency", str(load.concurrency)]
    asked = [url, load.prompt, str(load.requests), *pace, "--json", str(folder / "run.json")]
    return [str(programs / "python"), str(SCRIPT), *asked]


def read(folder: Path) -> list[Timed]:
    return [Timed(**each) for each in json.loads((folder / "run.json").read_bytes())]


def marks(printed: str, folder: Path) -> Marks:
    return Marks(console=False, document=False)


CLIENT = BenchClient(command, read, marks)
