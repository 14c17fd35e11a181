"""A few hundred inputs for each target, and those that have broken a promise before. ``make fuzz`` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .targets import TARGETS, check

FOUND = sorted(Path(__file__).parent.glob("found/*"))


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=300)
@given(data=st.binary(min_size=400, max_size=400))
def test_any_input_keeps_the_promises(target: str, data: bytes) -> None:
    check(target, data)


@pytest.mark.parametrize("path", FOUND, ids=[path.name for path in FOUND])
def test_what_broke_a_promise_once_does_not_again(path: Path) -> None:
    check(path.name.partition("-")[0], path.read_bytes())
