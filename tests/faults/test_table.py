"""The scenarios are told apart, are many, and are what docs/reliability.md shows."""

from __future__ import annotations

from collections import Counter

from .document import BEGIN, PAGE, generated
from .table import SCENARIOS


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(scenario.id for scenario in SCENARIOS).items() if count > 1] == []


def test_the_page_shows_the_scenarios_and_what_was_measured() -> None:
    """After a change: ``python -m tests.faults.document``."""
    shown = PAGE.read_text("utf-8").partition(BEGIN)
    assert shown[1] + shown[2] == generated()


def test_no_cell_of_the_table_is_long() -> None:
    cells = [cell for line in generated().splitlines() if line.startswith("| ") for cell in line.split(" | ")]
    assert [cell for cell in cells if len(cell) > 75] == []
