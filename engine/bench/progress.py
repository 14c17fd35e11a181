"""How far a stage has come, for who watches it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """How far a stage has come in one process. Counts of requests, but for `events`."""

    started: int = 0
    running: int = 0
    held_back: int = 0
    completed: int = 0
    failed: int = 0
    events: int = 0
