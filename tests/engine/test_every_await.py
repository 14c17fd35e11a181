"""Fail every step once: a call is run again and again, and each time something goes wrong at its next wait.

Afterwards nothing of the call is left, neither a connection at either end nor a task nor a slot nor an entry in a
registry of the engine's; the failure has the class and the phase that it has to have; and the engine serves the next
call.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import aiohttp
import pytest

from penstock import (
    Auth,
    ChatStream,
    Classify,
    EmbeddingResponse,
    Idempotency,
    LLMResponse,
    ModelEngine,
    ModelEngineError,
    Retry,
    Timeouts,
)
from penstock.engine.errors import (
    ClockError,
    DeadlineExceededError,
    EngineClosedError,
    StreamConsumedError,
    StreamTruncatedError,
    TransportError,
)
from penstock.engine.pool import LINGER
from penstock.middleware.breaker import Breaker
from penstock.middleware.limiter import Limiter
from penstock.testing import Gateway, answer, fail, reset, stall
from tests.awaits import CountedAwaits, at_each_wait, cancel_this_task
from tests.clocks import FakeClock
from tests.conftest import API_KEY

DEADLINE = 1000.0  # seconds; no test takes as long
ONLY_THE_DEADLINE = Timeouts(**{**dict.fromkeys(each.name for each in fields(Timeouts)), "deadline": DEADLINE})
ANSWERS = (LLMResponse, EmbeddingResponse)
PHASES = [
    "not_sent",
    "no_answer",
    "rejected",
    "before_output",
    "after_output",
]  # in the order in which a request comes to them
SERVERS = ("aiohttp/web_protocol.py", "asyncio/selector_events.py")  # whose tasks are the gateway's
LINGER_OFF = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # closing then resets


@dataclass(frozen=True)
class Scene:
    """A call and what the gateway does with it.

    Args:
        call: The call, to its end.
        steps: The gateway's script.
        attempts: How many the engine makes at most.
        make_key: Gives what the engine takes as its key.
    """

    call: Callable[[ModelEngine], Awaitable[Any]]
    steps: tuple[Any, ...] = ()
    attempts: int = 1
    make_key: Callable[[], Any] = lambda: API_KEY


@dataclass(frozen=True)
class World:
    """A gateway, an engine for it, the time in which the engine waits, and what is done to it meanwhile."""

    gateway: Gateway
    engine: ModelEngine
    clock: FakeClock
    limiter: Limiter
    meanwhile: list[Awaitable[Any]] = field(default_factory=list)


async def unary(engine: ModelEngine) -> Any:
    return await engine.chat_completion("Hi")


async def streamed(engine: ModelEngine) -> Any:
    return await engine.stream_call("Hi").response()


async def embedded(engine: ModelEngine) -> Any:
    return await engine.embed("Hi")


async def uploaded(engine: ModelEngine) -> Any:
    return await engine.chat_completion("x" * 2_000_000)


async def streamed_twice(engine: ModelEngine) -> Any:
    await engine.stream_call("Hi").response()
    return await engine.stream_call("Hi").response()


async def queued(engine: ModelEngine) -> Any:
    """A call that waits for the slot of a stream before it."""
    async with engine.stream_call("Hi") as before:
        await anext(before)
        closing = asyncio.ensure_future(before.aclose())
        try:
            return await engine.chat_completion("Hi")
        finally:
            await closing


def new_key_function() -> Callable[[], Awaitable[str]]:
    """A function that gives a key that is refused, and then the right one."""
    old_keys = iter(["sk-of-yesterday"])

    async def fetch() -> str:
        await asyncio.sleep(0)
        return next(old_keys, API_KEY)

    return fetch


ABC = answer(pieces=list("abc"), comments=["hello"])
ONE_ATTEMPT = {
    "unary": Scene(unary, (ABC,)),
    "stream": Scene(streamed, (ABC,)),
    "embeddings": Scene(embedded),
    "slow stream": Scene(streamed, (answer(pieces=list("abc"), ttft_s=0.002, delay_s=0.002),)),
    "slow unary": Scene(unary, (answer("abc", delay_s=0.002, chunking=64),)),
    "large upload": Scene(uploaded),
}
OTHERS = {
    "error": Scene(unary, (fail(400),)),
    "key from a function": Scene(unary, make_key=new_key_function),
    "429, then a unary answer": Scene(unary, (fail(429), ABC), 3),
    "429, then a stream": Scene(streamed, (fail(429), ABC), 3),
    "reset, then a stream": Scene(streamed, (reset(), ABC), 3),
    "reset, then embeddings": Scene(embedded, (reset(),), 3),
    "a wait for a slot": Scene(queued, (answer(pieces=list("abc"), delay_s=0.002),)),
    "streams whose bodies end late": Scene(streamed_twice, (answer("a", slow_terminator_s=0.002),) * 2, 3),
}
SCENES = {**ONE_ATTEMPT, **OTHERS}
STREAMS = {name: scene for name, scene in SCENES.items() if scene.call is streamed}


def each(scenes: dict[str, Scene]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", scenes.values(), ids=scenes)


@asynccontextmanager
async def world_of(scene: Scene) -> AsyncIterator[World]:
    clock = FakeClock()
    limiter = Limiter(1)  # one that is not given back stops the next call
    options: dict[str, Any] = {
        "api_key": scene.make_key(),
        "middleware": [Idempotency(), Retry(max_attempts=scene.attempts), Breaker(), limiter, Auth(), Classify()],
        "timeouts": ONLY_THE_DEADLINE,
        "clock": clock,
    }
    async with (
        Gateway(api_key=API_KEY, script=scene.steps) as gateway,
        ModelEngine("m", base_url=gateway.url, **options) as engine,
    ):
        yield World(gateway, engine, clock, limiter)


Strike = Callable[[World, CountedAwaits[Any]], "BaseException | None"]
"""What goes wrong at a wait, see `tests.awaits.Deed`."""
Struck = list[tuple[tuple[str, ...], Any]]
"""What came of a scene: for each wait the place where it was struck, and the result or exception."""


async def strike_each_wait(scene: Scene, strike: Strike, do: Callable[[World], Awaitable[Any]] | None = None) -> Struck:
    """Run the scene with the strike at its first wait, then at its second, ...

    Args:
        scene: The gateway's part, and the call.
        strike: What goes wrong.
        do: What is struck, where it is not the call.
    """
    struck: Struck = []

    async def run(wait: int) -> bool:
        async with world_of(scene) as world:
            doing: Any = scene.call(world.engine) if do is None else do(world)
            awaits = CountedAwaits[Any](doing, at=wait, do=lambda: strike(world, awaits))
            outcome: Any = (await asyncio.gather(_run(awaits), return_exceptions=True))[0]
            await asyncio.gather(*world.meanwhile)
            try:
                await assert_nothing_is_left(world)
                await assert_the_next_call_is_served(world)
            except AssertionError as error:
                raise AssertionError(f"after wait {wait}, in {awaits.place}, which gave {outcome!r}") from error
            if awaits.has_done:
                struck.append((awaits.place, outcome))
            return awaits.has_done

    assert await at_each_wait(run) > 0
    return struck


async def _run(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def assert_nothing_is_left(world: World) -> None:
    engine: Any = world.engine
    transport = engine._transport
    assert (len(transport._sending), len(transport._replies), len(engine._opening)) == (0, 0, 0)
    assert (world.limiter.in_flight, world.limiter.waiting) == (0, 0)
    await world.gateway.assert_no_open_streams()
    idle = 0
    if transport._opened is not None:
        connector = transport._opened.session.connector
        let_time_pass(world, LINGER)  # for bodies whose end nobody waits for
        assert connector._acquired == set()
        idle = sum(map(len, connector._conns.values()))
    await world.gateway.until(lambda: world.gateway.open_connections <= idle)
    await asyncio.sleep(0)  # what has been cancelled ends in the next turn
    assert [task for task in asyncio.all_tasks() - {asyncio.current_task()} if not _is_servers(task)] == []


def let_time_pass(world: World, seconds: float) -> None:
    """Ask every clock of the engine as if so many seconds had passed."""
    engine: Any = world.engine
    watchdog = engine._transport._opened.watchdog
    time, watchdog.time = watchdog.time, lambda: time() + seconds
    watchdog._tick()
    watchdog.time = time


def _is_servers(task: Any) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.replace("\\", "/").endswith(SERVERS)


async def assert_the_next_call_is_served(world: World) -> None:
    await world.engine.start()  # in case it was stopped
    world.gateway.script()
    assert isinstance(await world.engine.chat_completion("And now?"), LLMResponse)


def failures_of(struck: Struck) -> list[ModelEngineError]:
    """What failed. What did not has its answer: it was struck where a failure can be made good, or came too late."""
    outcomes = [outcome for _, outcome in struck]
    assert [outcome for outcome in outcomes if not isinstance(outcome, (ModelEngineError, *ANSWERS))] == []
    return [outcome for outcome in outcomes if isinstance(outcome, ModelEngineError)]


def is_of_the_network(awaits: CountedAwaits[Any]) -> bool:
    """Whether it waits for the gateway; else it is for a clock, for its turn or for the function that gives the key."""
    return awaits.place[-1].startswith(
        ("aiohttp/", "engine/transport.py", "engine/reply.py")
    )  # frames below a session are not told


# Cancellation


@each(SCENES)
async def test_cancelled_at_any_wait_a_call_ends_as_cancelled(scene: Scene) -> None:
    struck = await strike_each_wait(scene, lambda world, awaits: cancel_this_task())
    assert {type(outcome) for _, outcome in struck} == {asyncio.CancelledError}


@each(SCENES)
async def test_cancelled_twice_a_call_ends_as_cancelled(scene: Scene) -> None:
    def cancel_twice(world: World, awaits: CountedAwaits[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        asyncio.get_running_loop().call_soon(task.cancel)

    struck = await strike_each_wait(scene, cancel_twice)
    assert {type(outcome) for _, outcome in struck} == {asyncio.CancelledError}


# What the network does


LOST: dict[str, Callable[[], BaseException]] = {
    "a reset": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "a reset, as aiohttp tells it": lambda: aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"),
    "a timeout": asyncio.TimeoutError,
}
each_loss = pytest.mark.parametrize("make_error", LOST.values(), ids=LOST)


@each(ONE_ATTEMPT)
@each_loss
async def test_what_fails_at_any_wait_is_an_error_that_says_how_far_the_call_had_come(
    scene: Scene, make_error: Callable[[], BaseException]
) -> None:
    failures = failures_of(await strike_each_wait(scene, lambda world, awaits: make_error()))
    assert {isinstance(error, (TransportError, ClockError, StreamTruncatedError)) for error in failures} == {True}
    phases = [error.phase or "" for error in failures]
    assert phases == sorted(phases, key=PHASES.index)
    assert phases[0] == "not_sent"
    assert [error.phase == "after_output" for error in failures] == [error.partial is not None for error in failures]


@each(OTHERS)
@each_loss
async def test_what_fails_at_any_wait_of_several_attempts_is_made_good_or_an_error_with_its_phase(
    scene: Scene, make_error: Callable[[], BaseException]
) -> None:
    struck = await strike_each_wait(scene, lambda world, awaits: make_error() if is_of_the_network(awaits) else None)
    assert {error.phase in PHASES for error in failures_of(struck)} <= {True}


@each(SCENES)
async def test_reset_by_the_server_at_any_wait_a_request_runs_once(scene: Scene) -> None:
    def reset_all(world: World, awaits: CountedAwaits[Any]) -> None:
        listener: Any = world.gateway._listener
        for _, transport in tuple(listener._open.values()):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            transport.abort()
        worlds.append(world)

    worlds: list[World] = []
    failures = failures_of(await strike_each_wait(scene, reset_all))
    assert {error.phase in PHASES for error in failures} <= {True}
    for world in worlds:
        executions = world.gateway.executions
        assert max(executions.values()) == 1
        assert len(executions) <= 2 + (scene.call in (streamed_twice, queued))  # the next call has a key, too


# Time and memory


@each(SCENES)
async def test_out_of_time_at_any_wait_a_call_ends_by_its_deadline(scene: Scene) -> None:
    def pass_the_deadline(world: World, awaits: CountedAwaits[Any]) -> None:
        world.clock.pass_by(DEADLINE)
        let_time_pass(world, DEADLINE)

    failures = failures_of(await strike_each_wait(scene, pass_the_deadline))
    expected: set[type[ModelEngineError]] = {DeadlineExceededError}
    if scene.steps[:1] == (fail(400),):
        expected |= {type(error) for error in failures if error.status == 400}  # the verdict is known by its status
    assert DeadlineExceededError in {type(error) for error in failures} <= expected


@each(SCENES)
async def test_out_of_memory_at_any_wait_a_call_says_so(scene: Scene) -> None:
    struck = await strike_each_wait(scene, lambda world, awaits: MemoryError())
    assert {type(outcome) for _, outcome in struck} == {MemoryError}


# The engine stops, the stream is closed


@each(SCENES)
async def test_stopped_at_any_wait_of_a_call_the_call_says_so(scene: Scene) -> None:
    def stop(world: World, awaits: CountedAwaits[Any]) -> None:
        world.meanwhile.append(asyncio.ensure_future(world.engine.stop()))

    failures = failures_of(await strike_each_wait(scene, stop))
    assert {type(error) for error in failures} == {EngineClosedError}


@each(STREAMS)
async def test_closed_at_any_wait_of_its_reader_a_stream_says_so(scene: Scene) -> None:
    streams: list[ChatStream] = []

    async def read(world: World) -> Any:
        streams.append(world.engine.stream_call("Hi"))
        return await streams[-1].response()

    def close(world: World, awaits: CountedAwaits[Any]) -> None:
        world.meanwhile.append(asyncio.ensure_future(streams[-1].aclose()))

    failures = failures_of(await strike_each_wait(scene, close, read))
    assert {type(error) for error in failures} == {StreamConsumedError}


async def test_closing_a_stream_cannot_be_interrupted_since_it_does_not_wait() -> None:
    async with world_of(ONE_ATTEMPT["slow stream"]) as world:
        stream = world.engine.stream_call("Hi")
        await anext(stream)
        closing = CountedAwaits(stream.aclose(), cancel_at=1)
        await closing
        assert closing.count == 0
        await assert_nothing_is_left(world)


async def test_cancelled_at_any_wait_stopping_leaves_nothing_open() -> None:
    async def run(wait: int) -> bool:
        async with world_of(Scene(streamed, (ABC, stall(after_events=3)))) as world:
            await unary(world.engine)
            stream = world.engine.stream_call("Hi")
            await anext(stream)
            stopping = CountedAwaits(world.engine.stop(), cancel_at=wait)
            await asyncio.gather(_run(stopping), return_exceptions=True)
            await assert_nothing_is_left(world)
            with pytest.raises(EngineClosedError):
                await stream.response()
            await assert_the_next_call_is_served(world)
            return stopping.has_done

    assert await at_each_wait(run) > 0
