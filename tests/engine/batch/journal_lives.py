"""Kills a process that writes a journal, again and again: ``python -m tests.engine.batch.journal_lives JOURNAL LIVES``.

A process that has no threads forks one child for each life. The child says on a pipe what the journal has
acknowledged; it is killed at a random moment after a random number of such words. The next child compares the journal
with everything that was said in all lives before, and goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import BinaryIO

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Durability, Record

from .journals import done, record

NEW = 208  # rows that a life begins; then it waits for its end
BLOCK = 16

Said = dict[int, str]
"""Position to ``keyed`` or ``done``: what must be there."""


def line_of(position: int) -> bytes:
    return b"%d" % position * (position % 300)


async def live(path: Path, durability: Durability, said: Said, words: BinaryIO) -> None:
    async with await Journal.open(path, durability=durability) as journal:
        known = await compare(journal, said)
        settle(journal, [position for position, found in known.items() if found.state == "keyed"], words)
        end = max(known, default=-1) + 1
        for begin in range(end, end + NEW, BLOCK):
            block = range(begin, begin + BLOCK)
            await journal.intend([record(position) for position in block])
            words.write(b"".join(b"keyed %d\n" % position for position in block))
            settle(journal, block, words)
        await asyncio.Event().wait()


async def look(path: Path, said: Said) -> None:
    """The last life: it compares, and that is all."""
    async with await Journal.open(path) as journal:
        await journal.check()
        await compare(journal, said)


def settle(journal: Journal, positions: Iterable[int], words: BinaryIO) -> None:
    for position in positions:
        settled = journal.settle(done(position, line_of(position)))
        settled.add_done_callback(partial(say_done, words, position))


def say_done(words: BinaryIO, position: int, settled: asyncio.Future[None]) -> None:
    settled.result()
    words.write(b"done %d\n" % position)


async def compare(journal: Journal, said: Said) -> dict[int, Record]:
    """Raise where the journal lacks something that it has acknowledged."""
    known: dict[int, Record] = {}
    place = 0
    while any(block := await journal.find([(at, f"row-{at}") for at in range(place, place + 1_000)])):
        known |= {found.position: found for found in block if found}
        place += 1_000
    lines = {line.position: line.line async for block in journal.lines() for line in block}
    for position, state in said.items():
        assert position in known, f"row {position} is lost"
        assert state == "keyed" or known[position].state == "done", f"the result of row {position} is lost"
    assert lines == {position: line_of(position) for position, found in known.items() if found.state == "done"}
    return known


def heard(words: BinaryIO) -> Iterator[tuple[int, str]]:
    for word in words:
        if word.endswith(b"\n"):
            state, position = word.decode().split()
            yield int(position), state


def one_life(path: Path, durability: Durability, said: Said, words_to_hear: int | None) -> int:
    """Returns how the child ended: below 0 when it was killed. `None` lets it live."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with os.fdopen(writing, "wb", buffering=0) as words:
                asyncio.run(look(path, said) if words_to_hear is None else live(path, durability, said, words))
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as words:
        hearing = heard(words)
        said.update(islice(hearing, words_to_hear))
        if words_to_hear is not None:
            os.kill(child, signal.SIGKILL)
        said.update(hearing)  # what it had said by then
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(path: Path, durability: Durability, lives: int, random: Random) -> None:
    """Say how many rows so many lives have left."""
    said: Said = {}
    for life in range(lives):
        status = one_life(path, durability, said, random.randrange(2 * NEW))
        assert status == -signal.SIGKILL, f"life {life} ended by itself: {status}"
    status = one_life(path, durability, said, None)
    assert status == 0, f"the last life ended with {status}"
    print(lives, "lives,", len(said), "rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "full" if sys.argv[3:] == ["full"] else "normal", int(sys.argv[2]), Random(7))
