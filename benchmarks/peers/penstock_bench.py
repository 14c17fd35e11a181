"""``penstock bench`` as it is installed with ``penstock[cli]``, with uvloop beside it, which it then takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .base import KEY, MODEL, BenchClient, Load, Marks, Timed

NS = 1e9


def command(programs: Path, url: str, load: Load, folder: Path) -> list[str]:
    pace = (
        ["--rate", str(load.rate), "--arrivals", "constant"] if load.rate else ["--concurrency", str(load.concurrency)]
    )
    asked = ["--model", MODEL, "--prompt", load.prompt, "--requests", str(load.requests), *pace]
    calibration = [] if load.is_calibrated else ["--no-calibration"]
    return [
        str(programs / "penstock"),
        "bench",
        url,
        *asked,
        *calibration,
        "--quiet",
        "--json",
        str(folder / "run.json"),
    ]


def read(folder: Path) -> list[Timed]:
    columns = _document(folder)["stages"][-1]["requests"]
    requests = (dict(zip(columns, row)) for row in zip(*columns.values()))
    return [_timed(each) for each in requests if each["outcome"] == "completed"]


def marks(printed: str, folder: Path) -> Marks:
    return Marks("THIS RUN DOES NOT COUNT" in printed, not _document(folder)["is_valid"])


def _document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    return document


def _timed(request: dict[str, Any]) -> Timed:
    due, first, last, events = (
        request[name] for name in ("scheduled", "first_content", "last_content", "content_events")
    )
    gap = (last - first) / (events - 1) / 1e6 if events > 1 else None
    return Timed(request["request_id"] or "", due / NS, last / NS, (first - due) / 1e6, gap, events)


CLIENT = BenchClient(command, read, marks, variables={"OPENAI_API_KEY": KEY})
