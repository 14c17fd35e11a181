"""Journals with results in them, and the files that are published from them."""

from __future__ import annotations

import gzip
import os
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.publishing import Publisher
from penstock.engine.batch.records import Ending, Record, Settlement
from penstock.engine.batch.results import BatchResult
from penstock.engine.batch.rows import BatchRow
from penstock.errors import BadRowError, ServerError


def row(position: int) -> BatchRow:
    return BatchRow(f"r{position}", position, {})


def answered(position: int, text: str = "Yes.") -> BatchResult:
    return BatchResult(row(position), {"text": text}, is_kept=True)


def failed(position: int) -> BatchResult:
    return BatchResult(row(position), error=ServerError("no"), is_kept=True)


def bad(position: int) -> BatchResult:
    return BatchResult(row(position), error=BadRowError(f"in.jsonl, line {position + 1}: not JSON"))


async def walk(journal: Journal, positions: Iterable[int]) -> None:
    """Read an input with rows at these positions."""
    await journal.rewind()
    await journal.find([(position, f"r{position}") for position in positions])


async def settle(journal: Journal, *results: BatchResult) -> None:
    """Send these rows and get these results, in this order."""
    now = int(time.time())
    for result in sorted(results, key=lambda result: result.row.position):
        await journal.intend([Record(result.row.position, result.id, bytes(16), 0, "keyed", now)])
    for result in results:
        state: Ending = "done" if result.ok else "failed"
        await journal.settle(Settlement(result.row.position, state, result.line()))


async def publish(journal: Journal, publisher: Publisher, *results: BatchResult, is_complete: bool = True) -> None:
    """A run that gets these results, which the journal has unless they are not to be kept."""
    await publisher.start(journal)
    try:
        kept = [result for result in results if result.is_kept]
        await walk(journal, sorted(result.row.position for result in kept))
        await settle(journal, *kept)
        for result in results:
            publisher(result)
        await publisher.finish(is_complete)
    finally:
        await publisher.close()


# Files, for tests that await: these block for an instant


def data(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def lines(path: Path) -> list[Any]:
    text = gzip.decompress(data(path)) if path.suffix == ".gz" else data(path)
    assert not text or text.endswith(b"\n")
    return [orjson.loads(line) for line in text.splitlines()]


def ids(path: Path) -> list[str]:
    return [line["id"] for line in lines(path)]


def errors_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.errors.jsonl")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger than so many bytes: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
