"""Limits that a run has to keep, for programs that go by an exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError
from .bootstrap import Interval
from .definitions import Definition, RunDefinition, Unit, Vocabulary
from .distribution import PLACES
from .vocabulary import PENSTOCK

Judgement = Literal["kept", "crossed", "undecided", "unknown"]
"""``undecided``: beyond the limit, perhaps by chance. ``unknown``: the run has no such figure."""

_THRESHOLD = re.compile(
    r"(?P<figure>[a-z0-9_]+)(?:\.(?P<place>[a-z0-9.]+))?\s*(?P<side>[<>])\s*"
    r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)(?P<unit>%|pp|us|ms|s|)",
    re.ASCII,
)
_FACTORS: dict[Unit, dict[str, float]] = {
    "ms": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "s": {"ms": 1e-3, "s": 1.0},
    "share": {"%": 0.01, "pp": 0.01, "": 1.0},
}
_EXAMPLES = "'ttft.p99>+10%', 'tpot.p50>30ms' or 'output_rate<-5%'"


@dataclass(frozen=True, slots=True)
class Threshold:
    """One limit.

    Args:
        text: As it was written.
        figure: Name of the figure.
        place: Which value of its distribution, as ``p99``. `None` for a figure of the run.
        side: On which side of the limit it is crossed.
        limit: In the unit of the figure, or a share of the base's value.
        kind: ``value``: the figure itself. ``difference``: from the base. ``change``: from the base, by the base.
    """

    text: str
    figure: str
    place: str | None
    side: Literal["<", ">"]
    limit: float
    kind: Literal["value", "difference", "change"]

    @property
    def needs_base(self) -> bool:
        """Whether there has to be another run to compare with."""
        return self.kind != "value"

    def judge(
        self, value: float | None, base: float | None = None, interval: Interval | None = None, strict: bool = False
    ) -> Judgement:
        """Whether a figure keeps it.

        A value is compared as it is. A difference or change has also to be more than chance: its interval must not
        contain 0.

        Args:
            value: The figure.
            base: That of the other run.
            interval: Of the difference, or of the change, by `kind`. `None` takes the figure as it is.
            strict: Take the figure as it is in any case.
        """
        measured = self._measured(value, base)
        if measured is None:
            return "unknown"
        if not self._is_beyond(measured, self.limit):
            return "kept"
        if interval is not None and self.needs_base and not strict and interval.low <= 0 <= interval.high:
            return "undecided"
        return "crossed"

    def _measured(self, value: float | None, base: float | None) -> float | None:
        if value is None or self.kind == "value":
            return value
        if base is None or (self.kind == "change" and not base):
            return None
        return value - base if self.kind == "difference" else (value - base) / base

    def _is_beyond(self, value: float, limit: float) -> bool:
        return value > limit if self.side == ">" else value < limit


def parse_threshold(text: str, vocabulary: Vocabulary = PENSTOCK) -> Threshold:
    """A limit as the command line has it: ``FIGURE[.PLACE]`` ``<`` or ``>`` ``LIMIT``.

    A limit with a sign is compared with another run: ``+10%`` of its value, ``+20ms`` or ``-1pp`` (points of a share)
    more or less than it. One without is compared with the figure itself: ``300ms``, ``1.5s``, ``1%`` of a share, and
    a plain number for rates and counts.

    Args:
        text: For instance ``ttft.p99>+10%``.
        vocabulary: Whose figures are meant.

    Raises:
        ConfigurationError: It is no such text, there is no such figure, or the unit is not one of it.
    """
    found = _THRESHOLD.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"a threshold is written as in {_EXAMPLES}, not {text!r}")
    definition = _find(found["figure"], vocabulary)
    place = _place(definition, found["place"], text)
    is_change = bool(found["sign"]) and found["unit"] == "%"
    factor = 0.01 if is_change else _factor(definition, found["unit"], text)
    limit = float(f"{found['sign']}{found['number']}") * factor
    side: Literal["<", ">"] = ">" if found["side"] == ">" else "<"
    kind: Literal["value", "difference", "change"] = (
        "change" if is_change else "difference" if found["sign"] else "value"
    )
    return Threshold(text.strip(), definition.name, place, side, limit, kind)


def _find(name: str, vocabulary: Vocabulary) -> Definition:
    for definition in vocabulary.definitions:
        if definition.name == name:
            return definition
    raise ConfigurationError(f"no figure is called {name!r}: there are {_listed(vocabulary.definitions)}")


def _place(definition: Definition, place: str | None, text: str) -> str | None:
    if isinstance(definition, RunDefinition):
        if place is not None:
            raise ConfigurationError(f"{definition.name} is one value, and has no {place!r}: {text!r}")
        return None
    if place not in PLACES:
        raise ConfigurationError(f"{definition.name} has the values {', '.join(PLACES)}: {text!r} names none of them")
    return place


def _factor(definition: Definition, unit: str, text: str) -> float:
    factors = _FACTORS.get(definition.unit, {"": 1.0})
    if unit not in factors:
        units = " or ".join(repr(each) for each in factors if each) or "no unit"
        raise ConfigurationError(f"{definition.name} is compared in {units}, or with a sign in '%': {text!r}")
    return factors[unit]


def _listed(definitions: Sequence[Definition]) -> str:
    return ", ".join(definition.name for definition in definitions)
