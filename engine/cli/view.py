"""Where a command shows how far it is: drawn on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .output import Output

if TYPE_CHECKING:
    from rich.table import Table

DRAWN_EVERY = 0.2  # seconds; what an eye takes for moving
TOLD_EVERY = 10.0  # seconds between lines
_BAR = 24  # letters, which leaves a narrow terminal room for the figures

ProgressT = TypeVar("ProgressT")
ProgressT_contra = TypeVar("ProgressT_contra", contravariant=True)


class View(Protocol[ProgressT_contra]):
    """Where progress is shown."""

    interval: float | None
    """Seconds between two calls of `show`. `None`: never."""

    def show(self, progress: ProgressT_contra) -> None:
        """Show how far it is."""
        ...

    def say(self, text: str) -> None:
        """Tell a person something, above what is drawn."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was. Twice is harmless."""
        ...


def can_draw(err: Output) -> bool:
    """Whether stderr is a terminal that can be drawn on, and rich is installed."""
    return err.is_terminal and os.environ.get("TERM") != "dumb" and importlib.util.find_spec("rich") is not None


class Lines(Generic[ProgressT]):
    """A line each time.

    Args:
        err: stderr.
        interval: See `View`.
        told: Progress as a line.
    """

    def __init__(self, err: Output, interval: float | None, told: Callable[[ProgressT], str]) -> None:
        self._err = err
        self.interval = interval
        self._told = told

    def show(self, progress: ProgressT) -> None:
        self._err.line(self._told(progress))

    def say(self, text: str) -> None:
        self._err.line(text)

    def close(self) -> None:
        """Nothing is drawn."""


class Drawn(Generic[ProgressT]):
    """A bar and two lines, drawn by rich and taken away at the end.

    Args:
        interval: See `View`.
        drawing: Progress as what `bar_and_lines` makes.
    """

    def __init__(self, interval: float, drawing: Callable[[ProgressT], Table]) -> None:
        from rich.console import Console
        from rich.live import Live

        self.interval: float | None = interval
        self._drawing = drawing
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        # Nothing is drawn by a thread of rich: a signal handler of ours may be saying something.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def show(self, progress: ProgressT) -> None:
        self._live.update(self._drawing(progress), refresh=True)

    def say(self, text: str) -> None:
        self._console.print(text)

    def close(self) -> None:
        self._live.stop()


def bar_and_lines(share: float | None, seconds: float, first: str, second: str) -> Table:
    """What is drawn.

    Args:
        share: Of the whole that is done, 0 to 1. `None` where that is not known: then the bar moves to and fro.
        seconds: Since the begin, by which it moves.
        first: Beside the bar.
        second: Below it.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    total = None if share is None else 1.0
    bar = ProgressBar(total=total, completed=share or 0.0, width=_BAR, pulse=total is None, animation_time=seconds)
    drawing = Table.grid(padding=(0, 1))
    drawing.add_row(bar, Text(first))
    drawing.add_row("", Text(second, style="dim"))
    return drawing
