"""Shows a benchmark while it runs: drawn on a terminal, a line now and then anywhere else.

The requests are made by other processes, so drawing does not delay what is measured as long as there is a core for it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Protocol

from .batch_view import DRAWN_EVERY, TOLD_EVERY
from .bench_progress import Snapshot
from .output import Output

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 24  # letters, which leaves a narrow terminal room for the figures


class View(Protocol):
    """Where progress is shown."""

    interval: float | None
    """Seconds between two calls of `show`. `None`: never."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how far it is."""
        ...

    def say(self, text: str) -> None:
        """Tell a person something, above what is drawn."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was. Twice is harmless."""
        ...


def make_view(err: Output, *, quiet: bool, interval: float | None) -> View:
    """What suits stderr: drawn by rich on a terminal that can be drawn on and where rich is installed, else lines.

    Args:
        err: stderr.
        quiet: Whether nothing but `say` is wanted.
        interval: Seconds between two views. `None` takes the default.
    """
    if quiet:
        return Lines(err, None)
    if not err.is_terminal or os.environ.get("TERM") == "dumb" or importlib.util.find_spec("rich") is None:
        return Lines(err, interval or TOLD_EVERY)
    return Drawn(interval or DRAWN_EVERY)


class Lines:
    """Plain lines."""

    def __init__(self, err: Output, interval: float | None) -> None:
        self._err = err
        self.interval = interval

    def show(self, snapshot: Snapshot) -> None:
        self._err.line(f"{snapshot.stage_line()}: {snapshot.work_line()}")

    def say(self, text: str) -> None:
        self._err.line(text)

    def close(self) -> None:
        """Nothing is drawn."""


class Drawn:
    """A bar and two lines, drawn by rich and taken away at the end."""

    def __init__(self, interval: float) -> None:
        from rich.console import Console
        from rich.live import Live

        self.interval: float | None = interval
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        # Nothing is drawn by a thread of rich: a signal handler of ours may be saying something.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(_drawing(snapshot), refresh=True)

    def say(self, text: str) -> None:
        self._console.print(text)

    def close(self) -> None:
        self._live.stop()


def _drawing(snapshot: Snapshot) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = ProgressBar(total=1.0, completed=snapshot.share, width=_BAR)
    drawing = Table.grid(padding=(0, 1))
    drawing.add_row(bar, Text(snapshot.stage_line()))
    drawing.add_row("", Text(snapshot.work_line(), style="dim"))
    return drawing
