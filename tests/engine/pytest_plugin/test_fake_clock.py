"""Waits pass at once, and can be asserted."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.pytest_plugin import FakeClock


async def test_a_wait_moves_time_on_and_takes_none() -> None:
    clock = FakeClock()
    before = clock.monotonic(), clock.time()
    await clock.sleep(3600)
    assert clock.sleeps == [3600]
    assert clock.monotonic() - before[0] >= 3600
    assert clock.time() - before[1] >= 3600
    assert clock.time() - time.time() == pytest.approx(3600, abs=1)


def test_time_passes_without_a_wait() -> None:
    clock = FakeClock()
    clock.advance(60)
    assert clock.monotonic() - time.monotonic() == pytest.approx(60, abs=1)
    assert clock.sleeps == []


async def test_waits_that_are_as_expected_are_accepted() -> None:
    clock = FakeClock()
    await clock.sleep(2)
    await clock.sleep(3)
    clock.assert_slept()
    clock.assert_slept(at_least=2, times=2)


async def test_waits_of_tasks_that_wait_together_pass_together() -> None:
    clock, before = FakeClock(), time.monotonic()
    await asyncio.gather(*(clock.sleep(20) for _ in range(50)))
    assert 20 <= clock.monotonic() - before < 40
    assert len(clock.sleeps) == 50


@pytest.mark.parametrize(
    "sleeps, expected, told",
    [
        ([], {"at_least": 2}, "nothing was waited for; a wait of at least 2 s was expected"),
        ([2.0, 1.0], {"at_least": 2}, "each wait was expected to be at least 2 s; they were [2.0, 1.0]"),
        ([2.0], {"times": 2}, "2 waits were expected, and there were 1: [2.0]"),
        ([], {"times": 1}, "1 waits were expected, and there were 0: []"),
    ],
)
def test_other_waits_are_told(sleeps: list[float], expected: dict[str, int], told: str) -> None:
    clock = FakeClock()
    clock.sleeps = sleeps
    with pytest.raises(AssertionError) as failure:
        clock.assert_slept(**expected)
    assert str(failure.value) == told


def test_no_waits_can_be_expected() -> None:
    FakeClock().assert_slept(times=0)
