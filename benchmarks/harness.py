"""What every benchmark here needs: its core, the server, medians with spread, one line of JSON at the end."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Spread:
    """A figure measured several times: its median, and the middle half around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one value, which then has no spread."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        quarters = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), quarters[0], quarters[2])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def report(name: str, figures: dict[str, float]) -> None:
    """Print the line that other programs read."""
    rounded = {figure: round(value, 4) for figure, value in figures.items()}
    print(json.dumps({"name": name, "figures": rounded}))


def pin(core: int) -> None:
    """Keep this process on one core, so that the server has another. Without effect on one core, or where it cannot
    be done.
    """
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


def raise_file_limit() -> int:
    """Allow this process as many open files as it may have. Returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


@contextmanager
def load_server(python: str = sys.executable, script: str = "load_server.py") -> Iterator[str]:
    """The URL of a load server, in a process and on a core of its own.

    Args:
        python: The interpreter to run it with.
        script: Which server.
    """
    command = [python, str(HERE / script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
