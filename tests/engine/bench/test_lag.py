"""A client that is late on purpose, and what it says of itself."""

from __future__ import annotations

import asyncio
import gc
import time

from penstock.engine.bench.lag import MOST_BINS, PERIOD_NS, LagMeter

MS = 1_000_000
BLOCKED_MS = 200


def block(ms: int) -> None:
    """Keep the loop from doing anything, on purpose."""
    time.sleep(ms / 1000)


async def test_every_moment_of_a_blocked_loop_counts() -> None:
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    await asyncio.sleep(0.02)
    block(BLOCKED_MS)
    await asyncio.sleep(0.02)
    delays = meter.stop().loop_delay
    assert (delays.highest or 0) >= (BLOCKED_MS - 2 * PERIOD_NS // MS) * MS
    late = delays.count * (1 - (delays.share_within(BLOCKED_MS // 2 * MS) or 0))
    assert late >= BLOCKED_MS // 2 * MS / PERIOD_NS - 2  # one question for each period of half of the time


async def test_a_loop_that_is_blocked_to_the_end_was_blocked() -> None:
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    block(50)
    assert (meter.stop().loop_delay.highest or 0) >= 40 * MS


async def test_the_worst_is_on_the_axis_of_the_run() -> None:
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    await asyncio.sleep(0.25)
    blocked = time.monotonic_ns() - meter._origin
    block(100)
    await asyncio.sleep(0.01)
    worst = max(meter.stop().bins, key=lambda each: each.worst)
    assert worst.at <= blocked + 2 * PERIOD_NS
    assert worst.at + worst.span >= blocked


async def test_cpu_time_is_that_of_the_stage() -> None:
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    before = time.process_time_ns()
    while time.process_time_ns() - before < 30 * MS:
        pass
    lag = meter.stop()
    assert 30 * MS <= lag.cpu <= lag.ended - lag.began + 10 * MS
    assert abs(sum(each.cpu for each in lag.bins) - lag.cpu) <= 10 * MS


async def test_collections_of_garbage_are_timed_and_the_callback_is_taken_back() -> None:
    before = list(gc.callbacks)
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    gc.collect()
    lag = meter.stop()
    assert lag.pauses.count >= 1
    assert gc.callbacks == before


async def test_stopping_twice_gives_the_same() -> None:
    meter = LagMeter(time.monotonic_ns())
    meter.start()
    assert meter.stop() is meter.stop()


async def test_a_long_run_has_wider_bins_and_no_more_of_them() -> None:
    meter = LagMeter(0)
    for second in range(1000):
        for tenth in range(10):
            meter._note_bin((second * 10 + tenth) * 100 * MS, second)
    bins = meter.lag.bins
    assert len(bins) <= MOST_BINS + 1
    assert bins[-1].worst == 999
    assert all(left.at + left.span <= right.at for left, right in zip(bins, bins[1:]))
