"""Items are taken from a source as they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from penstock.engine.batch.feed import Feed
from penstock.engine.batch.waiting import WaitingRoom
from tests.clocks import HeldClock


async def test_an_iterable_gives_so_many_and_then_none() -> None:
    feed = Feed(range(5))
    assert [await feed.take(2) for _ in range(4)] == [[0, 1], [2, 3], [4], []]
    assert feed.has_ended


async def test_an_async_iterable_gives_what_is_there_and_reads_no_further() -> None:
    read = []

    async def source() -> AsyncIterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    feed = Feed(source())
    assert [len(await feed.take(3)) for _ in range(2)] == [3, 3]
    assert len(read) <= 7
    await feed.aclose()


async def test_an_async_iterable_that_waits_gives_what_it_has() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        await asyncio.get_running_loop().create_future()

    feed = Feed(source())
    assert await feed.take(10) == [1, 2]
    await feed.aclose()


async def test_what_was_asked_for_and_came_too_late_is_not_read_before_it_is_asked_for_again() -> None:
    gate, read = asyncio.Event(), []

    async def source() -> AsyncIterator[int]:
        for number in range(10):
            read.append(number)
            yield number
            await gate.wait()

    feed = Feed(source())
    assert await feed.take(10) == [0]
    gate.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(read) <= 3
    await feed.aclose()


async def test_a_source_that_keeps_a_cancellation_to_itself_is_left() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        yield 2
        yield 3

    feed = Feed(source())
    assert await feed.take(10) == [1]
    await asyncio.wait_for(feed.aclose(), 20)


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_the_source_raises_comes_after_its_items(is_async: bool) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise LookupError

    async def async_source() -> AsyncIterator[int]:
        for number in source():
            yield number

    feed = Feed(async_source() if is_async else source())
    assert await feed.take(10) == [1]
    with pytest.raises(LookupError):
        await feed.take(10)
    assert await feed.take(10) == []
    await feed.aclose()


async def test_an_iterator_that_was_made_here_is_closed() -> None:
    closed = []

    class Source:
        def __iter__(self) -> Iterator[int]:
            try:
                yield from range(10)
            finally:
                closed.append(True)

    feed = Feed(Source())
    await feed.take(1)
    await feed.aclose()
    assert closed == [True]


async def test_who_waits_comes_back_in_the_order_of_time() -> None:
    clock = HeldClock()
    clock.wake()
    room: WaitingRoom[str] = WaitingRoom(clock)
    room.add("late", 10.0)
    room.add("early", 5.0)
    assert [await room.next(), await room.next()] == ["early", "late"]
    assert clock.monotonic() == 10.0


async def test_who_is_added_while_another_is_waited_for_may_come_first() -> None:
    clock = HeldClock()
    room: WaitingRoom[Any] = WaitingRoom(clock)
    room.add("late", 10.0)
    waiting = asyncio.ensure_future(room.next())
    await clock.asleep.wait()
    room.add("now", 0.0)
    assert await waiting == "now"
    assert (len(room), room.clear(), len(room)) == (1, ["late"], 0)
