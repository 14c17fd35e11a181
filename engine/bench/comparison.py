"""Two runs, figure by figure: what changed, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .change import Change, StageComparer
from .definitions import Vocabulary
from .document import Document
from .load_words import load_words, stage_words
from .peers import VOCABULARIES
from .recording import StageRecord
from .thresholds import Judgement, Threshold
from .vocabulary import PENSTOCK


@dataclass(frozen=True, slots=True)
class Judged:
    """A threshold, and what became of it in one stage.

    Args:
        threshold: The limit.
        stage: In words.
        base, value: Of the figure.
        judgement: Whether it was kept. One that could not be told is not.
    """

    threshold: Threshold
    stage: str
    base: float | None
    value: float | None
    judgement: Judgement

    @property
    def is_failed(self) -> bool:
        return self.judgement in ("crossed", "unknown")

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold.text,
            "stage": self.stage,
            "base": self.base,
            "value": self.value,
            "judgement": self.judgement,
        }


@dataclass(frozen=True, slots=True)
class StageComparison:
    """The same load in two runs.

    Args:
        stage: In words.
        changes: Of all figures that one of the two has.
    """

    stage: str
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.stage, "changes": [change.to_json() for change in self.changes]}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs.

    Args:
        vocabulary: Whose words.
        stages: Those of the same load.
        unmatched: Stages that only one of the two has, in words.
        differences: What the two say of themselves and is not the same: name, first, second.
        judged: What became of thresholds.
        invalid: Which of the two does not count, in a stage that both have: ``base``, ``value``.
    """

    vocabulary: Vocabulary
    stages: tuple[StageComparison, ...]
    unmatched: tuple[str, ...]
    differences: tuple[tuple[str, str, str], ...]
    judged: tuple[Judged, ...]
    invalid: tuple[str, ...]

    @property
    def is_failed(self) -> bool:
        """Whether a threshold was crossed, or could not be told."""
        return any(each.is_failed for each in self.judged)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "is_failed": self.is_failed,
            "invalid": list(self.invalid),
            "vocabulary": self.vocabulary.name,
            "stages": [stage.to_json() for stage in self.stages],
            "unmatched": list(self.unmatched),
            "differences": [list(each) for each in self.differences],
            "thresholds": [each.to_json() for each in self.judged],
        }


def compare(
    base: Document,
    other: Document,
    thresholds: Sequence[Threshold] = (),
    *,
    vocabulary: str = PENSTOCK.name,
    strict: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two runs, stage by stage.

    Stages of the same load are compared; when each run has one stage alone, these are, whatever their loads.

    Args:
        base: The run to compare with.
        other: The run that is looked at. Its objectives hold for goodput of both.
        thresholds: Limits, judged in every stage.
        vocabulary: Whose definitions; see `peers.VOCABULARIES`.
        strict: Judge changes as they are, also those that may be chance.
        confidence: Of the intervals.
        seed: Of the bootstrap; the same gives the same.
    """
    words = VOCABULARIES[vocabulary]
    pairs, unmatched = _pairs(base, other)
    stages, judged = [], []
    invalid: set[int] = set()
    for first, second in pairs:
        name = stage_words(second.stage)
        comparer = StageComparer(first, second, other.slos, words, confidence, f"{seed}/{name}")
        invalid.update(comparer.invalid())
        stages.append(StageComparison(name, tuple(comparer.changes())))
        for threshold in thresholds:
            change = comparer.change(threshold.figure, threshold.place)
            interval = change.change if threshold.kind == "change" else change.difference
            judgement = threshold.judge(change.value, change.base, interval, strict)
            judged.append(Judged(threshold, name, change.base, change.value, judgement))
    if not pairs:
        judged = [Judged(threshold, "", None, None, "unknown") for threshold in thresholds]
    sides = tuple(("base", "value")[side] for side in sorted(invalid))
    return Comparison(words, tuple(stages), unmatched, tuple(_differences(base, other)), tuple(judged), sides)


def judge(
    document: Document, thresholds: Sequence[Threshold], *, vocabulary: str = PENSTOCK.name
) -> tuple[Judged, ...]:
    """Hold one run against limits, in every stage. Limits that need another run are ``unknown``."""
    judged = []
    for stage in document.figures(vocabulary).stages:
        for threshold in thresholds:
            value = stage.value(threshold.figure, threshold.place)
            judgement = "unknown" if threshold.needs_base else threshold.judge(value)
            judged.append(Judged(threshold, stage_words(stage.stage), None, value, judgement))
    return tuple(judged) or tuple(Judged(threshold, "", None, None, "unknown") for threshold in thresholds)


def _pairs(base: Document, other: Document) -> tuple[list[tuple[StageRecord, StageRecord]], tuple[str, ...]]:
    firsts, seconds = (
        [record for record in document.recording.stages if not record.stage.is_warm_up] for document in (base, other)
    )
    if len(firsts) == len(seconds) == 1:
        return [(firsts[0], seconds[0])], ()
    known = {load_words(record.stage.load): record for record in firsts}
    pairs = [(known[name], record) for record in seconds if (name := load_words(record.stage.load)) in known]
    paired = {id(record) for pair in pairs for record in pair}
    return pairs, tuple(stage_words(record.stage) for record in (*firsts, *seconds) if id(record) not in paired)


def _differences(base: Document, other: Document) -> Iterator[tuple[str, str, str]]:
    """What the two say of themselves, member by member, where it is not the same."""
    first, second = dict(_flat(base.shown)), dict(_flat(other.shown))
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            yield name, str(first.get(name, "")), str(second.get(name, ""))


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{before}{name}.")
        else:
            yield f"{before}{name}", each
