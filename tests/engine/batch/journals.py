"""Rows and records for tests of the journal, and places where a file cannot be written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Line, Record, Settlement, State

FINGERPRINT = bytes(range(16))
NOBODY = 65534  # may not write where root may


def record(
    position: int,
    row_id: str | None = None,
    *,
    fingerprint: bytes = FINGERPRINT,
    generation: int = 0,
    state: State = "keyed",
) -> Record:
    """What is written down before a row is sent."""
    return Record(position, row_id or f"row-{position}", fingerprint, generation, state, 1_795_000_000)


def records(count: int) -> list[Record]:
    return [record(position) for position in range(count)]


def rows(ids: Sequence[str], start: int = 0) -> list[tuple[int, str]]:
    """An input, as `find` takes it."""
    return list(enumerate(ids, start))


def done(position: int, line: bytes = b"{}") -> Settlement:
    return Settlement(position, "done", line)


async def finish(journal: Journal, count: int) -> None:
    """Have the journal keep so many rows that are done."""
    await journal.intend(records(count))
    for position in range(count):
        journal.settle(done(position, f'{{"id":"row-{position}"}}'.encode()))
    await journal.flush()


async def results(journal: Journal) -> list[Line]:
    """All that is published from it."""
    return [line async for block in journal.lines() for line in block]


def contents(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    """Write over a file, which stays the same one for who has it open."""
    path.touch()
    with path.open("r+b") as file:
        file.write(content)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only_folder(path: Path) -> Iterator[None]:
    """Nobody can write there, root's files are nobody's."""
    user = os.geteuid()
    path.chmod(0o555)
    if user == 0:
        for file in (path, *path.iterdir()):
            os.chown(file, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(0o755)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[bool]:
    """A file system of so many bytes in memory, where that may be made: else it gives `False`."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    is_there = (
        sys.platform == "linux" and os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    )
    try:
        yield is_there
    finally:
        if is_there:
            # At once, whatever a test that failed has left open there: pytest could not remove the folder else
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def make_room(disk: Path) -> None:
    """Make a small disk larger."""
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
