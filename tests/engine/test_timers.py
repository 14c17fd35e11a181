"""One timer for all clocks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.errors import DeadlineExceededError, EngineClosedError, ModelEngineError
from penstock.engine.timers import NEVER, TaskLimit, Watchdog, weakly


class Handle:
    """A timer of `VirtualLoop`."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def __lt__(self, other: Handle) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.is_cancelled = True


class VirtualLoop:
    """The part of an event loop that a `Watchdog` needs, with a time that jumps from timer to timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self._heap: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(when, callback)
        heapq.heappush(self._heap, handle)
        return handle

    @property
    def timers(self) -> int:
        return sum(not handle.is_cancelled for handle in self._heap)

    def run_until(self, end: float) -> None:
        while self._heap and self._heap[0].when <= end:
            handle = heapq.heappop(self._heap)
            if not handle.is_cancelled:
                self.now = max(self.now, handle.when)
                handle.callback()
        self.now = end


def virtual() -> tuple[VirtualLoop, Watchdog]:
    loop = VirtualLoop()
    as_loop: Any = loop
    return loop, Watchdog(as_loop)


spans = st.floats(0.0, 10.0)


@given(st.lists(st.tuples(spans, st.lists(spans, max_size=3)), max_size=20))
def test_a_watch_is_asked_at_each_time_it_names_never_before_and_always_after(
    plans: list[tuple[float, list[float]]],
) -> None:
    loop, watchdog = virtual()
    asked: dict[int, list[float]] = {}
    expected: dict[int, list[float]] = {}

    def watch(number: int, first: float, spans: list[float]) -> None:
        left = list(spans)

        def check(now: float) -> float | None:
            asked[number].append(now)
            if not left:
                return None
            due = now + max(left.pop(0), 0.001)
            expected[number].append(due)
            return due

        asked[number], expected[number] = [], [loop.now + first]
        watchdog.watch(loop.now + first, check)

    for number, (first, more) in enumerate(plans):
        watch(number, first, more)
    loop.run_until(loop.now + 1000)
    assert asked == expected
    assert loop.timers == 0


@given(st.lists(st.tuples(spans, st.booleans()), min_size=1, max_size=200))
def test_a_stopped_watch_is_not_asked_and_the_others_are(plans: list[tuple[float, bool]]) -> None:
    loop, watchdog = virtual()
    asked: list[int] = []

    def check_of(number: int) -> Callable[[float], None]:
        return lambda now: asked.append(number)

    watches = [watchdog.watch(loop.now + due, check_of(number)) for number, (due, _) in enumerate(plans)]
    for watch, (_, is_stopped) in zip(watches, plans):
        if is_stopped:
            watch.stop()
            watch.stop()
    loop.run_until(loop.now + 100)
    assert sorted(asked) == [number for number, (_, is_stopped) in enumerate(plans) if not is_stopped]


def test_there_is_one_timer_for_any_number_of_watches() -> None:
    loop, watchdog = virtual()
    for due in (5.0, 3.0, 9.0, 3.0):
        watchdog.watch(loop.now + due, lambda now: None)
    assert loop.timers == 1


def test_stopped_watches_do_not_stay_until_their_time() -> None:
    loop, watchdog = virtual()
    for _ in range(10_000):
        watchdog.watch(loop.now + 1800.0, lambda now: None).stop()
    assert len(watchdog._heap) <= 65


def test_watches_stopped_by_the_check_of_another_are_swept_without_losing_any() -> None:
    loop, watchdog = virtual()
    later: list[float] = []
    doomed = [watchdog.watch(loop.now + 50.0, lambda now: None) for _ in range(500)]

    def stop_them(now: float) -> float:
        for watch in doomed:
            watch.stop()
        return now + 1.0

    watchdog.watch(loop.now + 1.0, stop_them)
    watchdog.watch(loop.now + 2.0, later.append)
    loop.run_until(loop.now + 10.0)
    assert later == [102.0]


def test_a_check_that_fails_takes_no_clock_from_the_others() -> None:
    loop, watchdog = virtual()
    asked: list[float] = []

    def fail(now: float) -> None:
        raise RuntimeError("a bug")

    watchdog.watch(101.0, fail)
    watchdog.watch(102.0, asked.append)
    with pytest.raises(RuntimeError):
        loop.run_until(101.0)
    loop.run_until(110.0)
    assert asked == [102.0]


def test_a_check_that_names_the_past_does_not_keep_the_loop_busy() -> None:
    loop, watchdog = virtual()
    asked: list[float] = []

    def check(now: float) -> float:
        asked.append(now)
        return 0.0

    watchdog.watch(101.0, check)
    loop.run_until(101.01)
    assert 5 < len(asked) < 15


def test_a_watch_without_a_time_is_never_asked() -> None:
    loop, watchdog = virtual()
    watchdog.watch(NEVER, lambda now: None).stop()
    assert (loop.timers, len(watchdog._heap)) == (0, 0)


def test_a_closed_watchdog_asks_nobody() -> None:
    loop, watchdog = virtual()
    watch = watchdog.watch(101.0, lambda now: pytest.fail("asked"))
    watchdog.close()
    watch.stop()
    loop.run_until(200.0)
    assert loop.timers == 0


def test_a_weak_check_lets_its_object_go() -> None:
    class Reply:
        def check(self, now: float) -> float:
            return now + 1.0

    reply = Reply()
    check = weakly(reply.check)
    assert check(1.0) == 2.0
    del reply
    gc.collect()
    assert check(1.0) is None


def limit(watchdog: Watchdog, seconds: float) -> TaskLimit:
    return TaskLimit(watchdog, watchdog.time() + seconds, lambda: DeadlineExceededError("too late"))


async def test_a_limit_ends_its_block_and_says_why() -> None:
    with limit(Watchdog(asyncio.get_running_loop()), 0.01) as bound:
        await asyncio.Event().wait()
    assert isinstance(bound.error, DeadlineExceededError)
    await asyncio.sleep(0)  # the cancellation is used up


async def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    with limit(Watchdog(asyncio.get_running_loop()), 60.0) as bound:
        await asyncio.sleep(0)
    assert bound.error is None


async def test_a_limit_passes_on_a_cancellation_from_elsewhere() -> None:
    reached = asyncio.Event()

    async def work() -> None:
        with limit(Watchdog(asyncio.get_running_loop()), 60.0):
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not count cancellations")
async def test_a_cancellation_at_the_same_moment_is_not_swallowed() -> None:
    reached = asyncio.Event()
    bounds: list[TaskLimit] = []

    async def work() -> None:
        with limit(Watchdog(asyncio.get_running_loop()), 60.0) as bound:
            bounds.append(bound)
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await reached.wait()
    bounds[0].interrupt(DeadlineExceededError("too late"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_first_reason_for_an_interruption_counts() -> None:
    errors: list[ModelEngineError] = [EngineClosedError("stopped"), DeadlineExceededError("too late")]
    with limit(Watchdog(asyncio.get_running_loop()), 60.0) as bound:
        for error in errors:
            bound.interrupt(error)
        await asyncio.Event().wait()
    assert bound.error is errors[0]


async def test_a_task_is_not_left_counted_as_cancelled_when_the_block_swallowed_it() -> None:
    with limit(Watchdog(asyncio.get_running_loop()), 60.0) as bound:
        bound.interrupt(DeadlineExceededError("too late"))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    await asyncio.sleep(0)
