"""``penstock record`` as a process."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from penstock import ModelEngine
from penstock.testing import Gateway

from .conftest import Run
from .support import finish, process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@asynccontextmanager
async def record(*arguments: str) -> AsyncIterator[tuple[Process, str, str]]:
    """A running proxy: its process, its URL, and what it says it does."""
    async with process("record", *arguments) as started:
        assert started.stdout is not None
        url, doing = [(await started.stdout.readline()).decode().rstrip("\n") for _ in range(2)]
        yield started, url, doing


async def ask(url: str) -> str | None:
    async with ModelEngine("tiny-mock", base_url=url, api_key="sk-test-0123456789abcdef") as engine:
        return (await engine.stream_call("Name a prime.").response()).content


async def test_it_records_until_a_signal_and_plays_what_it_recorded(tmp_path: Path, gateway: Gateway) -> None:
    path = str(tmp_path / "chat.jsonl")
    async with record("--to", gateway.url, "--cassette", path) as (started, url, doing):
        answer = await ask(url)
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert doing == f"records {gateway.url} into {path}; Ctrl-C stops it"
    assert (result.code, result.out, result.err) == (0, "POST  /v1/chat/completions  200\n", "")
    async with record("--replay", "--speed", "0", "--cassette", path) as (started, url, doing):
        assert await ask(url) == answer
        started.send_signal(signal.SIGTERM)
        assert (await finish(started)).code == 0
    assert doing == f"plays {path}; Ctrl-C stops it"
    assert gateway.requests == 1


async def test_a_killed_recording_can_be_read(tmp_path: Path, gateway: Gateway) -> None:
    path = str(tmp_path / "chat.jsonl")
    async with record("--to", gateway.url, "--cassette", path) as (started, url, _):
        await ask(url)
        started.kill()
        await started.wait()
    async with record("--replay", "--speed", "0", "--cassette", path) as (_, url, _):
        assert "prime" in (await ask(url) or "")


async def test_what_a_client_sends_does_not_break_the_line(tmp_path: Path, gateway: Gateway) -> None:
    async with record("--to", gateway.url, "--cassette", str(tmp_path / "c")) as (started, url, _):
        assert started.stdout is not None
        async with aiohttp.ClientSession() as session, session.get(f"{url}/%1B%5B31m%0A") as response:
            status = response.status
        line = await asyncio.wait_for(started.stdout.readline(), 10)
    assert line.decode() == f"GET  /\\x1b[31m\\n  {status}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: --cassette"),
        (("--cassette", "c"), "--to says whose answers are recorded"),
        (("--cassette", "c", "--to", "nowhere"), "a gateway's root is an http:// or https:// address"),
        (("--cassette", "c", "--to", "http://h", "--speed", "-1"), "'-1' is not a number from 0"),
        (("--cassette", "", "--to", "http://h"), "takes the path of a file"),
    ],
)
async def test_a_wrong_command_line_ends_it_with_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = await run("record", *arguments)
    assert (result.code, message in result.err) == (2, True)


async def test_a_cassette_that_cannot_be_played_ends_it_with_1(run: Run, tmp_path: Path) -> None:
    result = await run("record", "--replay", "--cassette", str(tmp_path / "missing"))
    assert (result.code, result.err) == (
        1,
        f"penstock record: the cassette {tmp_path / 'missing'} cannot be read: No such file or directory\n",
    )


async def test_a_port_that_is_taken_ends_it_with_1(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = await run("record", "--to", "http://h", "--cassette", str(tmp_path / "c"), "--port", port)
    assert (result.code, f"port {port} cannot be had" in result.err) == (1, True)
