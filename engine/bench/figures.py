"""What was measured, as figures: by one vocabulary, for each stage of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .definitions import NS_PER_MS, Definition, RunDefinition, Vocabulary
from .distribution import Distribution
from .measured import Measured
from .moments import Moments
from .recording import Recording, Stage, StageRecord
from .slo import Slo, good
from .validity import Remark, remarks_on
from .vocabulary import PENSTOCK

_MESSAGE = 200  # characters of a message that stand for its class


@dataclass(frozen=True, slots=True)
class FailureClass:
    """Requests that failed in the same way.

    Args:
        name: Class of the error.
        status, phase, code: As in `Failure`.
        count: How many.
        message: Of the first of them.
    """

    name: str
    status: int | None
    phase: str | None
    code: str | None
    count: int
    message: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class StageFigures:
    """The figures of one stage, by their names.

    Args:
        stage: What was asked for.
        position: Of it in the run, from 0.
        requests: How many there were, by their outcome, and the warm-up's.
        distributions: Figures of requests and of gaps.
        values: Figures of the run. `None` where there is none.
        failures: The most frequent first.
        tokens_from: Completed requests by where their count of tokens comes from.
        remarks: What has to be known to read them.
    """

    stage: Stage
    position: int
    requests: dict[str, int]
    distributions: dict[str, Distribution]
    values: dict[str, float | None]
    failures: tuple[FailureClass, ...]
    tokens_from: dict[str, int]
    remarks: tuple[Remark, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the figures are the server's: this client was not the limit."""
        return not any(remark.is_fatal for remark in self.remarks)

    def to_json(self) -> dict[str, Any]:
        """Every figure is always there; `None` where there is none."""
        return {
            "requests": self.requests,
            "tokens_from": self.tokens_from,
            **self.values,
            **{name: each.to_json() for name, each in self.distributions.items()},
            "failures": [failure.to_json() for failure in self.failures],
            "remarks": [remark.to_json() for remark in self.remarks],
        }

    def value(self, name: str, place: str | None = None) -> float | None:
        """A figure.

        Args:
            name: Of the figure.
            place: Of its distribution, as ``p99``; `None` for a figure of the run.

        Raises:
            KeyError: There is none of this name.
        """
        return self.values[name] if place is None else self.distributions[name].at(place)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a run.

    Args:
        vocabulary: Whose words.
        slos: Objectives of its goodput.
        stages: In the order of the run.
    """

    vocabulary: Vocabulary
    slos: tuple[Slo, ...]
    stages: tuple[StageFigures, ...]

    @property
    def is_valid(self) -> bool:
        return all(stage.is_valid for stage in self.stages)

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """Those of which there is a value in some stage, and in a form that says the objectives."""
        return tuple(each for each in self.vocabulary.definitions if any(_has(stage, each) for stage in self.stages))


def figures_of(recording: Recording, vocabulary: Vocabulary = PENSTOCK, slos: Sequence[Slo] = ()) -> Figures:
    """Make the figures of a run.

    Args:
        recording: What was measured.
        vocabulary: Whose definitions; see `peers.VOCABULARIES`.
        slos: Objectives, for goodput. None leaves goodput out.
    """
    records = [record for record in recording.stages if not record.stage.is_warm_up]
    return Figures(vocabulary, tuple(slos), tuple(stage_figures(each, vocabulary, slos) for each in records))


def measured_of(record: StageRecord, slos: Sequence[Slo] = ()) -> Measured:
    """The requests of a stage without its warm-up."""
    measured = Measured.of((each for each in record.requests if not each.is_warm_up), record.gaps)
    return replace(measured, good=good(measured.completed, slos))


def stage_figures(record: StageRecord, vocabulary: Vocabulary, slos: Sequence[Slo] = ()) -> StageFigures:
    """Make the figures of one stage. Arguments as for `figures_of`."""
    measured = measured_of(record, slos)
    distributions = {each.name: Distribution.of(each.values(measured.completed)) for each in vocabulary.requests}
    distributions |= {each.name: Distribution.of_histogram(each.of(measured), NS_PER_MS) for each in vocabulary.gaps}
    sent_or_due = {
        "completed": len(measured.completed),
        "failed": len(measured.failed),
        "unfinished": len(measured.unfinished),
        "unsent": len(measured.unsent),
    }
    return StageFigures(
        record.stage,
        record.position,
        {**sent_or_due, "warm_up": len(record.requests) - sum(sent_or_due.values())},
        distributions,
        {each.name: each.of(measured) for each in vocabulary.runs},
        failure_classes(measured.failed),
        measured.tokens_from,
        remarks_on(record, measured),
    )


def failure_classes(failed: Sequence[Moments]) -> tuple[FailureClass, ...]:
    """Failed requests by class, status, phase and code; the most frequent first."""
    first: dict[tuple[Any, ...], str] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for request in failed:
        if (failure := request.failure) is not None:
            kind = (failure.name, failure.status, failure.phase, failure.code)
            counts[kind] += 1
            first.setdefault(kind, failure.message[:_MESSAGE])
    return tuple(
        FailureClass(name, status, phase, code, count, first[name, status, phase, code])
        for (name, status, phase, code), count in counts.most_common()
    )


def _has(stage: StageFigures, definition: Definition) -> bool:
    if isinstance(definition, RunDefinition):
        return stage.values[definition.name] is not None
    return stage.distributions[definition.name].count > 0
