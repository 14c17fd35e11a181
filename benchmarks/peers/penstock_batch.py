"""Penstock's batches: with a journal and without, and going on with a journal in which all is done."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable
from pathlib import Path

from penstock import ModelEngine
from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Record, Settlement
from penstock.engine.batch.results import BatchResult

from .base import ANSWER, KEY, MODEL, Batcher, Peer, Work

BLOCK = 1_000  # rows
LINE = b'{"id":"0","status":200,"body":{"choices":[{"message":{"content":"%b"}}]},"attempts":[{}]}' % ANSWER.encode()


async def connect(url: str) -> Peer:
    engine = ModelEngine(MODEL, base_url=url, api_key=KEY)
    await engine.start()

    async def with_journal(work: Work) -> int:
        rows = work.prompts()
        return await counted(engine.batch(rows, concurrency=work.concurrency, journal=_journal(work)))

    async def without(work: Work) -> int:
        return await counted(engine.batch(work.prompts(), concurrency=work.concurrency))

    batchers = {
        "batch, journal": Batcher(with_journal),
        "batch": Batcher(without),
        "batch, all done": Batcher(with_journal, prepare=with_journal, is_resume=True),
        "journal, records found": Batcher(found, prepare=filled, is_resume=True),
    }
    return Peer(engine.stop, batchers=batchers)


async def counted(results: AsyncIterable[BatchResult]) -> int:
    """How many rows had the right answer."""
    right = 0
    async for result in results:
        body = result.body
        right += body is not None and body["choices"][0]["message"]["content"] == ANSWER
    return right


async def filled(work: Work) -> None:
    """Make a journal in which all rows are done."""
    now = int(time.time())
    async with await Journal.open(_journal(work)) as journal:
        for begin in range(0, work.rows, BLOCK):
            block = range(begin, min(begin + BLOCK, work.rows))
            await journal.intend([Record(place, f"row-{place}", bytes(16), 0, "keyed", now) for place in block])
            for place in block:
                journal.settle(Settlement(place, "done", LINE))
        await journal.flush()


async def found(work: Work) -> int:
    """Ask it for all of them, as a run that goes on does."""
    there = 0
    async with await Journal.open(_journal(work)) as journal:
        for begin in range(0, work.rows, BLOCK):
            rows = [(place, f"row-{place}") for place in range(begin, min(begin + BLOCK, work.rows))]
            there += sum(record is not None and record.state == "done" for record in await journal.find(rows))
    return there


def _journal(work: Work) -> Path:
    return work.folder / "run.journal"
