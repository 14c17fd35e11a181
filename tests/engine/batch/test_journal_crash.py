"""Processes that die while they write a journal, or are two where one was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Counts
from penstock.engine.errors import JournalLockedError

from ...project import ROOT

HOLDER = """
import asyncio, sys
from penstock.engine.batch.journal import Journal
from tests.engine.batch.journals import finish

async def main():
    async with await Journal.open(sys.argv[1]) as journal:
        await finish(journal, 2)
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

FORK = """
import asyncio, os, sys
from penstock.engine.batch.journal import Journal
from penstock.engine.errors import ModelEngineError

async def in_child(journal):
    for work in (journal.counts(), journal.keep({"a": "b"}), journal.close()):
        try:
            print(await work)
        except ModelEngineError as error:
            print(type(error).__name__)

async def main():
    async with await Journal.open(sys.argv[1]) as journal:
        child = os.fork()
        if not child:
            asyncio.run(in_child(journal))
            sys.stdout.flush()
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        await journal.keep({"parent": "writes"})
        print(dict(journal.facts))

asyncio.run(main())
"""


@pytest.mark.parametrize(("durability", "lives"), [("normal", 40), ("full", 10)])
def test_what_was_acknowledged_outlives_the_process(tmp_path: Path, durability: str, lives: int) -> None:
    arguments = [str(tmp_path / "run.journal"), str(lives), durability]
    command = [sys.executable, "-m", "tests.engine.batch.journal_lives", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{lives} lives, ")


def holder(path: Path) -> subprocess.Popen[bytes]:
    """Another process that has the journal open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


async def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with holder(path) as process:
        with pytest.raises(JournalLockedError, match=rf"run.journal' is being written by process {process.pid}\b"):
            await Journal.open(path)
        async with await Journal.open(path, read_only=True) as reader:
            assert reader.writer == f"process {process.pid}"
        process.communicate()
    async with await Journal.open(path, read_only=True) as reader:
        assert reader.writer is None


async def test_one_process_cannot_open_a_journal_twice(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run.journal")
    async with await Journal.open(tmp_path / "run.journal"):
        with pytest.raises(JournalLockedError, match=f"process {os.getpid()}"):
            await Journal.open(tmp_path / "link")


async def test_the_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert path.with_name("run.journal.lock").exists()
    async with await Journal.open(path, read_only=True) as reader:
        assert reader.writer is None
        assert await reader.counts() == Counts(done=2)
    async with await Journal.open(path) as journal:
        assert await journal.counts() == Counts(done=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_is_told_so_and_leaves_the_journal_to_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path / "run.journal")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["ForkedProcessError"] * 2 + ["None", "{'parent': 'writes'}"]
