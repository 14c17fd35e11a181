"""The way in, and the ways out."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from penstock import __version__
from penstock.engine.cli import main
from penstock.engine.cli.entry import COMMANDS
from penstock.testing import Gateway, answer

from .conftest import Run
from .support import Result, finish, process


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_a_module_with_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(import_module(f"penstock.engine.cli.{command}").run)
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: penstock {command}")


async def test_module_can_be_run() -> None:
    async with process("--help") as started:
        result = await finish(started)
    assert (result.code, result.err) == (0, "")
    assert all(f"  {command}" in result.out for command in COMMANDS)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from penstock.engine.cli import main; assert main(['--help']) == 0; "
        "sys.exit(any(name.startswith(('penstock.engine.cli.', 'penstock.engine.testing', 'tenacity')) "
        "for name in sys.modules if name not in ('penstock.engine.cli.entry', 'penstock.engine.cli.exits')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


async def test_without_a_command_there_is_help_on_stderr(run: Run) -> None:
    result = await run()
    assert (result.code, result.out) == (2, "")
    assert "chat" in result.err


async def test_version(run: Run) -> None:
    result = await run("--version")
    assert (result.code, result.out) == (0, f"penstock {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["fly"], ["--verbose"], ["chat", "--fly"], ["demo", "now"], ["mock", "--port", "x"]]
)
async def test_wrong_command_line_is_2(run: Run, arguments: list[str]) -> None:
    result = await run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("usage: penstock")


def test_reader_that_goes_away_is_no_failure() -> None:
    """As with ``penstock --help | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "penstock", "--help"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


async def test_reader_that_goes_away_in_the_middle_ends_the_call(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["word "] * 1000, delay_s=0.01))
    reading, writing = os.pipe()
    async with process("chat", "--model", "m", "--base-url", gateway.url, "Hi", stdout=writing) as started:
        os.close(writing)
        await gateway.until(lambda: gateway.open_streams == 1, within_s=20.0)
        os.close(reading)
        result = await finish(started)
    assert (result.code, result.err) == (0, "")
    await gateway.assert_no_open_streams()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_full_disk_is_1(gateway: Gateway) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        async with process("chat", "--model", "m", "--base-url", gateway.url, "Hi", stdout=full.fileno()) as started:
            result = await finish(started)
    assert (result.code, result.err) == (1, f"penstock: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")
async def test_interrupted_before_anything_was_sent_is_130() -> None:
    """While it waits for the message to be typed."""
    import pty

    ours, theirs = pty.openpty()
    async with process("chat", "--model", "m", stdin=theirs) as started:
        assert started.stderr is not None
        asks = await started.stderr.readline()
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    os.close(ours)
    os.close(theirs)
    assert (asks, result) == (
        b"Type the message; Ctrl-D on a line of its own ends it.\n",
        Result(130, "", "\ninterrupted\n"),
    )
