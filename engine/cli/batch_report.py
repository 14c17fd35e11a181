"""What became of a batch: lines for a person, an object for a program, and the exit code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..batch.counters import BatchSummary
from ..batch.targets import STDOUT
from ..errors import (
    BadRowError,
    ConfigurationError,
    DuplicateRowError,
    InputChangedError,
    InputError,
    JournalError,
    ModelEngineError,
    OutputError,
    RowsInDoubtError,
    type_name,
)
from . import exits
from .batch_figures import Figures, amount, told_cost
from .report import duration

_SHOWN = 20  # ids; --json has more

_EXITS: tuple[tuple[type[ModelEngineError], int], ...] = (
    (ConfigurationError, exits.USAGE),
    (RowsInDoubtError, exits.IN_DOUBT),
    (InputError, exits.INPUT),
    (BadRowError, exits.INPUT),
    (InputChangedError, exits.INPUT),
    (DuplicateRowError, exits.INPUT),
    (JournalError, exits.JOURNAL),
    (OutputError, exits.OUTPUT),
)


def exit_of(error: ModelEngineError) -> int:
    """The exit code of what stopped a batch."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), exits.FAILED)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A run that is over.

    Args:
        figures, summary: What it counted. `None` when it did not begin.
        error: What stopped it. `None` when nothing did.
        was_interrupted: Whether it was told to stop.
        was_cut_off: Whether it was told twice, and ended before its results were published.
    """

    figures: Figures | None
    summary: BatchSummary | None
    error: ModelEngineError | None = None
    was_interrupted: bool = False
    was_cut_off: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the whole input was gone through and the results are published."""
        went_through = self.summary is not None and self.summary.is_complete
        return went_through and self.error is None and not self.was_cut_off

    @property
    def left_in_doubt(self) -> int:
        """Rows that were in doubt and were not sent again."""
        return 0 if self.summary is None else self.summary.errors.get(type_name(RowsInDoubtError()), 0)

    @property
    def code(self) -> int:
        """The exit code."""
        if self.error is not None:
            return exit_of(self.error)
        if self.summary is None or not self.is_complete:
            return exits.INTERRUPTED
        if self.left_in_doubt:
            return exits.IN_DOUBT
        return exits.FAILED if self.summary.failed else exits.OK

    def to_json(self, options: Namespace) -> dict[str, Any]:
        """For a program. Every field is always there; `None` where it is not known."""
        summary = self.summary
        return {
            "exit_code": self.code,
            "is_complete": self.is_complete,
            "was_interrupted": self.was_interrupted,
            **({} if self.figures is None else self.figures.to_json()),
            "absent": None if summary is None else summary.absent,
            "in_doubt_ids": [] if summary is None else list(summary.in_doubt_ids),
            "possibly_duplicated_ids": [] if summary is None else list(summary.possibly_duplicated_ids),
            "output": options.output,
            "journal": options.journal,
            "error": None if self.error is None else {"class": type_name(self.error), "message": self.error.message},
        }

    def lines(self, options: Namespace) -> Iterator[str]:
        """For a person."""
        if self.summary is None or self.figures is None or (self.error is not None and not self.summary.read):
            return  # it has not begun
        summary = self.summary
        yield _row("done", rows(summary.done) + _of_which(summary.from_journal, "from the journal"))
        if summary.failed:
            kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.errors.items(), key=_by_count))
            yield _row("failed", f"{rows(summary.failed)}: {kinds}")
        if summary.in_doubt:
            what = "left out" if self.left_in_doubt else "sent again"
            yield _row("in doubt", f"{in_doubt_sentence(summary.in_doubt)}; {what}: {shown(summary.in_doubt_ids)}")
        if summary.possibly_duplicated:
            ids = shown(summary.possibly_duplicated_ids)
            yield _row("doubled?", f"{rows(summary.possibly_duplicated)} may have been executed twice: {ids}")
        if summary.absent:
            yield _row("absent", f"{rows(summary.absent)} of the journal are not in the input, and not in the output")
        yield _row("requests", f"{summary.requests:,}, {summary.retries:,} of them retries")
        if summary.input_tokens or summary.output_tokens:
            tokens = f"{amount(summary.input_tokens)} in, {amount(summary.output_tokens)} out"
            cost = told_cost(summary.cost, self.figures.estimated_cost)
            yield _row("tokens", ", ".join(part for part in (tokens, cost) if part))
        yield _row("time", f"{duration(summary.seconds)}, {summary.rows_per_second:,.1f} rows/s")
        yield from self._files(options)

    def _files(self, options: Namespace) -> Iterator[str]:
        again = "the same command goes on from here"
        if options.output != STDOUT:
            if self.is_complete or options.publish == "append":
                yield _row("output", options.output)
            else:
                yield _row("output", f"{options.output} is not written yet")
        if options.journal is not None:
            yield _row("journal", options.journal if self.is_complete else f"{options.journal}; {again}")
        elif not self.is_complete:
            yield _row("journal", "none: the same command begins anew")


def in_doubt_sentence(count: int) -> str:
    """Rows that no key protects, in one sentence."""
    if count == 1:
        return "this row was in flight and no key protects it"
    return f"these {count:,} rows were in flight and no key protects them"


def rows(count: int) -> str:
    """A number of rows, in words."""
    return "1 row" if count == 1 else f"{count:,} rows"


def shown(ids: tuple[str, ...] | list[str]) -> str:
    """The first of some ids; what is in them cannot break the line."""
    listed = ", ".join(each if each.isprintable() else ascii(each) for each in ids[:_SHOWN])
    return listed if len(ids) <= _SHOWN else f"{listed}, ..."


def _of_which(count: int, where: str) -> str:
    return f", {count:,} of them {where}" if count else ""


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _row(name: str, value: str) -> str:
    return f"{name:<9} {value}"
