"""Two runs side by side, as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from .bootstrap import Interval
from .change import Change
from .comparison import Comparison, StageComparison
from .console import WIDTH, plain
from .definitions import Unit, Vocabulary
from .scales import number

_INVALID = {"base": "The run to compare with does not count.", "value": "The run that is looked at does not count."}
_MOST = 12  # differences between what the runs say of themselves


def comparison_block(comparison: Comparison) -> str:
    """What changed, in which stage, and what became of thresholds. At most `WIDTH` columns, but for long names."""
    lines = [f"== Penstock bench, compared {'=' * (WIDTH - 28)}"]
    lines += [f"! {_INVALID[which]}" for which in comparison.invalid]
    lines += [f"* {name}: {first or 'nothing'} -> {second or 'nothing'}" for name, first, second in _shown(comparison)]
    lines += [f"* Only one of the runs has the stage {stage}." for stage in comparison.unmatched]
    for stage in comparison.stages:
        lines += _stage(stage, comparison.vocabulary)
    if comparison.judged:
        lines.append(f"-- thresholds {'-' * (WIDTH - 14)}")
    for judged in comparison.judged:
        unit = _unit(comparison, judged.threshold.figure)
        values = f"{_value(judged.base, unit)} -> {_value(judged.value, unit)}"
        stage_name = f"{judged.stage}: " if len(comparison.stages) > 1 else ""
        lines.append(f"{judged.judgement.upper():<10} {judged.threshold.text}  ({stage_name}{values})")
    lines.append("=" * WIDTH)
    return "\n".join(map(plain, lines)) + "\n"


def _stage(stage: StageComparison, vocabulary: Vocabulary) -> Iterator[str]:
    yield f"-- {stage.stage} ".ljust(WIDTH, "-")
    yield f"{'':<30}{'base':>12}{'now':>12}{'change':>10}   interval"
    shown = [change for change in stage.changes if vocabulary.is_brief(change.definition)]
    for change in shown:
        yield _line(change).rstrip()
    count = sum(change.difference is not None for change in shown)
    if count:
        confidence = next(each.difference.confidence for each in shown if each.difference is not None)
        expected = count * (1 - confidence)
        yield f"Intervals of {confidence:.0%}: about {expected:.0f} of these {count} show a change where there is none."


def _line(change: Change) -> str:
    unit = change.definition.unit
    name = f"{change.name}, {unit}" if unit != "share" else change.name
    moved = "" if change.share is None else f"{change.share:+.1%}"
    mark = "" if change.direction == "unclear" else change.direction
    values = f"{_value(change.base, unit):>12}{_value(change.value, unit):>12}{moved:>10}"
    return f"{name:<30}{values}   {_interval(change.change):<20} {mark}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:+.1%} to {interval.high:+.1%}"


def _value(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if unit == "share" else number(value)


def _unit(comparison: Comparison, figure: str) -> Unit:
    return next(each.unit for each in comparison.vocabulary.definitions if each.name == figure)


def _shown(comparison: Comparison) -> tuple[tuple[str, str, str], ...]:
    return comparison.differences[:_MOST]
