"""Figures of several rounds, by contestant and by what was measured: as a Markdown table, as JSON, and as a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import Spread, report
from plot import bars


@dataclass(frozen=True)
class Ratio:
    """A figure of one contestant divided by that of another, round by round.

    Args:
        name: For the table, and for the line of JSON.
        row: The contestant.
        base: The other. `None` takes the figure as it is.
        column: What was measured.
        aim: What it should be, ``"<= 1.8"``. `None` has no aim.
        base_column: Of the other, when it is not the same.
    """

    name: str
    row: str
    base: str | None
    column: str
    aim: str | None = None
    base_column: str | None = None


@dataclass
class Results:
    """What a benchmark has found out.

    Args:
        name: The benchmark's.
        question: What it answers.
        unit: Of all its figures.
    """

    name: str
    question: str
    unit: str
    rounds: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    """By column, by row, by round."""
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    """By column, by row: why there is no figure."""
    missing: dict[str, str] = field(default_factory=dict)
    """Libraries that are not there, and why."""
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    """Shares of its time that the server had nothing to do."""
    lateness: list[float] = field(default_factory=list)
    """Of the server's paced events: a p99 in ms for each time it was asked."""
    disturbed: list[float] = field(default_factory=list)
    """Shares of its time that a contestant waited for its core, because other processes had it."""

    def add(self, row: object, column: str, number: int, value: float) -> None:
        self.rounds.setdefault(column, {}).setdefault(str(row), {})[number] = value

    def fail(self, row: object, column: str, reason: object) -> None:
        self.rounds.setdefault(column, {})
        self.failures.setdefault(column, {})[str(row)] = str(reason)

    def note(self, result: dict[str, Any]) -> None:
        """Keep what tells how good a measurement was."""
        self.idle.append(result["server"]["idle"])
        self.lateness.append(result["server"]["late_p99_ms"])
        self.disturbed.append(result["disturbed"])

    def spread(self, row: str, column: str) -> Spread | None:
        values = self.rounds.get(column, {}).get(row)
        return Spread.of(list(values.values())) if values else None

    def ratio(self, ratio: Ratio) -> Spread | None:
        """`None` when there is no round in which both were measured."""
        if ratio.base is None:
            return self.spread(ratio.row, ratio.column)
        ours = self.rounds.get(ratio.column, {}).get(ratio.row, {})
        theirs = self.rounds.get(ratio.base_column or ratio.column, {}).get(ratio.base, {})
        both = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return Spread.of(both) if both else None

    def finish(self, folder: Path, ratios: Iterable[Ratio] = ()) -> None:
        """Print the tables, and write them, the raw figures and the plot into a folder."""
        ratios = list(ratios)
        folder.mkdir(parents=True, exist_ok=True)
        text = self._markdown(ratios)
        print(text)
        (folder / f"{self.name}.md").write_text(text, "utf-8")
        (folder / f"{self.name}.json").write_text(self._json(ratios), "utf-8")
        panels = {column: self._spreads(column) for column in self.rounds}
        (folder / f"{self.name}.svg").write_text(bars(f"{self.name}: {self.unit}", panels), "utf-8")
        found = {ratio.name: spread.median for ratio in ratios if (spread := self.ratio(ratio)) is not None}
        report(self.name, {re.sub(r"\W+", "_", name): value for name, value in found.items()})

    def _spreads(self, column: str) -> dict[str, Spread]:
        return {row: Spread.of(list(values.values())) for row, values in self.rounds[column].items()}

    def _rows(self) -> list[str]:
        rows: dict[str, None] = {}
        for column in self.rounds:
            rows.update(dict.fromkeys(self.rounds[column]))
            rows.update(dict.fromkeys(self.failures.get(column, {})))
        return list(rows)

    def _markdown(self, ratios: list[Ratio]) -> str:
        columns = list(self.rounds)
        lines = [f"# {self.name}", "", self.question, "", f"Median (middle half of the rounds), {self.unit}.", ""]
        lines += [_line(["", *columns]), _line(["---", *["---:"] * len(columns)])]
        lines += [_line([row, *[self._cell(row, column) for column in columns]]) for row in self._rows()]
        if ratios:
            lines += ["", _line(["ratio, within rounds", "", "aim"]), _line(["---", "---:", "---:"])]
            lines += [_line([each.name, _shown(self.ratio(each)), each.aim or ""]) for each in ratios]
        lines += ["", *[f"- {note}" for note in self._remarks()], ""]
        return "\n".join(lines)

    def _cell(self, row: str, column: str) -> str:
        has_failed = row in self.failures.get(column, {})
        spread = self.spread(row, column)
        return "failed" if has_failed and spread is None else _shown(spread)

    def _remarks(self) -> list[str]:
        remarks = [*self.notes, ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))]
        remarks.append(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores")
        if self.idle:
            remarks.append(f"The server was idle {min(self.idle):.0%} of the time or more.")
        if any(self.lateness):
            remarks.append(f"Its paced events were late by {max(self.lateness):.1f} ms or less (p99).")
        if self.disturbed:
            most, middle = max(self.disturbed), statistics.median(self.disturbed)
            remarks.append(
                f"Contestants waited for their core {middle:.1%} of the time in the median, {most:.0%} at most."
            )
        for column, reasons in self.failures.items():
            remarks += [f"Failed: {row}, {column}: {reason}" for row, reason in reasons.items()]
        remarks += [f"**Missing: {name}**: {reason}" for name, reason in self.missing.items()]
        return remarks

    def _json(self, ratios: list[Ratio]) -> str:
        found = {ratio.name: None if (spread := self.ratio(ratio)) is None else asdict(spread) for ratio in ratios}
        document = {**vars(self), "ratios": found}
        return json.dumps(document, indent=1)


def _shown(spread: Spread | None) -> str:
    if spread is None:
        return ""
    digits = max(0, 2 - math.floor(math.log10(abs(spread.median)))) if spread.median else 0
    median, low, high = (f"{value:,.{min(digits, 3)}f}" for value in (spread.median, spread.low, spread.high))
    return median if spread.low == spread.high else f"{median} ({low} to {high})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
