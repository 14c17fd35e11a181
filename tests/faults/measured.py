"""What the openai SDK has been measured to do, kept beside the scenarios in `tests/data/faults_openai.json`.

``python -m tests.faults.measured`` measures again and writes the file.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import math
from typing import Any

from tests.project import ROOT

from .clients import Outcome, play_to_openai
from .scenario import Scenario
from .table import SCENARIOS

FILE = ROOT / "tests" / "data" / "faults_openai.json"
PACKAGES = ("openai", "httpx2", "h11")
_LONG = 80  # characters of a text that are kept


def compared() -> list[Scenario]:
    """The scenarios that are played to the SDK."""
    return [scenario for scenario in SCENARIOS if not scenario.own]


def read() -> dict[str, Any]:
    """``versions`` by package, and ``outcomes`` by scenario and mode."""
    measured: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return measured


def versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def record(outcome: Outcome) -> dict[str, Any]:
    """What is kept of an outcome: what is the same each time."""
    text = outcome.text
    if isinstance(text, str) and len(text) > _LONG:
        text = f"{len(text)} characters"
    facts = {
        "kind": outcome.kind,
        "text": text or None,
        "attempts": outcome.attempts,
        "waits": [_wait(number, wait) for number, wait in enumerate(outcome.waits)],
        "runs": outcome.runs,
        "elsewhere": outcome.elsewhere,
    }
    return {name: fact for name, fact in facts.items() if fact}


def _wait(number: int, wait: float) -> float | str:
    """The SDK's own backoff, of which a random share up to a quarter is taken off, or a wait that it was told: of a
    date the next whole second.
    """
    longest = 0.5 * 2**number
    if longest * 0.75 <= wait <= longest:
        return "backoff"
    return wait if wait < 2 else math.ceil(wait)


async def _measure() -> dict[str, Any]:
    return {
        f"{scenario.id}-{mode}": record(await play_to_openai(scenario, mode))
        for scenario in compared()
        for mode in scenario.modes
    }


def main() -> None:
    measured = {"versions": versions(), "outcomes": asyncio.run(_measure())}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in measured["outcomes"].items())
    FILE.write_text(f'{{"versions": {json.dumps(measured["versions"])}, "outcomes": {{\n{lines}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    main()
