"""The table of defences fits the code and the tests that there are. `python -m tests.controls` runs it."""

from __future__ import annotations

import re

import pytest

from tests.controls.__main__ import TESTS_FAILED, run
from tests.controls.defences import DEFENCES
from tests.project import ROOT

OF_INSTANCES = {"penstock.engine.transport:Transport.max_body_bytes"}


def test_what_is_taken_away_is_there() -> None:
    removals = [removal for defence in DEFENCES.values() for removal in defence.removals]
    gone = {removal.where for removal in removals if not hasattr(*removal.owner())}
    assert gone <= OF_INSTANCES


@pytest.mark.parametrize("test", sorted({test for defence in DEFENCES.values() for test in defence.tests}))
def test_the_tests_that_have_to_notice_are_there(test: str) -> None:
    file, _, name = test.partition("[")[0].partition("::")
    assert re.search(rf"^(async )?def {name or 'test_'}", (ROOT / "tests" / file).read_text("utf-8"), re.MULTILINE)


def test_a_control_is_a_run_whose_tests_fail_without_the_defence_and_pass_with_it() -> None:
    name = "integers beyond 64 bit"
    without, whole = run(DEFENCES[name].tests, without=name), run(DEFENCES[name].tests)
    assert (without.code, whole.code) == (TESTS_FAILED, 0)
    assert without.noticed == ("engine/test_usage.py::test_counts",)
