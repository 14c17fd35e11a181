"""What the openai SDK does in the same scenarios is what the table says of it."""

from __future__ import annotations

import pytest

from . import measured
from .clients import play_to_openai
from .scenario import Mode, Scenario
from .table import cases

MEASURED = measured.read()


@pytest.mark.parametrize("scenario, mode", cases(measured.compared()))
async def test_the_openai_sdk_does_what_was_measured(scenario: Scenario, mode: Mode) -> None:
    """After a new release of the SDK that does otherwise: ``python -m tests.faults.measured``, and look at what
    changes in the table.
    """
    outcome = measured.record(await play_to_openai(scenario, mode))
    known = MEASURED["outcomes"][f"{scenario.id}-{mode}"]
    assert outcome == known, f"measured with {MEASURED['versions']}, now {measured.versions()}"


def test_nothing_is_kept_of_scenarios_that_are_gone() -> None:
    played = {f"{scenario.id}-{mode}" for scenario in measured.compared() for mode in scenario.modes}
    assert set(MEASURED["outcomes"]) == played
