"""When things happen: the wheel, and the pace of streams."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from penstock.engine.testing import Gateway, Script, answer, stall
from penstock.engine.testing.composer import Composer
from penstock.engine.testing.dialects.openai import OpenAI
from penstock.engine.testing.dialects.request import Request
from penstock.engine.testing.faults import stage
from penstock.engine.testing.pace import Wheel
from penstock.engine.testing.plan import Pause
from penstock.engine.testing.reel import Reel
from penstock.engine.testing.sequence import Mark

from .support import CHAT, chat, stream


async def called(wheel: Wheel, *moments: float) -> list[float]:
    """These moments from now in the order in which the wheel called, none of them too early."""
    loop, calls, done = asyncio.get_running_loop(), [], asyncio.Event()
    start = loop.time()

    def call(moment: float) -> None:
        # uvloop's timers count in milliseconds
        assert loop.time() - start >= moment - 0.001
        calls.append(moment)
        if len(calls) == len(moments):
            done.set()

    for moment in moments:
        wheel.call_at(start + moment, partial(call, moment))
    await asyncio.wait_for(done.wait(), 5)
    return calls


class TestWheel:
    async def test_calls_in_order_of_time(self) -> None:
        assert await called(Wheel(), 0.006, 0.002, 0.004, 0.002) == [0.002, 0.002, 0.004, 0.006]

    async def test_a_moment_that_is_over_comes_at_once(self) -> None:
        assert await called(Wheel(), -1.0) == [-1.0]

    async def test_who_is_called_can_ask_again(self) -> None:
        wheel, loop, turns, done = Wheel(), asyncio.get_running_loop(), [0], asyncio.Event()

        def call() -> None:
            turns[0] += 1
            if turns[0] == 5:
                done.set()
            else:
                wheel.call_at(loop.time() + 0.001, call)

        call()
        await asyncio.wait_for(done.wait(), 5)

    async def test_forgets_and_leaves_no_timer(self) -> None:
        wheel, loop = Wheel(), asyncio.get_running_loop()
        slot = wheel.call_at(loop.time() + 3600, print)
        wheel.forget(slot, print)
        wheel.forget(slot, print)
        assert (wheel._timer, wheel._slots, wheel._order) == (None, {}, [])

    async def test_has_one_timer_for_all(self) -> None:
        wheel, loop = Wheel(), asyncio.get_running_loop()
        slots = [wheel.call_at(loop.time() + 1000 + number, print) for number in range(100)]
        timers = [handle for handle in getattr(loop, "_scheduled", ()) if not handle.cancelled()]
        assert len(timers) <= 1
        for slot in slots:
            wheel.forget(slot, print)


def pauses(seed: str, jitter_s: float = 0.01) -> list[float]:
    """The pauses of a stream, in seconds."""
    dialect = OpenAI("m")
    path, body = dialect.example("Hi")
    request = Request(1, "POST", path, body=body)
    step = answer(pieces=["a"] * 200, delay_s=0.02, jitter_s=jitter_s)
    reply = Composer(dialect).compose(step, dialect.find_route("POST", path)[0], request)
    plan = stage(step, replace(reply, seed=seed), dialect, request)
    return [item.seconds for item in plan.body if isinstance(item, Pause)]


class Sink(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.data += data


async def test_a_pause_that_is_over_counts_once() -> None:
    loop, wheel, sink, protocol = asyncio.get_running_loop(), Wheel(), Sink(), SimpleNamespace(writing_paused=False)
    before = loop.time()
    reel = Reel([b"a", Pause(-1), b"b", Pause(3), b"c"], sink, protocol, wheel, lambda: None)  # type: ignore[arg-type]
    playing = asyncio.ensure_future(reel.play_on())
    for _ in range(5):  # turns of the loop; a write takes one
        await asyncio.sleep(0)
    assert sink.data == b"ab"
    after = loop.time()
    (slot,) = wheel._slots
    assert (before + 2) * 1000 <= slot <= (after + 2) * 1000 + 1
    playing.cancel()
    await asyncio.wait([playing])


async def test_streams_without_a_pace_make_one_write_each_in_a_turn_of_the_loop() -> None:
    wheel, protocol, writes = Wheel(), SimpleNamespace(writing_paused=False), Sink()
    reels = [Reel([data] * 3, writes, protocol, wheel, lambda: None) for data in (b"a", b"b")]  # type: ignore[arg-type]
    playing = asyncio.gather(*(reel.play_on() for reel in reels))
    turns = []
    while not playing.done():
        await asyncio.sleep(0)
        turns.append(writes.data)
        writes.data = b""
    assert [turn for turn in turns if turn] == [b"ab", b"ab", b"ab"]


async def test_what_fails_at_the_end_fails_whoever_waits() -> None:
    protocol, sink = SimpleNamespace(writing_paused=False), Sink()

    def fail() -> None:
        raise LookupError("no such key")

    reel = Reel([Mark.END, b"a"], sink, protocol, Wheel(), fail)  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        await reel.play_on()


class TestJitter:
    def test_is_even_around_the_pause_and_the_same_for_the_same_seed(self) -> None:
        drawn = pauses("7:1")
        assert 0.01 <= min(drawn) < 0.012
        assert 0.028 < max(drawn) <= 0.03
        assert sum(drawn) / len(drawn) == pytest.approx(0.02, abs=0.001)
        assert pauses("7:1") == drawn != pauses("7:2")

    def test_makes_no_pause_negative(self) -> None:
        assert min(pauses("7:1", jitter_s=0.1)) == 0.0

    async def test_does_not_change_what_is_said(self) -> None:
        script = Script(default=answer("a b c d", delay_s=0.001, jitter_s=0.001))
        async with Gateway(script=script) as gateway:
            assert (await stream(gateway)).text == "a b c d"


async def test_a_stalled_stream_that_is_left_leaves_no_timer(session: aiohttp.ClientSession) -> None:
    async with Gateway(script=[stall(for_s=3600, of=answer("a"))]) as gateway:
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            assert response.status == 200
            response.close()
        await gateway.assert_no_open_streams()
        wheel = gateway._wheel
    assert (wheel._timer, wheel._slots) == (None, {})
