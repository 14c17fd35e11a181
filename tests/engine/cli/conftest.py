"""A running gateway, and the command line in this process."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from penstock.engine.cli import main
from penstock.testing import Gateway

from .support import OWN_VARIABLES, Result

Run = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OWN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A shell that runs tests in the background lets them, and what they start, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as running:
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a thread, since it brings its own event loop."""

    async def run_main(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = await asyncio.to_thread(main, arguments)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run_main


@pytest.fixture
def chat(run: Run, gateway: Gateway) -> Run:
    """Run ``penstock chat`` against the gateway."""

    async def run_chat(*arguments: str, stdin: bytes = b"") -> Result:
        return await run("chat", "--model", "tiny-mock", "--base-url", gateway.url, *arguments, stdin=stdin)

    return run_chat
