"""``penstock batch`` as a process: signals, crashes, full disks, terminals, and what its journal says meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.testing import Gateway, answer, stall

from .conftest import Run
from .support import environment, finish, on_terminal, process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")

ROWS = 200
KEYED = ("--gateway", "modelgov", "--param", "user_id=u", "--param", "user_type=internal", "--param", "feature=batch")
SLOW = answer("Yes.", ttft_s=0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ({"id": f"r{number}", "prompt": f"Say {number}."} for number in range(ROWS))
    (tmp_path / "in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return tmp_path


@pytest.fixture
async def keyed() -> AsyncIterator[Gateway]:
    """A gateway that honours idempotency keys."""
    async with Gateway(dialect="modelgov", keep_content=True) as running:
        yield running


def command(folder: Path, gateway: Gateway, *options: str) -> tuple[str, ...]:
    files = (str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"))
    return ("batch", *files, "--model", "m", "--base-url", gateway.url, "--concurrency", "4", *options)


def lines(folder: Path, name: str = "out.jsonl") -> list[Any]:
    data = (folder / name).read_bytes()
    assert not data or data.endswith(b"\n")
    return [orjson.loads(line) for line in data.splitlines()]


def ids(folder: Path, name: str = "out.jsonl") -> list[str]:
    return [line["id"] for line in lines(folder, name)]


ALL = [f"r{number}" for number in range(ROWS)]


def executed(gateway: Gateway) -> Counter[str]:
    """How often the model ran, by the prompt."""
    return Counter(call.body["messages"][0]["content"] for call in gateway.calls if call.executed)


async def requests(gateway: Gateway, count: int) -> None:
    await gateway.until(lambda: gateway.requests >= count, 20)


async def said(started: asyncio.subprocess.Process, what: str) -> str:
    """Read stderr up to a line that says it."""
    assert started.stderr is not None
    read = ""
    while what not in read:
        line = (await asyncio.wait_for(started.stderr.readline(), 20)).decode()
        assert line, read
        read += line
    return read


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("publish", ["rename", "append"])
async def test_first_signal_waits_for_what_is_in_flight(
    folder: Path, gateway: Gateway, number: signal.Signals, publish: str
) -> None:
    gateway.script(default=SLOW)
    async with process(*command(folder, gateway, "--publish", publish)) as started:
        await requests(gateway, 20)
        started.send_signal(number)
        result = await finish(started)
    assert result.code == 130
    assert re.search(r"no more rows are sent; waiting for [1-4] in flight\. Once more stops at once\.", result.err)
    assert "the same command goes on from here" in result.err
    assert gateway.requests < ROWS
    assert {call.outcome for call in gateway.calls} == {"answer"}
    gateway.script()
    async with process(*command(folder, gateway, "--publish", publish)) as started:
        result = await finish(started)
    assert (result.code, sorted(ids(folder))) == (0, sorted(ALL))
    assert set(executed(gateway).values()) == {1}
    assert "in doubt" not in result.err


async def test_second_signal_stops_at_once_and_the_rows_are_in_doubt(folder: Path, gateway: Gateway, run: Run) -> None:
    gateway.script(default=stall(when="before_headers"))
    async with process(*command(folder, gateway)) as started:
        await requests(gateway, 4)
        started.send_signal(signal.SIGINT)
        await said(started, "waiting for 4 in flight")
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, gateway.requests) == (130, 4)
    status = await run("batch", "status", str(folder / "out.jsonl.journal"))
    assert status.code == 3
    assert "these 4 rows were in flight and no key protects them: r0, r1, r2, r3\n" in status.out


async def test_second_signal_before_results_are_published_is_130(folder: Path, gateway: Gateway) -> None:
    """All rows are done, and the reader of stdout does not take their lines."""
    gateway.script(default=answer("x" * 1000))
    reading, writing = os.pipe()
    options = ("-o", "-", "--publish", "rename", "--journal", str(folder / "journal"))
    async with process(*command(folder, gateway, *options), stdout=writing) as started:
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 10) == b'{"id":"r0"'
        started.send_signal(signal.SIGINT)
        await said(started, "waiting for 0 in flight")
        started.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(started.wait(), 20) == 130
    os.close(reading)
    assert gateway.requests == ROWS


@pytest.mark.parametrize(
    ("closed", "options", "code", "told"),
    [
        ("<&-", ("-", "-o", "{}/out"), 4, "stdin cannot be read: Bad file descriptor"),
        (
            ">&-",
            ("{}/in.jsonl", "-o", "-", "--errors", "{}/errors"),
            6,
            "stdout cannot be written: Bad file descriptor",
        ),
    ],
    ids=["stdin", "stdout"],
)
async def test_closed_stream_is_no_other_file(
    folder: Path, gateway: Gateway, closed: str, options: tuple[str, ...], code: int, told: str
) -> None:
    arguments = [option.format(folder) for option in options]
    command = [sys.executable, "-m", "penstock", "batch", *arguments, "--model", "m", "--base-url", gateway.url]
    started = await asyncio.create_subprocess_exec(
        "sh", "-c", f'exec "$@" {closed}', "sh", *command, stderr=subprocess.PIPE, env=environment({})
    )
    result = await finish(started)
    assert (result.code, told in result.err) == (code, True), result.err
    assert not (folder / "errors").exists() or not (folder / "errors").read_bytes()


async def test_silent_stdin_does_not_keep_the_command_from_ending(folder: Path, gateway: Gateway) -> None:
    arguments = ("batch", "-", "-o", str(folder / "out.jsonl"), "--model", "m", "--base-url", gateway.url)
    async with process(*arguments) as started:
        assert started.stdin is not None
        started.stdin.write(b'{"id":"r0","prompt":"Hi"}\n')
        await requests(gateway, 1)
        started.send_signal(signal.SIGINT)
        await asyncio.wait_for(started.wait(), 20)
    assert started.returncode == 130


async def test_reader_of_stdout_that_goes_away_stops_the_run(folder: Path, gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    reading, writing = os.pipe()
    options = ("-o", "-", "--journal", str(folder / "journal"))
    async with process(*command(folder, gateway, *options), stdout=writing) as started:
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 10) == b'{"id":"r0"'
        os.close(reading)
        result = await finish(started)
    assert (result.code, "stdout cannot be written: Broken pipe" in result.err) == (6, True)
    assert gateway.requests < ROWS


# Crashes


async def killed(folder: Path, gateway: Gateway, after: int, *options: str) -> None:
    async with process(*command(folder, gateway, *options)) as started:
        await requests(gateway, after)
        started.kill()
        await started.wait()


@pytest.mark.parametrize("options", [(), ("--publish", "append"), ("--publish", "append", "--ordered")])
async def test_killed_run_is_gone_on_with_and_nothing_is_executed_twice(
    folder: Path, keyed: Gateway, options: tuple[str, ...]
) -> None:
    keyed.script(default=SLOW)
    options = (*KEYED, *options)
    for after in (17, 60, 131):
        await killed(folder, keyed, after, *options)
    keyed.script()
    async with process(*command(folder, keyed, *options)) as started:
        result = await finish(started)
    assert result.code == 0
    assert (
        ids(folder) if "append" not in options or "--ordered" in options else sorted(ids(folder), key=ALL.index)
    ) == ALL
    keyed.assert_executed_once()
    assert len(executed(keyed)) == ROWS


async def test_rows_that_no_key_protects_are_sent_again_and_listed(folder: Path, gateway: Gateway) -> None:
    gateway.script(*[answer("Yes.")] * 10, default=stall(when="before_headers"))
    await killed(folder, gateway, 14)
    gateway.script()
    async with process(*command(folder, gateway, "--json")) as started:
        result = await finish(started)
    (line,) = result.json_lines
    assert (result.code, line["summary"]["in_doubt"], len(line["summary"]["in_doubt_ids"])) == (0, 4, 4)
    assert re.search(r"in doubt  these 4 rows were in flight and no key protects them; sent again: r\d+, ", result.err)
    assert [each["id"] for each in lines(folder) if each.get("possibly_duplicated")] == line["summary"]["in_doubt_ids"]


@pytest.mark.parametrize(("choice", "published"), [("skip", True), ("fail", False)])
async def test_rows_that_no_key_protects_can_be_left(
    folder: Path, gateway: Gateway, choice: str, published: bool
) -> None:
    gateway.script(*[answer("Yes.")] * 10, default=stall(when="before_headers"))
    await killed(folder, gateway, 14)
    gateway.script()
    async with process(*command(folder, gateway, "--in-doubt", choice)) as started:
        result = await finish(started)
    assert (result.code, (folder / "out.jsonl").exists()) == (3, published)
    assert gateway.requests == (ROWS if published else 14)
    if published:
        left = ids(folder, "out.jsonl.errors.jsonl")
        assert (len(left), sorted([*ids(folder), *left])) == (4, sorted(ALL))


# Elsewhere


async def test_workers_of_ray_send_what_one_process_would(folder: Path, gateway: Gateway) -> None:
    pytest.importorskip("ray")
    async with process(*command(folder, gateway, "--runner", "ray", "--workers", "2", "--json")) as started:
        out, err = await asyncio.wait_for(started.communicate(), 120)
    summary = orjson.loads(out)["summary"]  # and nothing else is there, whatever Ray has to say
    assert (started.returncode, summary["done"], ids(folder)) == (0, ROWS, ALL), err
    assert set(executed(gateway).values()) == {1}


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounting.returncode:
        pytest.skip("nobody may mount a file system here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("publish", ["rename", "append"])
async def test_full_disk_of_the_output_is_6_and_the_journal_has_what_was_done(
    folder: Path, gateway: Gateway, small_disk: Path, publish: str
) -> None:
    gateway.script(default=answer("x" * 900))
    options = ("--publish", publish, "--journal", str(folder / "journal"))
    target = str(small_disk / "out.jsonl")
    async with process(*command(folder, gateway, *options, "-o", target)) as started:
        result = await finish(started)
    assert (result.code, "cannot be written: No space left on device" in result.err) == (6, True)
    if (small_disk / "out.jsonl").exists():
        assert len(ids(small_disk)) < ROWS
    before = gateway.requests
    async with process(*command(folder, gateway, *options)) as started:
        result = await finish(started)
    assert (result.code, sorted(ids(folder))) == (0, sorted(ALL))
    assert max(executed(gateway).values()) == 1
    assert gateway.requests == ROWS >= before


async def test_full_disk_of_the_journal_is_5_and_sending_stops(
    folder: Path, gateway: Gateway, small_disk: Path
) -> None:
    gateway.script(default=answer("x" * 900))
    options = ("--journal", str(small_disk / "journal"))
    async with process(*command(folder, gateway, *options)) as started:
        result = await finish(started)
    assert (result.code, "JournalWriteError" in result.err) == (5, True)
    assert gateway.requests < ROWS
    assert not (folder / "out.jsonl").exists()


# Terminals


async def test_progress_is_drawn_on_a_terminal_and_taken_away(folder: Path, gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    code, written = await on_terminal(*command(folder, gateway, "--progress-interval", "0.05", "--price", "1,2"))
    assert (code, "━" in written, '{"progress"' in written) == (0, True, False)
    assert re.search(r"\d+ of 200 rows \(\d+%\), [\d.]+ rows/s, 0:\d\d left", written)
    assert re.search(r"4 in flight, \d+ queued, \d+ tokens in, \d+ out, \d+/s, cost about 0\.\d+", written)
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")  # the cursor is back
    assert "done      200 rows" in written


async def test_dumb_terminal_gets_plain_lines(folder: Path, gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    code, written = await on_terminal(*command(folder, gateway, "--progress-interval", "0.05"), TERM="dumb")
    assert (code, "\x1b" in written) == (0, False)
    assert re.search(r"^\d+ of 200 rows \(\d+%\), [\d.]+ rows/s, .*; 4 in flight, ", written, re.MULTILINE)


async def test_quiet_terminal_stays_empty(folder: Path, gateway: Gateway) -> None:
    assert await on_terminal(*command(folder, gateway, "--quiet")) == (0, "")


async def test_without_rich_there_are_plain_lines(folder: Path, gateway: Gateway) -> None:
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")  # as if it was not installed
    gateway.script(default=SLOW)
    arguments = command(folder, gateway, "--progress-interval", "0.05")
    code, written = await on_terminal(*arguments, PYTHONPATH=str(folder))
    assert (code, "Traceback" in written, "━" in written) == (0, False, False)
    assert " of 200 rows (" in written


# Status


async def test_status_of_a_run_that_is_on(folder: Path, gateway: Gateway, run: Run) -> None:
    gateway.script(*[answer("Yes.")] * 10, default=stall(when="before_headers"))
    journal = str(folder / "out.jsonl.journal")
    async with process(*command(folder, gateway)) as started:
        await requests(gateway, 14)
        status = await run("batch", "status", journal)
        (told,) = (await run("batch", "status", journal, "--json")).json_lines
    assert (status.code, f"process {started.pid}" in status.out) == (0, True)
    assert "in flight 4 rows" in status.out
    assert (told["done"], told["in_flight"], told["in_doubt"], told["model"]) == (10, 4, 0, "m")


async def test_status_of_rows_that_a_key_protects(folder: Path, keyed: Gateway, run: Run) -> None:
    keyed.script(*[answer("Yes.")] * 10, default=stall(when="before_headers"))
    await killed(folder, keyed, 14, *KEYED)
    status = await run("batch", "status", str(folder / "out.jsonl.journal"))
    assert status.code == 0
    assert re.search(r"in doubt  \d rows\n          \d rows were in flight under their keys", status.out)


async def test_status_of_a_run_that_is_over(folder: Path, gateway: Gateway, run: Run) -> None:
    async with process(*command(folder, gateway)) as started:
        await finish(started)
    (told,) = (await run("batch", "status", str(folder / "out.jsonl.journal"), "--json")).json_lines
    assert (told["writer"], told["done"], told["failed"], told["in_doubt"]) == (None, ROWS, 0, 0)


async def test_status_of_nothing_is_5(folder: Path, run: Run) -> None:
    status = await run("batch", "status", str(folder / "missing"))
    assert (status.code, status.out, "Traceback" in status.err) == (5, "", False)
    assert not (folder / "missing").exists()


async def test_file_called_status_is_given_with_its_folder(folder: Path, gateway: Gateway) -> None:
    (folder / "in.jsonl").rename(folder / "status")
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "batch", "./status", "-o", "out.jsonl"),
        *("--model", "m", "--base-url", gateway.url, "--quiet"),
        cwd=folder,
        env=environment({}),
        stderr=subprocess.PIPE,
    )
    _, err = await started.communicate()
    assert err == b""
    assert ids(folder) == ALL
