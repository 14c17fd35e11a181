"""Files that cannot be made, written, read or understood: an error that says so, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from penstock.engine.batch import journal_file
from penstock.engine.batch.journal import Journal
from penstock.engine.batch.journal_failures import journal_failure
from penstock.engine.batch.records import Counts
from penstock.engine.errors import (
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    JournalVersionError,
    JournalWriteError,
)

from .journals import (
    contents,
    done,
    finish,
    largest_file,
    make_room,
    read_only_folder,
    record,
    records,
    results,
    rows,
    small_disk,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


async def fill(journal: Journal, size: int = 20_000) -> int:
    """Settle rows until the journal fails. Returns how many were acknowledged."""
    for position in range(10_000):
        try:
            await journal.intend([record(position)])
            await journal.settle(done(position, b"x" * size))
        except JournalWriteError:
            return position
    raise AssertionError("it never failed")


async def check_that_it_takes_nothing(journal: Journal) -> None:
    for work in (journal.intend([record(20_000)]), journal.counts(), journal.flush()):
        with pytest.raises(JournalWriteError):
            await work
    with pytest.raises(JournalWriteError):
        journal.settle(done(0))
    await journal.close()  # says nothing new


async def check_that_nothing_is_lost(path: Path, acknowledged: int) -> None:
    async with await Journal.open(path) as journal:
        await journal.check()
        assert [line.position for line in await results(journal)] == list(range(acknowledged))
        await journal.find([(acknowledged, f"row-{acknowledged}")])
        await journal.intend([record(acknowledged)])
        await journal.settle(done(acknowledged))


async def test_a_full_disk_stops_the_journal_and_room_lets_it_go_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "600k") as is_there:
        if not is_there:
            pytest.skip("a file system of its own may not be mounted here")
        path = tmp_path / "disk" / "run.journal"
        journal = await Journal.open(path)
        acknowledged = await fill(journal)
        assert acknowledged > 5
        assert "disk is full" in str(journal._writer.failure)
        await check_that_it_takes_nothing(journal)
        make_room(path.parent)
        await check_that_nothing_is_lost(path, acknowledged)


async def test_a_disk_without_room_for_a_new_journal_is_told_at_once(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8k") as is_there:
        if not is_there:
            pytest.skip("a file system of its own may not be mounted here")
        with pytest.raises(JournalWriteError, match="disk is full"):
            await Journal.open(tmp_path / "disk" / "run.journal")
        assert os.listdir(tmp_path / "disk") == []


async def test_a_write_that_fails_stops_the_journal(path: Path) -> None:
    journal = await Journal.open(path)
    with largest_file(400_000):
        acknowledged = await fill(journal)
    assert acknowledged > 5
    assert "disk I/O error" in str(journal._writer.failure)
    await check_that_it_takes_nothing(journal)
    await check_that_nothing_is_lost(path, acknowledged)


async def test_what_failed_last_is_told_when_the_journal_is_closed(path: Path) -> None:
    journal = await Journal.open(path)
    await journal.intend(records(1))
    end = journal.settle(done(0, b"x" * 500_000))
    with largest_file(300_000), pytest.raises(JournalWriteError):
        await journal.close()
    assert isinstance(end.exception(), JournalWriteError)
    async with await Journal.open(path) as journal:
        assert await journal.counts() == Counts(keyed=1)


async def test_everything_of_a_transaction_that_failed_is_told(path: Path) -> None:
    journal = await Journal.open(path)
    await journal.intend(records(3))
    ends = [journal.settle(done(place, b"x" * 200_000)) for place in range(3)]
    with largest_file(300_000), pytest.raises(JournalWriteError):
        await journal.keep({"a": "b"})
    assert [type(end.exception()) for end in ends] == [JournalWriteError] * 3
    assert len({id(end.exception()) for end in ends}) == 3  # a traceback each
    await journal.close()


async def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("folder")
    ours = [parent for parent in folder.parents if "pytest-" in str(parent)]
    for parent in ours:
        parent.chmod(0o755)
    with read_only_folder(folder), pytest.raises(JournalError, match=r"Permission denied\. Check its path\."):
        await Journal.open(folder / "run.journal")


async def test_a_journal_in_a_folder_that_cannot_be_written_can_be_looked_at(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    ours = [parent for parent in folder.parents if "pytest-" in str(parent)]
    for parent in ours:
        parent.chmod(0o755)
    async with await Journal.open(folder / "run.journal") as journal:
        await finish(journal, 2)
    with read_only_folder(folder):
        with pytest.raises(JournalError, match=r"Permission denied\. Check its path\."):
            await Journal.open(folder / "run.journal")
        async with await Journal.open(folder / "run.journal", read_only=True) as reader:
            assert await reader.counts() == Counts(done=2)


@pytest.mark.parametrize("name", ["none/run.journal", "."])
async def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalError, match=r"Check its path\."):
        await Journal.open(tmp_path / name)
    assert os.listdir(tmp_path) == []


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()


@pytest.mark.parametrize(
    "make",
    [partial(write, content=b"{}\n"), partial(write, content=b"{}\n" * 1_000), foreign],
    ids=["a few bytes", "many bytes", "a database"],
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_file_of_something_else_is_left_as_it_is(
    path: Path, make: Callable[[Path], None], read_only: bool
) -> None:
    make(path)
    before = contents(path)
    with pytest.raises(JournalDamagedError, match="not a journal"):
        await Journal.open(path, read_only=read_only)
    assert contents(path) == before
    assert os.listdir(path.parent) == ["run.journal"]


@pytest.mark.parametrize(("version", "age"), [(0, "an older"), (2, "a newer")])
async def test_a_journal_of_another_version_is_left_as_it_is(path: Path, version: int, age: str) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 1)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = contents(path)
    with pytest.raises(JournalVersionError, match=f"has the form {version}, of {age} version"):
        await Journal.open(path)
    assert contents(path) == before


@pytest.mark.parametrize("size", [100, 4_096, 5_000, 20_480])
@pytest.mark.parametrize("read_only", [False, True])
async def test_a_journal_that_was_cut_short_is_refused(path: Path, size: int, read_only: bool) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 500)
    os.truncate(path, size)
    with pytest.raises(JournalDamagedError):
        await Journal.open(path, read_only=read_only)
    assert len(contents(path)) == size


async def test_a_page_of_rubbish_is_found_when_the_journal_is_opened(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 500)
    with path.open("r+b") as file:
        file.seek(5 * 4_096)
        file.write(os.urandom(4_096))
    with pytest.raises(JournalDamagedError):
        await Journal.open(path)


@pytest.mark.parametrize(
    ("statement", "said"),
    [("DROP TABLE lines", "no such table"), ("DROP TABLE rows", "no such table"), ("DELETE FROM journal", "has no id")],
)
async def test_a_journal_without_all_that_makes_one_is_damaged(path: Path, statement: str, said: str) -> None:
    async with await Journal.open(path):
        pass
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(JournalDamagedError, match=said):
        await Journal.open(path)


async def damage_behind_its_back(path: Path) -> None:
    """Fill a journal with rubbish that somebody has open, and have them read it anew."""
    async with await Journal.open(path) as journal:
        await journal.keep({"a": "b"})
    write(path, contents(path)[:4_096].ljust(len(contents(path)), b"\xff"))


async def test_damage_that_is_met_later_stops_the_journal(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 500)
    async with await Journal.open(path, read_only=True) as reader:
        await damage_behind_its_back(path)
        for _ in range(2):
            with pytest.raises(JournalDamagedError, match="malformed"):
                await reader.counts()


async def test_the_full_check_says_where_the_damage_is(path: Path) -> None:
    async with await Journal.open(path) as journal:
        await finish(journal, 500)
    async with await Journal.open(path, read_only=True) as reader:
        await reader.check()
        await damage_behind_its_back(path)
        with pytest.raises(JournalDamagedError, match=r"[Pp]age \d"):
            await reader.check()


async def test_what_a_process_left_half_made_is_made_anew(path: Path) -> None:
    path.with_name(".run.journal.new").write_bytes(b"half")
    async with await Journal.open(path) as journal:
        assert journal.is_new
    assert os.listdir(path.parent) == ["run.journal"]


async def test_a_journal_that_cannot_be_opened_leaves_no_lock_and_no_thread(path: Path) -> None:
    write(path, b"rubbish")
    with pytest.raises(JournalDamagedError):
        await Journal.open(path)
    os.truncate(path, 0)
    async with await Journal.open(path) as journal:
        assert await journal.find(rows(["a"])) == [None]
    assert [thread for thread in threading.enumerate() if thread.name == "penstock-journal"] == []


async def test_commits_are_brought_to_the_disk_without_being_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_SYNC_S", 0.0)
    async with await Journal.open(path) as journal:
        await journal.keep({"a": "b"})
        async for _ in turns():
            if journal._file.sync_in() is None:
                break


async def test_commits_that_cannot_be_brought_to_the_disk_stop_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "_SYNC_S", 0.0)
    journal = await Journal.open(path)
    path.with_name("run.journal-wal").unlink()
    await journal.keep({"a": "b"})
    async for _ in turns():
        if journal._writer.failure is not None:
            break
    with pytest.raises(JournalWriteError, match="No such file"):
        await journal.keep({"a": "c"})
    await journal.close()


async def turns() -> AsyncIterator[None]:
    """Lets other threads run, a bounded number of times."""
    for _ in range(1_000):
        await asyncio.to_thread(lambda: None)
        yield
    raise AssertionError("it never came")


def test_what_is_not_on_the_disk_yet_is_due_within_a_second(path: Path) -> None:
    file = journal_file.JournalFile(path, "normal", read_only=False)
    assert file.sync_in() is None
    file.begin()
    file.ledger.keep({"a": "b"})
    file.commit()
    due = file.sync_in()
    assert due is not None
    assert 0 < due <= 1
    file.sync()
    assert file.sync_in() is None
    file.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), JournalWriteError),
        (sqlite3.OperationalError("disk I/O error"), JournalWriteError),
        (sqlite3.OperationalError("attempt to write a readonly database"), JournalWriteError),
        (sqlite3.OperationalError("database is locked"), JournalLockedError),
        (sqlite3.DatabaseError("database disk image is malformed"), JournalDamagedError),
        (sqlite3.DatabaseError("file is not a database"), JournalDamagedError),
        (sqlite3.OperationalError("something else"), JournalError),
        (OSError(28, "No space left on device"), JournalWriteError),
    ],
)
def test_each_failure_has_its_class_and_names_the_journal(error: Exception, kind: type[JournalError]) -> None:
    failure = journal_failure(error, Path("run.journal"))
    assert type(failure) is kind
    assert "the journal 'run.journal': " in str(failure)
    assert failure.__cause__ is error
