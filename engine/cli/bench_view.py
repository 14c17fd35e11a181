"""Shows a benchmark while it runs: drawn on a terminal, a line now and then anywhere else.

The requests are made by other processes, so drawing does not delay what is measured as long as there is a core for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bench_progress import Snapshot
from .output import Output
from .view import DRAWN_EVERY, TOLD_EVERY, Drawn, Lines, View, bar_and_lines, can_draw

if TYPE_CHECKING:
    from rich.table import Table


def make_view(err: Output, *, quiet: bool, interval: float | None) -> View[Snapshot]:
    """What suits stderr: drawn by rich on a terminal that can be drawn on and where rich is installed, else lines.

    Args:
        err: stderr.
        quiet: Whether nothing but `say` is wanted.
        interval: Seconds between two views. `None` takes the default.
    """
    if quiet:
        return Lines(err, None, _told)
    if not can_draw(err):
        return Lines(err, interval or TOLD_EVERY, _told)
    return Drawn(interval or DRAWN_EVERY, _drawing)


def _told(snapshot: Snapshot) -> str:
    return f"{snapshot.stage_line()}: {snapshot.work_line()}"


def _drawing(snapshot: Snapshot) -> Table:
    return bar_and_lines(snapshot.share, 0.0, snapshot.stage_line(), snapshot.work_line())
