"""One figure of two runs: by how much it differs, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from .bootstrap import HistogramSample, Interval, Sample, draw_rates, draw_shares, interval_of
from .definitions import NS_PER_MS, Definition, GapDefinition, RequestDefinition, RunDefinition, Vocabulary
from .figures import measured_of
from .measured import Measured
from .recording import StageRecord
from .slo import Slo, good
from .validity import remarks_on

PLACES = ("mean", "p50", "p90", "p99")
"""Of each distribution, what is compared without being asked for."""

_STRETCHES = 30  # of a run, for its rates
_FEWEST = 2

Direction = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two runs.

    Args:
        definition: Of the figure.
        place: Of its distribution; `None` for a figure of the run.
        base, value: In the first and in the second run. `None` where it has none.
        change: Interval of `value` / `base` - 1. `None` where one of them has no values, or the base is 0.
        difference: Interval of `value` - `base`.
    """

    definition: Definition
    place: str | None
    base: float | None
    value: float | None
    change: Interval | None
    difference: Interval | None

    @property
    def name(self) -> str:
        """As thresholds have it."""
        return self.definition.name if self.place is None else f"{self.definition.name}.{self.place}"

    @property
    def share(self) -> float | None:
        """By how much of the base it changed."""
        return None if self.value is None or not self.base else self.value / self.base - 1

    @property
    def direction(self) -> Direction:
        """Whether it got better or worse: ``unclear`` while the interval contains no change."""
        interval = self.difference
        if interval is None or interval.low <= 0 <= interval.high or self.definition.better is None:
            return "unclear"
        return "better" if (interval.high < 0) == (self.definition.better == "less") else "worse"

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.definition.name,
            "place": self.place,
            "unit": self.definition.unit,
            "base": self.base,
            "value": self.value,
            "change": self.share,
            "change_interval": None if self.change is None else self.change.to_json(),
            "difference_interval": None if self.difference is None else self.difference.to_json(),
            "direction": self.direction,
        }


class StageComparer:
    """The figures of two stages, made when they are asked for.

    Args:
        base: The stage to compare with.
        other: The stage that is looked at.
        slos: Objectives of goodput, of both.
        vocabulary: Whose definitions.
        confidence: Of the intervals, 0 to 1.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        base: StageRecord,
        other: StageRecord,
        slos: Sequence[Slo],
        vocabulary: Vocabulary,
        confidence: float,
        seed: str,
    ) -> None:
        self._measured = (measured_of(base, slos), measured_of(other, slos))
        self._records = (base, other)
        self._slos = tuple(slos)
        self._definitions = {each.name: each for each in vocabulary.definitions}
        self._confidence = confidence
        self._seed = seed
        self._samples: dict[str, tuple[Sample | HistogramSample | None, ...]] = {}

    def invalid(self) -> Iterator[int]:
        """Which of the two stages does not count."""
        for side, (record, measured) in enumerate(zip(self._records, self._measured)):
            if any(remark.is_fatal for remark in remarks_on(record, measured)):
                yield side

    def changes(self) -> Iterator[Change]:
        """Of all figures of which one run has a value."""
        for definition in self._definitions.values():
            if definition.better is None:
                continue
            for place in (None,) if isinstance(definition, RunDefinition) else PLACES:
                change = self.change(definition.name, place)
                if change.base is not None or change.value is not None:
                    yield change

    def change(self, name: str, place: str | None) -> Change:
        """One figure, by its name and the place of its distribution."""
        definition = self._definitions[name]
        if isinstance(definition, RunDefinition):
            values = [definition.of(measured) for measured in self._measured]
            draw: list[Callable[[Random], list[float]] | None] = [
                self._draw_run(definition, measured) for measured in self._measured
            ]
        else:
            samples = self._samples_of(definition)
            values = [_value(sample, place) for sample in samples]
            draw = [_draw(sample, place) for sample in samples]
        base, value = values
        if base is None or value is None or draw[0] is None or draw[1] is None:
            return Change(definition, place, base, value, None, None)
        firsts, seconds = (
            each(Random(f"{self._seed}/{name}/{place}/{side}")) for side, each in enumerate(draw) if each is not None
        )
        differences = [second - first for first, second in zip(firsts, seconds)]
        ratios = [second / first - 1 for first, second in zip(firsts, seconds) if first > 0]
        change = interval_of(ratios, self._confidence) if base and ratios else None
        return Change(definition, place, base, value, change, interval_of(differences, self._confidence))

    def _samples_of(self, definition: Definition) -> tuple[Sample | HistogramSample | None, ...]:
        if definition.name not in self._samples:
            self._samples[definition.name] = tuple(_sample(definition, measured) for measured in self._measured)
        return self._samples[definition.name]

    def _draw_run(self, definition: RunDefinition, measured: Measured) -> Callable[[Random], list[float]] | None:
        if definition.unit == "share":
            share = definition.of(measured)
            return (
                None
                if share is None
                else lambda random: draw_shares(round(share * measured.tried), measured.tried, random)
            )
        if definition.count is None:
            return None
        stretches = list(_stretches(definition.count, measured, self._slos))
        return (lambda random: draw_rates(stretches, random)) if len(stretches) >= _FEWEST else None


def _sample(definition: Definition, measured: Measured) -> Sample | HistogramSample | None:
    if isinstance(definition, RequestDefinition):
        values = definition.values(sorted(measured.completed, key=lambda request: request.scheduled))
        return Sample(values) if values else None
    assert isinstance(definition, GapDefinition)
    histogram = definition.of(measured)
    return HistogramSample(histogram, NS_PER_MS, len(measured.completed)) if histogram.count else None


def _value(sample: Sample | HistogramSample | None, place: str | None) -> float | None:
    if sample is None or place is None:
        return None
    return sample.mean() if place == "mean" else sample.percentile(_percent(place))


def _draw(sample: Sample | HistogramSample | None, place: str | None) -> Callable[[Random], list[float]] | None:
    if sample is None or place is None:
        return None
    if place == "mean":
        return sample.draw_mean
    percent = _percent(place)
    return lambda random: sample.draw_percentile(percent, random)


def _percent(place: str) -> float:
    return {"min": 0.0, "max": 100.0}[place] if place in ("min", "max") else float(place[1:])


def _stretches(count: Callable[[Measured], float | None], measured: Measured, slos: Sequence[Slo]) -> Iterator[float]:
    """The rate in equal stretches of the stage; a request belongs to that in which it ended."""
    number = min(_STRETCHES, len(measured.completed) // 4)
    if number < _FEWEST or measured.duration_s <= 0:
        return
    began, width = measured.began, (measured.over - measured.began) / number
    parts: list[list[Any]] = [[] for _ in range(number)]
    for request in measured.completed:
        parts[min(number - 1, int(((request.end or began) - began) / width))].append(request)
    for part in parts:
        counted = count(replace(measured, completed=tuple(part), good=good(part, slos)))
        yield (counted or 0.0) / (width / 1e9)
