"""Figures and requests as comma-separated values, a row for each."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

from .definitions import RunDefinition
from .distribution import PLACES
from .document import Document, write_whole
from .figures import Figures
from .load_words import load_number, stage_words
from .moments import COLUMNS

_NOT_IN_ROWS = ("stamps", "stamp_events")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would take for a formula


def figures_csv(figures: Figures) -> str:
    """A row for each figure of each stage: stage, its load, name, unit, and its values.

    A figure of the run has a ``value``; one of requests or gaps a ``count`` and its distribution.
    """
    rows: list[list[Any]] = [["stage", "load", "load_number", "figure", "unit", "value", "count", *PLACES]]
    for stage in figures.stages:
        head = [stage.position, stage_words(stage.stage), load_number(stage.stage.load)]
        for definition in figures.vocabulary.definitions:
            line = [*head, definition.name, definition.unit]
            if isinstance(definition, RunDefinition):
                rows.append([*line, stage.values[definition.name]])
            else:
                distribution = stage.distributions[definition.name]
                rows.append([*line, None, distribution.count, *map(distribution.at, PLACES)])
        rows += [[*head, f"requests_{name}", "requests", count] for name, count in stage.requests.items()]
    return _text(rows)


def requests_csv(document: Document) -> str:
    """A row for each request, the warm-up's too; the columns are the fields of `Moments`, a failure in two of them.

    Times are nanoseconds from the start of the run.
    """
    columns = [name for name in COLUMNS if name not in (*_NOT_IN_ROWS, "failure")]
    rows: list[list[Any]] = [[*columns, "failure", "failure_status"]]
    for record in document.recording.stages:
        for moments in record.requests:
            failure = moments.failure
            end = ["", ""] if failure is None else [failure.name, failure.status]
            rows.append([*(getattr(moments, name) for name in columns), *end])
    return _text(rows)


def write_csv(text: str, path: str | Path) -> None:
    """Write a table into a file, which is there whole or not at all.

    Raises:
        BenchDocumentError: It cannot be written.
    """
    write_whole(path, text.encode())


def _text(rows: list[list[Any]]) -> str:
    out = StringIO()
    width = len(rows[0])
    for row in rows:
        csv.writer(out, lineterminator="\n").writerow(map(_cell, [*row, *[""] * (width - len(row))]))
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Text that came from a server must not become a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
