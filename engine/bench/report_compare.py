"""Two runs side by side, as a page like that of a report: one file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .bootstrap import Interval
from .change import Change
from .comparison import Comparison, Judged, StageComparison
from .definitions import Unit, Vocabulary
from .report import page
from .report_tables import table
from .scales import number

_INVALID = {"base": "The run to compare with does not count.", "value": "The run that is looked at does not count."}


def comparison_page(comparison: Comparison, base: str, new: str) -> str:
    """The page, as a text.

    Args:
        comparison: What is shown.
        base: What the run to compare with is called.
        new: What the run that is looked at is called.
    """
    title = f"{base} and {new}"
    parts = [f'<header><h1>{escape(title)}</h1><p class="about">Penstock bench, compared</p></header>']
    parts.append(_verdict(comparison))
    parts += _section("Thresholds", _thresholds(comparison))
    for stage in comparison.stages:
        parts += _section(stage.stage, _changes(stage, comparison.vocabulary))
    parts += _section("What is different about the runs", _differences(comparison))
    return page(title, "\n".join(parts))


def _verdict(comparison: Comparison) -> str:
    remarks = [_INVALID[which] for which in comparison.invalid]
    remarks += [f"Only one of the runs has the stage {stage}." for stage in comparison.unmatched]
    if not remarks:
        return ""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    kind = " fatal" if comparison.invalid else ""
    return f'<div class="verdict{kind}" role="note"><ul>{items}</ul></div>'


def _thresholds(comparison: Comparison) -> str:
    if not comparison.judged:
        return ""
    units: dict[str, Unit] = {each.name: each.unit for each in comparison.vocabulary.definitions}
    lines = [(each.threshold.text, _judged(each, units[each.threshold.figure])) for each in comparison.judged]
    return table(["Limit", "Stage", "Base", "New", "Judgement"], lines)


def _judged(judged: Judged, unit: Unit) -> list[str]:
    return [judged.stage, _value(judged.base, unit), _value(judged.value, unit), judged.judgement]


def _changes(stage: StageComparison, vocabulary: Vocabulary) -> str:
    shown = [change for change in stage.changes if vocabulary.is_brief(change.definition)]
    return table(["Figure", "Base", "New", "Change", "Interval", ""], [(_name(each), _change(each)) for each in shown])


def _name(change: Change) -> str:
    unit = change.definition.unit
    return change.name if unit == "share" else f"{change.name}, {unit}"


def _change(change: Change) -> list[str]:
    unit = change.definition.unit
    moved = "" if change.share is None else f"{change.share:+.1%}"
    direction = "" if change.direction == "unclear" else change.direction
    return [_value(change.base, unit), _value(change.value, unit), moved, _interval(change.change), direction]


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:+.1%} to {interval.high:+.1%}"


def _value(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if unit == "share" else number(value)


def _differences(comparison: Comparison) -> str:
    lines = [(name, [first or "nothing", second or "nothing"]) for name, first, second in comparison.differences]
    return table(["", "Base", "New"], lines) if lines else ""


def _section(title: str, content: str) -> Iterator[str]:
    if content:
        yield f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"
