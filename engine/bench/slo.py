"""Service level objectives: what a request has to keep to count as good."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigurationError
from .definitions import RequestDefinition
from .moments import Moments
from .vocabulary import PENSTOCK

_NS_PER = {"us": 1e3, "ms": 1e6, "s": 1e9}
_OBJECTIVE = re.compile(r"(?P<name>[a-z0-9_]+)=(?P<limit>\d+(?:\.\d+)?)(?P<unit>us|ms|s)", re.ASCII)
_DEFINITIONS = {each.name: each for each in PENSTOCK.requests if each.unit == "ms"}
_ALIASES = {"e2e": "latency", "e2el": "latency"}
_ALWAYS = frozenset({"ttft", "latency"})  # an answer that has none of these was no answer


@dataclass(frozen=True, slots=True)
class Slo:
    """A time that a request may take at most.

    Args:
        name: Of a figure of requests, see `vocabulary.PENSTOCK`.
        limit_ns: Nanoseconds, met when reached exactly.

    Raises:
        ConfigurationError: No figure has this name.
    """

    name: str
    limit_ns: float

    def __post_init__(self) -> None:
        if self.name not in _DEFINITIONS:
            raise ConfigurationError(f"no figure of a request is called {self.name!r}: there are {_names()}")

    @property
    def definition(self) -> RequestDefinition:
        return _DEFINITIONS[self.name]

    def is_met(self, moments: Moments) -> bool:
        """Whether a request keeps it. One that was not completed does not.

        What an answer cannot have (gaps with a single read, time per token with one token) it cannot miss.
        """
        if moments.outcome != "completed":
            return False
        value = self.definition.of(moments)
        return self.name not in _ALWAYS if value is None else value <= self.limit_ns

    def __str__(self) -> str:
        for unit, ns in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
            if self.limit_ns >= ns or unit == "us":
                return f"{self.name}={self.limit_ns / ns:g}{unit}"
        raise AssertionError("the smallest unit fits every time")


def parse_slos(text: str) -> tuple[Slo, ...]:
    """Objectives as the command line has them.

    Args:
        text: ``ttft=300ms,tpot=30ms``: figures of requests, times in ``us``, ``ms`` or ``s``, separated by commas.

    Raises:
        ConfigurationError: It is no such text, or names a figure twice.
    """
    slos: list[Slo] = []
    for part in text.split(","):
        found = _OBJECTIVE.fullmatch(part.strip())
        if found is None:
            raise ConfigurationError(f"an objective is written as in 'ttft=300ms,tpot=30ms', not {part.strip()!r}")
        name = _ALIASES.get(found["name"], found["name"])
        if name in {slo.name for slo in slos}:
            raise ConfigurationError(f"there are two objectives for {name!r}")
        slos.append(Slo(name, float(found["limit"]) * _NS_PER[found["unit"]]))
    return tuple(slos)


def good(requests: Iterable[Moments], slos: Iterable[Slo]) -> int | None:
    """How many requests keep every objective. `None` without objectives."""
    objectives = tuple(slos)
    if not objectives:
        return None
    return sum(all(slo.is_met(request) for slo in objectives) for request in requests)


def _names() -> str:
    return ", ".join(_DEFINITIONS)
