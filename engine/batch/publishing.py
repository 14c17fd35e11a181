"""What becomes of results: who takes them from the journal, and the lines that they become.

What stands in a file is a function of the journal. So a run that was killed anywhere is gone on with by knowing how far
the function was written, and no row is lost, torn or written twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from .journal import Journal
from .results import BatchResult, openai_line
from .targets import STDOUT, resolved

Shape = Literal["own", "openai"]
"""How a line says a result: as `BatchResult.line` or as `BatchResult.openai_line` does."""

Encode = Callable[[bytes], bytes]
"""A line of the journal, without its end, to a line of a file, with it."""


@runtime_checkable
class Publisher(Protocol):
    """Where results go. It is told what the run does, and takes the results from the journal."""

    async def start(self, journal: Journal) -> None:
        """Get ready. Called before anything is sent; what cannot work is found here."""
        ...

    def __call__(self, result: BatchResult) -> None:
        """A row has its result. What the journal does not have comes in the order of the input.

        Raises why publishing has failed, so that the run stops.
        """
        ...

    async def finish(self, is_complete: bool) -> None:
        """The run is over, and everything is committed. `is_complete`: it went through the whole input."""
        ...

    async def close(self) -> None:
        """Let go of everything, whatever has happened. Twice is harmless."""
        ...


def paths(path: str | os.PathLike[str], errors: str | os.PathLike[str] | None) -> tuple[str, str]:
    """Where results and failures go, links followed. With stdout and no `errors` they share the stream."""
    if errors is not None:
        return resolved(path), resolved(errors)
    return resolved(path), STDOUT if os.fspath(path) == STDOUT else f"{resolved(path)}.errors.jsonl"


def encoder(shape: Shape) -> Encode:
    """What makes lines of that shape."""
    return _own if shape == "own" else _openai


def _own(line: bytes) -> bytes:
    return line + b"\n"


def _openai(line: bytes) -> bytes:
    return openai_line(line) + b"\n"
