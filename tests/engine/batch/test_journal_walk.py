"""The input walked along the journal: rows that stayed, moved, came, went, or are there twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.records import Counts, Ending, Record, Settlement, State
from penstock.engine.errors import DuplicateRowError

from .journals import done, record, results, rows


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Of the rows a, b, c and d, all done."""
    async with await Journal.open(tmp_path / "run.journal") as opened:
        await opened.intend([record(place, row_id) for place, row_id in enumerate("abcd")])
        for place, row_id in enumerate("abcd"):
            opened.settle(done(place, row_id.encode()))
        await opened.flush()
        await opened.rewind()
        yield opened


async def walked(journal: Journal, ids: Sequence[str], block: int) -> list[str]:
    """The ids that the journal knows of an input, each checked to be where its row is."""
    found = []
    for begin in range(0, len(ids), block):
        known = await journal.find(rows(ids[begin : begin + block], begin))
        found += [(place, record) for place, record in enumerate(known, begin) if record]
    assert all(record.position == place and record.id == ids[place] for place, record in found)
    return [record.id for _, record in found]


@pytest.mark.parametrize("block", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("ids", "known"),
    [
        ("abcd", "abcd"),
        ("abcdef", "abcd"),
        ("xabcd", "abcd"),
        ("abxcd", "abcd"),
        ("dcba", "dcba"),
        ("bcda", "bcda"),
        ("dabc", "dabc"),
        ("ad", "ad"),
        ("dxyzwa", "da"),
        ("xyz", ""),
        ("", ""),
    ],
)
async def test_records_follow_their_rows(journal: Journal, ids: str, known: str, block: int) -> None:
    assert "".join(await walked(journal, ids, block)) == known
    assert await journal.retire() == 4 - len(known)
    assert [line.id for line in await results(journal)] == list(known)
    assert await journal.counts() == Counts(done=len(known), absent=4 - len(known))


@pytest.mark.parametrize("block", [1, 2, 10])
async def test_rows_that_went_are_found_when_they_come_back(journal: Journal, block: int) -> None:
    for ids, known in [("da", "da"), ("xcx"[:2], "c"), ("bacd", "bacd")]:
        await journal.rewind()
        assert "".join(await walked(journal, ids, block)) == known
        await journal.retire()
    assert [line.line for line in await results(journal)] == [b"b", b"a", b"c", b"d"]


@pytest.mark.parametrize("block", [1, 2, 10])
@pytest.mark.parametrize("ids", ["abca", "aa", "xaxbb", "dcbad", "abcdd", "bxxxxb"])
async def test_an_id_that_comes_twice_is_refused(journal: Journal, ids: str, block: int) -> None:
    unique = [row_id if row_id != "x" else f"x{place}" for place, row_id in enumerate(ids)]
    with pytest.raises(DuplicateRowError, match=r"the id '.' is that of the rows at \d and at \d"):
        await walk_and_send(journal, unique, block)


async def walk_and_send(journal: Journal, ids: Sequence[str], block: int) -> None:
    """As a batch does: find a block, send what is new."""
    for begin in range(0, len(ids), block):
        part = rows(ids[begin : begin + block], begin)
        known = await journal.find(part)
        await journal.intend([record(*row) for row, found in zip(part, known) if found is None])


async def test_places_may_be_left_out(journal: Journal) -> None:
    assert await journal.find([(0, "a"), (2, "c")]) == [record(0, "a", state="done"), record(2, "c", state="done")]
    assert await journal.find([(9, "b")]) == [record(9, "b", state="done")]
    assert await journal.retire() == 1
    assert [line.id for line in await results(journal)] == ["a", "c", "b"]


async def test_an_input_is_walked_once(journal: Journal) -> None:
    await journal.find(rows("ab"))
    with pytest.raises(ValueError, match="position 1 comes after 1"):
        await journal.find([(1, "b")])
    with pytest.raises(ValueError, match="position 4 comes after 5"):
        await journal.find([(5, "x"), (4, "y")])
    assert await journal.find([]) == []
    assert await journal.find(rows("cd", 2)) == [record(2, "c", state="done"), record(3, "d", state="done")]


async def test_a_walk_that_ended_early_loses_nothing(journal: Journal) -> None:
    await journal.find(rows("xyd"))
    await journal.rewind()
    assert await walked(journal, "abcd", 2) == list("abcd")
    assert [line.line for line in await results(journal)] == [b"a", b"b", b"c", b"d"]


async def test_a_record_that_moved_behind_all_others_can_be_sent_anew(journal: Journal) -> None:
    assert await walked(journal, "bcdxxa".replace("xx", "xy"), 10) == list("bcda")
    await journal.intend([record(5, "a", generation=1), record(3, "x"), record(4, "y")])
    assert await journal.counts() == Counts(keyed=3, done=3)


# --- A journal equals a dictionary, whatever its inputs were -----------------------------------------------------


@dataclass
class Known:
    """What the model has of a row."""

    generation: int = 0
    state: State = "keyed"
    line: bytes | None = None


@dataclass
class Model:
    """A journal as a dictionary by id."""

    known: dict[str, Known] = field(default_factory=dict)

    def record(self, position: int, row_id: str) -> Record | None:
        known = self.known.get(row_id)
        return None if known is None else record(position, row_id, generation=known.generation, state=known.state)

    def lines(self, ids: Sequence[str]) -> list[tuple[int, str, bytes]]:
        known = [(place, row_id, self.known.get(row_id, Known()).line) for place, row_id in enumerate(ids)]
        return [(place, row_id, line) for place, row_id, line in known if line is not None]


Action = st.sampled_from(["skip", "key", "done", "failed", "withdraw"])
Inputs = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)
Runs = st.lists(
    st.tuples(Inputs, st.integers(1, 5), st.lists(Action, min_size=10, max_size=10), st.integers(0, 10)), max_size=6
)


@settings(max_examples=60)
@given(Runs)
def test_a_journal_is_a_dictionary_that_outlives_its_process(
    runs: list[tuple[list[str], int, list[str], int]],
) -> None:
    with TemporaryDirectory() as folder:
        model = Model()
        for ids, block, actions, stop in runs:
            asyncio.run(one_run(Path(folder) / "run.journal", model, ids, block, actions, stop))


async def one_run(path: Path, model: Model, ids: list[str], block: int, actions: list[str], stop: int) -> None:
    async with await Journal.open(path) as journal:
        for begin in range(0, len(ids), block):
            if begin > stop:
                return
            part = rows(ids[begin : begin + block], begin)
            found = await journal.find(part)
            assert found == [model.record(*row) for row in part]
            for (position, row_id), known in zip(part, found):
                await act(journal, model, actions[position], known or record(position, row_id, generation=-1))
        absent = await journal.retire()
        assert absent == len(model.known.keys() - set(ids))
        assert [(line.position, line.id, line.line) for line in await results(journal)] == model.lines(ids)
        assert (await journal.counts()).absent == absent
        await journal.check()


async def act(journal: Journal, model: Model, action: str, known: Record) -> None:
    if action == "skip":
        return
    fresh = known._replace(generation=known.generation + 1)
    await journal.intend([fresh])
    now = model.known[known.id] = Known(fresh.generation)
    if action == "withdraw":
        await journal.withdraw([known.position])
        now.state = "new"
    elif action != "key":
        now.line = f"{known.id}{fresh.generation}".encode()
        ending: Ending = "done" if action == "done" else "failed"
        now.state = ending
        await journal.settle(Settlement(known.position, ending, now.line))
