"""``penstock bench`` as a process: signals, terminals, and its report in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import orjson
import pytest

from penstock.testing import Gateway, answer, stall
from tests.browser import chromium, find_chromium

from .support import Result, environment, finish, on_terminal, process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")

SLOW = answer("Yes.", ttft_s=0.02)


def command(gateway: Gateway, *options: str) -> tuple[str, ...]:
    return ("bench", gateway.url, "--model", "tiny-mock", "--no-calibration", *options)


async def requests(gateway: Gateway, count: int) -> None:
    await gateway.until(lambda: gateway.requests >= count, 20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_reports_what_was_measured(gateway: Gateway, tmp_path: Path, number: signal.Signals) -> None:
    gateway.script(default=SLOW)
    path = tmp_path / "run.json"
    options = ("--concurrency", "4,8", "--duration", "600", "--workers", "2", "--json", str(path))
    async with process(*command(gateway, *options)) as started:
        await requests(gateway, 40)
        started.send_signal(number)
        result = await finish(started)
    assert result.code == 130
    assert "stopped; what was measured is reported. Once more ends at once." in result.err
    assert "The run was stopped before its end." in result.out
    assert "left out" not in result.err
    (stage,) = orjson.loads(path.read_bytes())["stages"]
    assert (stage["ending"], stage["requests"]["outcome"].count("completed") >= 30) == ("stopped", True)


async def test_signal_ends_a_search(gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    options = ("--search", "concurrency", "--slo", "latency=9s", "--duration", "600")
    async with process(*command(gateway, *options)) as started:
        await requests(gateway, 5)
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, "The knee: no load was found that keeps latency=9s" in result.out) == (130, True)


async def test_answers_that_hang_do_not_keep_it_from_ending(gateway: Gateway) -> None:
    gateway.script(default=stall(when="before_headers"))
    async with process(*command(gateway, "--concurrency", "3", "--duration", "600")) as started:
        await requests(gateway, 3)
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, "3 unfinished" in result.out) == (130, True)


async def test_signal_while_the_client_is_measured_leaves_no_trace(gateway: Gateway) -> None:
    async with process("bench", gateway.url, "--model", "tiny-mock", "--concurrency", "2") as started:
        assert started.stderr is not None
        line = await asyncio.wait_for(started.stderr.readline(), 20)
        assert b"measuring this client itself" in line
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, result.out, "Traceback" in result.err) == (130, "", False)
    assert gateway.requests == 0


MARK = "PENSTOCK_TEST_OF_INTERRUPTS"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("moments", "options"), [(9, ("--no-calibration",)), (5, ())], ids=["without calibration", "with it"]
)
async def test_ctrl_c_ends_it_at_any_moment_and_leaves_no_process(
    gateway: Gateway, tmp_path: Path, moments: int, options: tuple[str, ...]
) -> None:
    """A terminal sends it to all processes of the command, also to those that have just begun to import."""
    gateway.script(default=SLOW)
    given = ("bench", gateway.url, "--model", "tiny-mock", "--workers", "2", "--requests", "40", *options)
    began = time.monotonic()
    whole = await interrupted(tmp_path, *given, after_s=None)
    assert whole.code in (0, 7)
    lasts_s = time.monotonic() - began
    for moment in range(moments):
        result = await interrupted(tmp_path, *given, after_s=lasts_s * moment / moments)
        assert result.code in (130, -signal.SIGINT, 0, 7), result  # the second at the very end of Python
        assert "Traceback" not in result.err
        assert result.out == "" or result.out.startswith("== Penstock bench")
        assert result.out or result.err.endswith("\ninterrupted\n")


async def interrupted(folder: Path, *arguments: str, after_s: float | None) -> Result:
    """A command whose processes all get SIGINT some time after it has begun to import. `None` is never."""
    marked = environment({MARK: str(folder)})
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=marked,
        start_new_session=True,
    )
    try:
        if after_s is not None:
            await our_own_code(started.pid)
            await asyncio.sleep(after_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGINT)
        result = await finish(started)
    finally:
        for pid in marked_processes(folder) if started.returncode is None else ():
            os.kill(pid, signal.SIGKILL)
    assert marked_processes(folder) == []
    return result


async def our_own_code(pid: int) -> None:
    """Wait until it runs: what comes before is Python itself, which says what it likes."""
    maps = Path(f"/proc/{pid}/maps")
    for _ in range(10_000):
        if "orjson" in maps.read_text():  # noqa: ASYNC240 (it is in memory)
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it does not begin")


def marked_processes(folder: Path) -> list[int]:
    """Those that have been started by the test of this folder, and by what it has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={folder}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


async def test_no_terminal_gets_lines_now_and_then(gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    options = ("--concurrency", "2", "--duration", "1", "--progress-interval", "0.1")
    async with process(*command(gateway, *options)) as started:
        result = await finish(started)
    assert result.code in (0, 7)
    assert "\x1b" not in result.err
    assert re.search(r"^2 at a time \(1 of 1\), \d+%, \d s: \d+ done, \d running, [\d.]+ requests/s", result.err, re.M)


# Terminals


async def test_progress_is_drawn_on_a_terminal_and_taken_away(gateway: Gateway) -> None:
    pytest.importorskip("rich")
    gateway.script(default=SLOW)
    code, written = await on_terminal(*command(gateway, "--concurrency", "2,4", "--requests", "60"))
    assert code in (0, 7)
    assert "━" in written
    assert re.search(r"[24] at a time \([12] of 2\), \d+%, \d s", written)
    assert re.search(r"\d+ done, \d running, [\d.]+ requests/s, [\d,]+ events/s", written)
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")  # the cursor is back


async def test_dumb_terminal_gets_plain_lines_and_a_quiet_one_nothing(gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    options = ("--concurrency", "2", "--requests", "60", "--progress-interval", "0.1")
    code, written = await on_terminal(*command(gateway, *options), TERM="dumb")
    assert (code in (0, 7), "\x1b" in written, "2 at a time (1 of 1)" in written) == (True, False, True)
    code, written = await on_terminal(*command(gateway, "--concurrency", "2", "--requests", "4", "--quiet"))
    assert (code in (0, 7), written) == (True, "")


# The page

CHROMIUM = find_chromium()


@pytest.mark.skipif(CHROMIUM is None or sys.platform != "linux", reason="needs Chromium: apt-get install chromium")
async def test_page_of_a_run_opens_without_a_network(gateway: Gateway, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    base = tmp_path / "run.json"
    options = ("--concurrency", "1,2", "--requests", "20", "--json", str(base), "--html", str(tmp_path / "run.html"))
    async with process(*command(gateway, *options)) as started:
        assert (await finish(started)).code in (0, 7)
    compared = ("bench", "compare", str(base), str(base), "--html", str(tmp_path / "compared.html"))
    async with process(*compared) as started:
        assert (await finish(started)).code in (0, 7)
    async with chromium(CHROMIUM) as page:
        for name, sections in (("run", "Against the load"), ("compared", "2 at a time")):
            await page.open(tmp_path / f"{name}.html", 390)
            heads = await page.value("[...document.querySelectorAll('h2')].map(each => each.textContent)")
            assert sections in heads
            assert await page.value("document.documentElement.scrollWidth") <= 390
        assert page.complaints == []
        assert [each for each in page.requests if not each.startswith(("file:", "data:"))] == []
