"""Timers: never early, in order, and gone when they are closed."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from penstock.engine.bench.alarm import Alarm


async def test_it_rings_once_and_never_early() -> None:
    alarm, rung = Alarm(), asyncio.get_running_loop().create_future()
    due = time.monotonic_ns() + 3_000_000
    alarm.set(due, lambda: rung.set_result(time.monotonic_ns()))
    assert await rung >= due
    alarm.close()


async def test_a_moment_that_is_past_rings_in_a_later_turn() -> None:
    alarm, rung = Alarm(), asyncio.Event()
    alarm.set(1, rung.set)
    assert not rung.is_set()
    await rung.wait()
    alarm.close()


async def test_setting_it_anew_takes_the_place_of_what_was_set() -> None:
    alarm, done = Alarm(), asyncio.Event()
    alarm.set(time.monotonic_ns() + 1_000_000, lambda: pytest.fail("another moment was set"))
    alarm.set(time.monotonic_ns() + 5_000_000, done.set)
    await done.wait()
    alarm.close()


async def test_it_may_be_set_again_where_it_rings() -> None:
    alarm, done, moments = Alarm(), asyncio.Event(), []

    def ring() -> None:
        moments.append(time.monotonic_ns())
        if len(moments) == 5:
            done.set()
        else:
            alarm.set(moments[-1] + 100_000, ring)

    alarm.set(time.monotonic_ns(), ring)
    await done.wait()
    assert all(later - earlier >= 100_000 for earlier, later in zip(moments, moments[1:]))
    alarm.close()


async def test_a_closed_one_rings_no_more() -> None:
    alarm, other, done = Alarm(), Alarm(), asyncio.Event()
    now = time.monotonic_ns()
    alarm.set(now + 1_000_000, lambda: pytest.fail("it was closed"))
    alarm.close()
    alarm.close()
    other.set(now + 3_000_000, done.set)
    await done.wait()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
async def test_on_linux_it_is_not_rounded_to_milliseconds() -> None:
    alarm = Alarm()
    assert alarm.is_precise
    alarm.close()


async def test_without_a_timerfd_the_loops_timer_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.engine.bench.alarm._LIBC", None)
    alarm, rung = Alarm(), asyncio.get_running_loop().create_future()
    due = time.monotonic_ns() + 3_000_000
    alarm.set(due, lambda: None)
    alarm.set(due, lambda: rung.set_result(time.monotonic_ns()))
    assert not alarm.is_precise
    assert await rung >= due - 1_000_000  # an event loop may be early by the resolution of its clock
    alarm.close()
