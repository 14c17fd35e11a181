"""Shows a batch while it runs: drawn on a terminal, a line of JSON now and then anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from .batch_figures import Figures
from .output import Output
from .view import DRAWN_EVERY, TOLD_EVERY, Drawn, Lines, View, bar_and_lines, can_draw

if TYPE_CHECKING:
    from rich.table import Table


def make_view(err: Output, *, quiet: bool, interval: float | None) -> View[Figures]:
    """What suits stderr: drawn by rich on a terminal that can be drawn on and where rich is installed, lines of text on
    any other terminal, lines of JSON elsewhere.

    Args:
        err: stderr.
        quiet: Whether nothing but `say` is wanted.
        interval: Seconds between lines. `None` takes the default.
    """
    if quiet:
        return Lines(err, None, _told)
    if not err.is_terminal:
        return Lines(err, interval or TOLD_EVERY, _as_json)
    if not can_draw(err):
        return Lines(err, interval or TOLD_EVERY, _told)
    return Drawn(interval or DRAWN_EVERY, _drawing)


def _told(figures: Figures) -> str:
    return f"{figures.rows_line()}; {figures.work_line()}"


def _as_json(figures: Figures) -> str:
    return orjson.dumps({"progress": figures.to_json()}).decode()


def _drawing(figures: Figures) -> Table:
    return bar_and_lines(figures.share, figures.progress.seconds, figures.rows_line(), figures.work_line())
