"""Waiting in line: order, ends, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from penstock.engine.clock import SYSTEM_CLOCK
from penstock.middleware.line import NEVER, Line
from tests.awaits import CountedAwaits, at_each_wait
from tests.clocks import FakeClock, HeldClock


class Gate:
    """Lets one through for each `open`, and counts how often it was looked at."""

    def __init__(self) -> None:
        self.line = Line()
        self.rooms = 0
        self.looks = 0
        self.passed: list[int] = []

    def open(self) -> None:
        self.rooms += 1
        self.line.wake()

    def delay(self) -> float:
        self.looks += 1
        return 0.0 if self.rooms else NEVER

    async def enter(self, number: int, within: float = NEVER) -> bool:
        turn = await self.line.wait(self.delay, within, SYSTEM_CLOCK)
        if turn:
            self.rooms -= 1
            self.passed.append(number)
        return turn

    async def crowd(self, count: int) -> list[asyncio.Task[bool]]:
        tasks = [asyncio.ensure_future(self.enter(number)) for number in range(count)]
        await until(lambda: len(self.line) == count)
        return tasks


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to hold")


async def test_an_open_gate_is_passed_without_waiting() -> None:
    gate = Gate()
    gate.open()
    awaits = CountedAwaits(gate.enter(0))
    assert await awaits
    assert (awaits.count, len(gate.line)) == (0, 0)


async def test_who_came_first_goes_first() -> None:
    gate = Gate()
    tasks = await gate.crowd(5)
    for _ in range(5):
        gate.open()
    assert await asyncio.gather(*tasks) == [True] * 5
    assert gate.passed == [0, 1, 2, 3, 4]


async def test_nobody_is_overtaken_by_one_who_finds_the_gate_open() -> None:
    gate = Gate()
    [waiting] = await gate.crowd(1)
    gate.open()  # he has been woken, and has not moved yet
    gate.open()
    await gate.enter(1)
    await waiting
    assert gate.passed == [0, 1]


@pytest.mark.parametrize("place", [0, 1, 4])
async def test_when_one_leaves_the_line_the_others_keep_their_order(place: int) -> None:
    gate = Gate()
    tasks = await gate.crowd(5)
    tasks[place].cancel()
    for _ in range(4):
        gate.open()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.passed == [number for number in range(5) if number != place]
    assert len(gate.line) == 0


async def test_a_turn_that_comes_together_with_a_cancellation_goes_to_the_next() -> None:
    gate = Gate()
    first, second = await gate.crowd(2)
    gate.open()
    first.cancel()
    await second
    assert first.cancelled()
    assert gate.passed == [1]


async def test_one_opening_wakes_one_and_not_the_crowd() -> None:
    gate = Gate()
    tasks = await gate.crowd(100)
    gate.looks = 0
    gate.open()
    await tasks[0]
    await until(lambda: gate.looks >= 2)  # of him, and of the one who is first then
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.looks == 2


async def test_a_wait_ends_when_its_time_is_up_and_the_others_go_on() -> None:
    gate = Gate()
    impatient = asyncio.ensure_future(gate.enter(0, within=0.01))
    later = asyncio.ensure_future(gate.enter(1))
    assert not await impatient
    gate.open()
    assert await later
    assert gate.passed == [1]


async def test_who_leaves_the_line_takes_the_timer_along() -> None:
    gate = Gate()
    waiting = asyncio.ensure_future(gate.enter(0, within=3600))
    await until(lambda: len(gate.line) == 1)
    gate.open()
    await waiting
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    assert [handle for handle in scheduled if "call_off" in repr(handle) and not handle.cancelled()] == []


async def test_who_has_no_time_at_all_passes_an_open_gate_alone() -> None:
    gate = Gate()
    assert not await gate.enter(0, within=0)
    gate.open()
    assert await gate.enter(1, within=0)


async def test_a_delay_is_slept_by_the_clock_of_the_call() -> None:
    clock = FakeClock()
    assert await Line().wait(lambda: 30 - clock.monotonic(), NEVER, clock)
    assert clock.sleeps == [30]


async def test_a_delay_is_slept_no_longer_than_there_is_time() -> None:
    clock = FakeClock()
    assert not await Line().wait(lambda: 30 - clock.monotonic(), 10, clock)
    assert clock.sleeps == [10]


async def test_who_sleeps_is_woken_when_the_gate_opens_sooner() -> None:
    clock, line, delays = HeldClock(), Line(), [0.0, 60.0, 60.0]
    sleeper = asyncio.ensure_future(line.wait(delays.pop, NEVER, clock))
    await asyncio.wait_for(clock.asleep.wait(), 5)
    line.wake()
    assert await sleeper


async def test_a_clock_that_fails_is_not_hidden() -> None:
    class Broken(FakeClock):
        async def sleep(self, seconds: float) -> None:
            raise OSError("no time")

    line = Line()
    with pytest.raises(OSError, match="no time"):
        await line.wait(lambda: 1.0, NEVER, Broken())
    assert len(line) == 0


async def test_a_wait_cancelled_anywhere_leaves_no_place_and_no_task_behind() -> None:
    async def run(wait: int) -> bool:
        line, clock = Line(), FakeClock()
        awaits = CountedAwaits(line.wait(lambda: 3 - clock.monotonic(), NEVER, clock), cancel_at=wait)
        outcomes = await asyncio.gather(_run(awaits), return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError) == awaits.has_done
        await asyncio.sleep(0)  # a task that is cancelled twice ends in the next turn
        assert (len(line), asyncio.all_tasks()) == (0, {asyncio.current_task()})
        return awaits.has_done

    assert await at_each_wait(run) >= 2


async def _run(awaits: CountedAwaits[bool]) -> bool:
    return await awaits
