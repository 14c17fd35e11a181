"""What a journal keeps, as its user sees it."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Counts, Line, Settled, Settlement, key_of
from penstock.engine.errors import (
    ConfigurationError,
    DuplicateRowError,
    JournalError,
    WrongEventLoopError,
)

from .journals import FINGERPRINT, contents, done, finish, record, records, results, rows, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with await Journal.open(path) as opened:
        yield opened


async def test_what_was_intended_and_settled_is_there_after_a_reopening(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await journal.intend(records(3))
        await journal.settle(done(0, b'{"n":1}'))
        await journal.settle(Settlement(2, "failed", b'{"error":{}}'))
    async with await Journal.open(path) as journal:
        found = await journal.find(rows(["row-0", "row-1", "row-2", "row-3"]))
        assert found == [record(0, state="done"), record(1), record(2, state="failed"), None]
        assert await results(journal) == [
            Line(0, "row-0", "done", b'{"n":1}'),
            Line(2, "row-2", "failed", b'{"error":{}}'),
        ]


async def test_a_new_journal_says_so_and_keeps_its_id(path: Path) -> None:
    async with await Journal.open(path) as journal:
        assert journal.is_new
        first = journal.id
    async with await Journal.open(path) as journal:
        assert not journal.is_new
        assert journal.id == first


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    write(path, b"")
    async with await Journal.open(path) as journal:
        assert journal.is_new


async def test_only_the_owner_can_read_any_of_its_files(journal: Journal, path: Path) -> None:
    await finish(journal, 1)
    names = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert names == {f"run.journal{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")}


async def test_one_file_is_left_when_it_is_closed(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 1)
    assert os.listdir(path.parent) == ["run.journal"]


async def test_facts_are_kept_and_replaced(path: Path) -> None:
    async with await Journal.open(path) as journal:
        assert journal.facts == {}
        await journal.keep({"gateway": "nim", "model": "a"})
        await journal.keep({"model": "b"})
        assert journal.facts == {"gateway": "nim", "model": "b"}
    async with await Journal.open(path) as journal:
        assert journal.facts == {"gateway": "nim", "model": "b"}


async def test_the_key_of_a_row_is_the_same_after_its_record_is_lost(journal: Journal) -> None:
    key = journal.key("row-0", FINGERPRINT)
    assert key == str(uuid5(journal.id, f"0:{FINGERPRINT.hex()}:row-0"))
    assert UUID(key).version == 5


def test_rows_fingerprints_generations_and_journals_have_keys_of_their_own() -> None:
    here, other = uuid4(), uuid4()
    of = [(here, "a", b"x" * 16, 0), (here, "b", b"x" * 16, 0), (here, "a", b"y" * 16, 0), (here, "a", b"x" * 16, 1)]
    assert len({key_of(*parts) for parts in [*of, (other, "a", b"x" * 16, 0), (here, ":a", b"x" * 16, 0)]}) == 6


async def test_a_row_that_is_sent_anew_loses_its_result_and_gets_another(journal: Journal) -> None:
    await finish(journal, 2)
    again = record(0, generation=1, fingerprint=b"z" * 16)
    await journal.intend([again, record(2)])
    assert await journal.in_doubt() == [again, record(2)]
    assert await journal.lines_at([0, 1, 2]) == {1: b'{"id":"row-1"}'}
    await journal.settle(done(0, b"new"))
    assert await journal.lines_at([0, 1, 2]) == {0: b"new", 1: b'{"id":"row-1"}'}


async def test_numbers_of_results_grow_and_are_never_given_twice(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 2)
        await journal.intend([record(1, generation=1)])
    async with await Journal.open(path) as journal:
        await journal.settle(done(1, b"new"))
        numbered = [line async for block in journal.settled() for line in block]
        assert numbered == [Settled(1, "done", b'{"id":"row-0"}'), Settled(3, "done", b"new")]
        assert [block async for block in journal.settled(after=1)] == [numbered[1:]]


async def test_rows_taken_back_are_not_in_doubt_and_keep_their_generation(journal: Journal) -> None:
    await finish(journal, 1)
    await journal.intend([record(1), record(2, generation=4)])
    await journal.withdraw([0, 2])
    assert await journal.in_doubt() == [record(1)]
    await journal.rewind()
    found = await journal.find(rows(["row-0", "row-1", "row-2"]))
    assert found == [record(0, state="done"), record(1), record(2, generation=4, state="new")]


async def test_counts_say_how_many_are_in_each_state(journal: Journal) -> None:
    await finish(journal, 3)
    await journal.intend([record(3), record(4), record(5)])
    await journal.settle(Settlement(5, "failed", b"{}"))
    await journal.withdraw([4])
    assert await journal.counts() == Counts(new=1, keyed=1, done=3, failed=1)


async def test_a_row_without_a_key_cannot_end_and_holds_nobody_up(journal: Journal) -> None:
    await journal.intend(records(2))
    ends = [journal.settle(done(place)) for place in (0, 7, 1, 1)]
    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), JournalError, type(None), JournalError]
    assert await journal.counts() == Counts(done=2)


async def test_the_same_id_at_two_positions_is_refused_whole(journal: Journal) -> None:
    await journal.intend(records(100))
    with pytest.raises(DuplicateRowError, match=r"'row-99' is that of the rows at 99 and at 200"):
        await journal.intend([*(record(place) for place in range(100, 200)), record(200, "row-99")])
    with pytest.raises(DuplicateRowError, match="'new' is that of the rows at 300 and at 301"):
        await journal.intend([record(300, "new"), record(301, "new")])
    assert await journal.counts() == Counts(keyed=100)


async def test_a_position_of_another_row_is_refused(journal: Journal) -> None:
    await journal.intend(records(1))
    with pytest.raises(JournalError, match="another row stands at position 0"):
        await journal.intend([record(0, "stranger")])
    assert await journal.in_doubt() == [record(0)]


async def test_a_text_that_is_no_unicode_is_refused_and_changes_nothing(journal: Journal) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        await journal.intend([record(0), record(1, "\ud800")])
    assert await journal.counts() == Counts()
    await finish(journal, 1)


async def test_a_refused_call_takes_none_of_those_committed_with_it(journal: Journal) -> None:
    await journal.intend(records(1))
    end = journal.settle(done(0))
    with pytest.raises(DuplicateRowError):
        await journal.intend([record(9, "row-0")])
    await end
    assert await journal.counts() == Counts(done=1)


async def test_results_come_in_input_order_in_blocks(journal: Journal) -> None:
    await journal.intend(records(5))
    for place in (4, 2, 0, 3):
        journal.settle(done(place, b"x" * 600_000))
    await journal.flush()
    blocks = [[line.position for line in block] async for block in journal.lines()]
    assert blocks == [[0, 2], [3, 4]]
    assert [[line.position for line in block] async for block in journal.lines(after=2)] == [[3, 4]]


async def test_results_can_be_those_of_one_state(journal: Journal) -> None:
    await journal.intend(records(4))
    for place in range(4):
        journal.settle(Settlement(place, "failed" if place % 2 else "done", b"{}"))
    await journal.flush()
    found = [line.position async for block in journal.lines(states=["failed"]) for line in block]
    assert found == [1, 3]


async def test_many_rows_settled_at_once_are_all_kept(journal: Journal) -> None:
    await journal.intend(records(1_000))
    await asyncio.gather(*(journal.settle(done(place, b"%d" % place)) for place in range(1_000)))
    assert [line.line for line in await results(journal)] == [b"%d" % place for place in range(1_000)]


async def test_cancelling_the_wait_for_a_result_does_not_take_it_back(journal: Journal) -> None:
    await journal.intend(records(1))
    journal.settle(done(0)).cancel()
    await journal.flush()
    assert await journal.counts() == Counts(done=1)


async def test_closing_commits_what_was_given(path: Path) -> None:
    journal = await Journal.open(path)
    await journal.intend(records(1))
    end = journal.settle(done(0))
    await journal.close()
    await journal.close()
    assert end.done()
    async with await Journal.open(path, read_only=True) as journal:
        assert await journal.counts() == Counts(done=1)


async def test_a_closed_journal_takes_nothing(path: Path) -> None:
    async with await Journal.open(path) as journal:
        pass
    with pytest.raises(JournalError, match="has been closed"):
        await journal.intend(records(1))


async def test_another_process_may_look_while_one_writes(journal: Journal, path: Path) -> None:
    await finish(journal, 2)
    async with await Journal.open(path, read_only=True) as reader:
        assert await reader.counts() == Counts(done=2)
        await journal.intend([record(2)])
        assert await reader.counts() == Counts(keyed=1, done=2)
        assert await reader.in_doubt() == [record(2)]
        assert len(await results(reader)) == 2
        assert reader.writer == f"process {os.getpid()}"
        await reader.check()


async def test_a_journal_opened_for_reading_writes_nothing(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 1)
    before = contents(path)
    async with await Journal.open(path, read_only=True) as reader:
        assert reader.writer is None
        with pytest.raises(JournalError, match="opened for reading"):
            reader.settle(done(0))
        with pytest.raises(JournalError, match="opened for reading"):
            await reader.keep({"a": "b"})
    assert contents(path) == before
    assert not path.with_name("run.journal.lock").exists()


async def test_looking_at_a_journal_that_is_not_there_makes_none(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        await Journal.open(path, read_only=True)
    assert os.listdir(path.parent) == []


async def test_everything_is_on_the_disk_at_each_commit_where_that_is_asked_for(path: Path) -> None:
    async with await Journal.open(path, durability="full") as journal:
        await finish(journal, 3)
        assert await journal.counts() == Counts(done=3)
    with pytest.raises(ConfigurationError, match="'normal' or 'full'"):
        await Journal.open(path, durability="some")  # type: ignore[arg-type]


async def test_a_python_with_an_old_sqlite_is_told_before_anything_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 22, 0))
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.24 or newer"):
        await Journal.open(path)


async def test_a_journal_belongs_to_one_loop(journal: Journal) -> None:
    def elsewhere() -> None:
        with pytest.raises(WrongEventLoopError):
            asyncio.run(journal.counts())
        with pytest.raises(WrongEventLoopError):
            asyncio.run(journal.close())

    await asyncio.to_thread(elsewhere)


async def test_a_journal_that_is_forgotten_warns_and_lets_go_of_its_file(path: Path) -> None:
    journals = [await Journal.open(path)]
    thread = journals[0]._writer._thread
    with pytest.warns(ResourceWarning, match="unclosed <Journal"):
        forget(journals)
    await asyncio.to_thread(thread.join)
    async with await Journal.open(path):
        pass


def forget(things: list[Journal]) -> None:
    things.clear()
    gc.collect()


async def test_an_opening_that_is_cancelled_lets_go_of_the_file(path: Path) -> None:
    opening = asyncio.ensure_future(Journal.open(path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for thread in threading.enumerate():
        if thread.name == "penstock-journal":
            await asyncio.to_thread(thread.join)
    async with await Journal.open(path):
        pass


async def test_its_text_says_which_it_is_and_whether_it_is_open(path: Path) -> None:
    async with await Journal.open(path) as journal:
        assert repr(journal) == f"<Journal {str(path)!r} open>"
    assert repr(journal) == f"<Journal {str(path)!r} closed>"
