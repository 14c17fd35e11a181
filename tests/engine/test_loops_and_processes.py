"""Event loops and processes: another one is refused by name, and every kind of loop gives the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from penstock import ModelEngine, Retry, Timeouts, default_stack
from penstock.engine.errors import FirstEventTimeoutError, WrongEventLoopError
from penstock.testing import Gateway, stall
from tests.outcomes import failure
from tests.project import ROOT
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, text

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on a loop of its own, to its end."""

ANSWER = (text("a"), text("b", "stop"), DONE, END)


def engine_for(url: str, **options: Any) -> ModelEngine:
    return ModelEngine("m", base_url=url, middleware=default_stack(retry=Retry(max_attempts=1)), **options)


async def elsewhere(make: Callable[[], Awaitable[Any]]) -> Any:
    """What comes of an awaitable on another event loop, in another thread."""

    async def run() -> Any:
        return await make()

    return await asyncio.to_thread(asyncio.run, run())


# Another event loop


async def test_a_stream_that_was_made_here_is_not_sent_on_another_loop(gateway: Gateway, engine: ModelEngine) -> None:
    stream = engine.stream_call("Hi")
    error = await elsewhere(lambda: failure(stream.response()))
    assert (type(error), gateway.requests) == (WrongEventLoopError, 0)


async def test_a_stream_that_was_begun_here_is_not_read_on_another_loop(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(stall(after_events=3))
    async with engine.stream_call("Hi") as stream:
        await anext(stream)
        error = await elsewhere(lambda: failure(stream.response()))
        assert type(error) is WrongEventLoopError


async def test_an_engine_is_not_stopped_on_another_loop(engine: ModelEngine) -> None:
    error = await elsewhere(lambda: failure(engine.stop()))
    assert type(error) is WrongEventLoopError
    await engine.chat_completion("Hi")


def test_after_a_stop_another_loop_may_start_the_engine() -> None:
    async def call(engine: ModelEngine, gateway: Gateway) -> str:
        async with gateway, engine:
            return (await engine.chat_completion("Hi")).content

    gateway = Gateway(port=_free_port())
    engine = engine_for(f"http://127.0.0.1:{gateway._wanted_port}")
    assert asyncio.run(call(engine, gateway)) == asyncio.run(call(engine, gateway))


def _free_port() -> int:
    async def find() -> int:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    return asyncio.run(find())


# Another process


FORK = """
    import asyncio, os, sys
    from penstock import ModelEngine, ModelEngineError
    from penstock.testing import Gateway

    async def outcome(awaitable):
        try:
            return type(await awaitable).__name__
        except ModelEngineError as error:
            return type(error).__name__

    async def in_child(engine, stream, url):
        for awaitable in (engine.chat_completion("Hi"), stream.response(), engine.start(), engine.stop()):
            print(await outcome(awaitable))
        async with ModelEngine("m", base_url=url) as own:
            print(await outcome(own.chat_completion("Hi")))

    async def main():
        async with Gateway() as gateway, ModelEngine("m", base_url=gateway.url) as engine:
            await engine.chat_completion("Hi")
            stream = engine.stream_call("Hi")
            child = os.fork()
            if not child:
                asyncio.run(in_child(engine, stream, gateway.url))
                sys.stdout.flush()
                os._exit(0)
            await asyncio.to_thread(os.waitpid, child, 0)
            print(await outcome(engine.chat_completion("Hi")))
            print([call.connection for call in gateway.calls])

    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_is_told_so_and_leaves_the_parents_connections_alone() -> None:
    assert run_script(FORK).splitlines() == [
        *["ForkedProcessError"] * 3,
        "NoneType",
        "LLMResponse",  # of an engine that the child made
        "LLMResponse",  # of the parent's
        "[1, 2, 1]",
    ]


# Each kind of loop


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    make_loop = asyncio.new_event_loop
    if request.param == "uvloop":
        make_loop = pytest.importorskip("uvloop", reason="uvloop is not installed").new_event_loop
    loop = make_loop()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_streams_share_a_connection_on_each_loop(run: Run) -> None:
    async def main() -> int:
        async with Gateway() as gateway, engine_for(gateway.url) as engine:
            for _ in range(3):
                assert (await engine.stream_call("Hi").response()).finish_reason == "stop"
            return gateway.connections

    assert run(main()) == 1


def test_a_cancelled_call_closes_its_connection_on_each_loop(run: Run) -> None:
    async def main() -> None:
        async with Gateway(script=[stall(after_events=2)]) as gateway, engine_for(gateway.url) as engine:
            reading = asyncio.ensure_future(engine.stream_call("Hi").response())
            await gateway.until(lambda: gateway.open_streams == 1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await gateway.assert_no_open_connections()

    run(main())


def test_a_clock_ends_a_call_on_each_loop(run: Run) -> None:
    async def main() -> type[Exception]:
        timeouts = Timeouts(first_event=0.05)
        script = [stall(when="before_headers")]
        async with Gateway(script=script) as gateway, engine_for(gateway.url, timeouts=timeouts) as engine:
            error = await failure(engine.stream_call("Hi").response())
            await gateway.assert_no_open_connections()
            return type(error)

    assert run(main()) is FirstEventTimeoutError


def test_stray_bytes_are_not_the_next_answer_on_each_loop(run: Run) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER)
        await connection.send(STREAM_HEAD, text("foreign", "stop"), DONE, END)

    async def main() -> list[str]:
        async with RawServer(talk) as server, engine_for(server.url) as engine:
            return [(await engine.stream_call("Hi").response()).content for _ in range(3)]

    assert run(main()) == ["ab"] * 3


def test_a_connection_that_was_closed_is_not_used_again_on_each_loop(run: Run) -> None:
    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(STREAM_HEAD, *ANSWER)
        connection.close()

    async def main() -> int:
        async with RawServer(talk) as server, engine_for(server.url) as engine:
            for _ in range(10):
                assert (await engine.stream_call("Hi").response()).content == "ab"
            return server.connections

    assert run(main()) == 10


def test_an_unfinished_upload_is_given_up_on_each_loop(run: Run) -> None:
    async def talk(connection: Connection) -> None:
        connected.set()
        await ended.wait()

    async def main() -> None:
        async with RawServer(talk) as server, engine_for(server.url) as engine:
            uploading = asyncio.ensure_future(engine.chat_completion("x" * 30_000_000))
            await connected.wait()
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
            ended.set()
            await server.until_closed()  # it would be open until all was read, which is never

    connected, ended = asyncio.Event(), asyncio.Event()
    run(main())


# Python's development mode, and aiohttp without its C extensions


CALLS = """
    import asyncio, gc
    from penstock import ModelEngine, ModelEngineError, Retry, Timeouts, default_stack
    from penstock.testing import Gateway, answer, cut, error_event, fail, reset, stall

    async def outcome(awaitable):
        try:
            return (await awaitable).content
        except ModelEngineError as error:
            return f"{type(error).__name__}, {error.phase}, {len(error.attempts)}"

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60.0
        stack = default_stack(retry=Retry(random=lambda: 0.0))
        steps = [
            answer("plain"), answer("piece by piece", delay_s=0.001), fail(503), answer("after 503"), reset(),
            answer("after a reset"), cut(after_events=3), error_event(after_events=0), answer("after an error event"),
            stall(after_events=2), stall(after_events=3), stall(after_events=3),
        ]
        async with Gateway(script=steps) as gateway:
            async with ModelEngine("m", base_url=gateway.url, middleware=stack) as engine:
                print(await outcome(engine.chat_completion("Hi")))
                for _ in range(5):
                    print(await outcome(engine.stream_call("Hi").response()))
                cancelled = asyncio.ensure_future(engine.stream_call("Hi").response())
                await gateway.until(lambda: gateway.open_streams == 1)
                cancelled.cancel()
                print(await asyncio.gather(cancelled, return_exceptions=True))
                async with engine.stream_call("Hi") as left_early:
                    await anext(left_early)
                open_stream = engine.stream_call("Hi")
                await anext(open_stream)
            print(await outcome(open_stream.response()))
            await gateway.assert_no_open_connections()
        gc.collect()

    asyncio.run(main())
"""


def test_in_development_mode_there_is_nothing_to_complain_of() -> None:
    run_script(CALLS, "-X", "dev", "-W", "error", PYTHONASYNCIODEBUG="1")


def test_without_the_c_extensions_of_aiohttp_all_is_the_same() -> None:
    with_extensions = run_script(CALLS)
    assert run_script(CALLS, AIOHTTP_NO_EXTENSIONS="1") == with_extensions
    assert with_extensions.splitlines()[:3] == ["plain", "piece by piece", "after 503"]


def run_script(script: str, *options: str, **environment: str) -> str:
    """What a script prints, in a process of its own that ends well and says nothing on stderr."""
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
