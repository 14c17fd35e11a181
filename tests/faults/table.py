"""All scenarios."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from .families import calls, connecting, heads, statuses, streams
from .scenario import Scenario

FAMILIES: dict[str, list[Scenario]] = {
    connecting.NAME: connecting.SCENARIOS,
    heads.NAME: heads.SCENARIOS,
    statuses.NAME: statuses.STATUSES,
    statuses.HINTS: statuses.WAITING,
    statuses.BODIES: statuses.ERROR_BODIES,
    streams.NO_ANSWER: streams.SUCCESSES,
    streams.IN_STREAM: streams.STREAMS,
    streams.ODD: streams.ODDITIES,
    calls.CONNECTIONS: calls.KEPT,
    calls.KEYS: calls.TWICE,
    calls.BREAK: calls.BREAKS,
    calls.TIME: calls.TIMES,
}
SCENARIOS = [scenario for family in FAMILIES.values() for scenario in family]


def cases(scenarios: Iterable[Scenario]) -> list[Any]:
    """Each scenario in each of its modes, as parameters of a test."""
    return [
        pytest.param(scenario, mode, id=f"{scenario.id}-{mode}") for scenario in scenarios for mode in scenario.modes
    ]
