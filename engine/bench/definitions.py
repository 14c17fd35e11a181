"""What a figure is: a name, a definition that is printed beside it, and how its values come out of moments.

Three kinds. Of a request: one value each, only of those that were completed. Of gaps: those of all completed requests
together. Of a run: one value for a stage of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from .histogram import Histogram
from .measured import Measured
from .moments import Moments

Unit = Literal["ms", "requests/s", "tokens/s", "events/s", "requests", "share", "tokens", "events", "s"]
Better = Literal["less", "more"]

_D = TypeVar("_D", bound="Definition")

NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Definition:
    """What one figure means.

    Args:
        name: In documents, objectives and thresholds.
        title: For a person.
        unit: Of the value.
        text: One line that says from when to when, or what by what.
        better: Which way is better. `None` where there is no such way.
    """

    name: str
    title: str
    unit: Unit
    text: str
    better: Better | None = "less"

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "unit": self.unit, "definition": self.text, "better": self.better}


@dataclass(frozen=True, slots=True)
class RequestDefinition(Definition):
    """A figure with one value for each completed request.

    Args:
        of: The value of a request: nanoseconds where the unit is milliseconds, as it is otherwise. `None` when it
            has none.
    """

    of: Callable[[Moments], float | None] = lambda _: None

    def values(self, requests: Sequence[Moments]) -> list[float]:
        """In the unit of the figure, of the requests that have one."""
        scale = NS_PER_MS if self.unit == "ms" else 1.0
        return [value / scale for request in requests if (value := self.of(request)) is not None]


@dataclass(frozen=True, slots=True)
class GapDefinition(Definition):
    """A figure of gaps, which are too many to be kept one by one.

    Args:
        of: The gaps of a stage, in nanoseconds.
    """

    of: Callable[[Measured], Histogram] = lambda measured: measured.gaps


@dataclass(frozen=True, slots=True)
class RunDefinition(Definition):
    """A figure with one value for a stage.

    Args:
        of: The value. `None` when it has none.
        count: Of a rate, what is counted. `None` for what is no rate; see `rate`.
    """

    of: Callable[[Measured], float | None] = lambda _: None
    count: Callable[[Measured], float | None] | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of one tool.

    Args:
        name: As ``--as`` has it.
        title: The tool.
        notes: What has to be known of all of them, or what they cannot say of what was measured here.
        brief: Names of those that a short account has. None has all.
    """

    name: str
    title: str
    requests: tuple[RequestDefinition, ...]
    gaps: tuple[GapDefinition, ...]
    runs: tuple[RunDefinition, ...]
    notes: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()

    def short(self, definitions: Sequence[_D]) -> tuple[_D, ...]:
        """Those that a short account has."""
        return tuple(each for each in definitions if self.is_brief(each))

    def is_brief(self, definition: Definition) -> bool:
        """Whether a short account has it."""
        return not self.brief or definition.name in self.brief

    def find(self, name: str) -> RequestDefinition:
        """A figure of requests.

        Raises:
            KeyError: There is none of this name.
        """
        return {each.name: each for each in self.requests}[name]

    @property
    def definitions(self) -> tuple[Definition, ...]:
        return (*self.runs, *self.requests, *self.gaps)


def between(begin: str, end: str) -> Callable[[Moments], float | None]:
    """From one moment to another, in nanoseconds. `None` when one of them is missing.

    Args:
        begin: A field or property of `Moments`.
        end: Likewise.
    """

    def of(moments: Moments) -> float | None:
        began, ended = getattr(moments, begin), getattr(moments, end)
        return None if began is None or ended is None else ended - began

    return of


def over_tokens(span: Callable[[Moments], float | None], apart: int) -> Callable[[Moments], float | None]:
    """A time divided by the output tokens, some of which are left out of the count.

    `None` where nobody says how many tokens there were, or no more than those left out.
    """

    def of(moments: Moments) -> float | None:
        time, tokens = span(moments), moments.output_tokens
        return None if time is None or tokens is None or tokens <= apart else time / (tokens - apart)

    return of


def rate(name: str, title: str, unit: Unit, text: str, count: Callable[[Measured], float | None]) -> RunDefinition:
    """A figure that is a count by the duration of the stage; none where there is no count or no duration."""

    def of(measured: Measured) -> float | None:
        counted = count(measured)
        return None if counted is None or measured.duration_s <= 0 else counted / measured.duration_s

    return RunDefinition(name, title, unit, text, "more", of=of, count=count)


def completed(measured: Measured) -> float:
    """How many requests were completed."""
    return len(measured.completed)


def output_tokens(measured: Measured) -> float | None:
    """Of all completed requests that have a count. `None` when none has."""
    return _total("output_tokens", measured)


def input_tokens(measured: Measured) -> float | None:
    """Of all completed requests that have a count. `None` when none has."""
    return _total("input_tokens", measured)


def all_tokens(measured: Measured) -> float | None:
    """Input and output tokens of all completed requests. `None` when one of the two is not known."""
    given, made = input_tokens(measured), output_tokens(measured)
    return None if given is None or made is None else given + made


def _total(name: str, measured: Measured) -> float | None:
    counts = [count for request in measured.completed if (count := getattr(request, name)) is not None]
    return sum(counts) if counts else None
