"""A gateway in a thread of its own answers whoever asks, blocking or not."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import aiohttp
import pytest

from penstock.engine.pytest_plugin.background_gateway import BackgroundGateway
from penstock.testing import Gateway, fail


@pytest.fixture
def running() -> Iterator[BackgroundGateway]:
    with BackgroundGateway(model="small") as gateway:
        yield gateway


def models(gateway: Gateway) -> str:
    with urllib.request.urlopen(f"{gateway.url}/v1/models") as reply:
        return str(reply.read(), "utf-8")


def test_it_answers_a_client_that_blocks(running: BackgroundGateway) -> None:
    assert '"small"' in models(running)
    running.run(running.until(lambda: running.requests == 1))


async def test_it_answers_a_client_that_blocks_the_loop_of_the_test(running: BackgroundGateway) -> None:
    assert '"small"' in models(running)
    await running.until(lambda: running.requests == 1)


async def test_what_is_awaited_on_a_gateway_is_awaited_here(running: BackgroundGateway) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{running.url}/v1/models") as reply:
        await reply.read()
        with pytest.raises(AssertionError, match="still open"):
            await running.assert_no_open_connections(within_s=0.01)
    await running.assert_no_open_connections()
    await running.assert_no_open_streams()


async def test_it_can_be_stopped_and_started_again(running: BackgroundGateway) -> None:
    await running.stop()
    with pytest.raises(RuntimeError, match="not running"):
        running.url  # noqa: B018
    await running.start()
    assert '"small"' in models(running)


def test_its_thread_ends_with_it() -> None:
    before = threading.active_count()
    with BackgroundGateway() as gateway:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="not running"):
        gateway.url  # noqa: B018


def test_a_port_that_is_taken_is_told_and_no_thread_is_left(running: BackgroundGateway) -> None:
    before = threading.active_count()
    port = int(running.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), BackgroundGateway(port=port):
        pass
    assert threading.active_count() == before


def test_tests_on_several_loops_use_it_one_after_the_other(running: BackgroundGateway) -> None:
    async def wait() -> None:
        await running.until(lambda: running.requests == 1)

    models(running)
    asyncio.run(wait())
    asyncio.run(wait())


def test_a_script_can_be_replaced_while_it_runs(running: BackgroundGateway) -> None:
    running.script(fail(500))
    body = b'{"model": "small", "messages": [{"role": "user", "content": "Hello"}]}'
    asked = urllib.request.Request(f"{running.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="500") as failure:
        urllib.request.urlopen(asked)
    failure.value.close()
    with urllib.request.urlopen(asked) as reply:
        assert reply.status == 200
