"""Files that grow: what a crash at any byte leaves, and that each line is there once."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from penstock.engine.batch.append_publisher import AppendPublisher
from penstock.engine.batch.journal import Journal
from penstock.engine.batch.publishing import Publisher
from penstock.errors import OutputError

from .published import answered, bad, data, errors_of, failed, ids, largest_file, names, publish, put, settle, walk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX limits")


async def test_results_stand_in_the_order_they_were_settled_in(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(2), failed(3), answered(0), bad(4))
    assert (ids(out), ids(errors_of(out))) == (["r2", "r0"], ["r3", "r4"])


async def test_in_order_a_row_that_is_settled_again_stands_in_its_place(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out, ordered=True), answered(0), failed(1), bad(2), answered(3))
    await publish(journal, AppendPublisher(out, ordered=True), answered(0), answered(1), bad(2), answered(3))
    assert (ids(out), ids(errors_of(out))) == (["r0", "r1", "r3"], ["r2"])


async def test_in_order_a_row_that_was_put_in_stands_in_its_place(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out, ordered=True), answered(0), answered(2))
    await journal.rewind()
    await journal.find([(0, "r0"), (1, "r1"), (2, "r2")])
    publisher = AppendPublisher(out, ordered=True)
    await publisher.start(journal)
    await settle(journal, answered(1))
    await publisher.finish(True)
    await publisher.close()
    assert ids(out) == ["r0", "r1", "r2"]


async def test_in_order_what_is_there_is_left_as_it_is_until_the_run_has_come_to_it(
    journal: Journal, out: Path
) -> None:
    await publish(journal, AppendPublisher(out, ordered=True), failed(0), answered(1), answered(2))
    await publish(journal, AppendPublisher(out, ordered=True), answered(0), is_complete=False)
    assert (ids(out), ids(errors_of(out))) == (["r1", "r2"], ["r0"])


async def test_results_are_written_while_the_run_goes_on(journal: Journal, out: Path) -> None:
    publisher = AppendPublisher(out, interval=0.001)
    await publisher.start(journal)
    await walk(journal, [0])
    await settle(journal, answered(0))
    while not data(out):
        await journal.flush()
    assert ids(out) == ["r0"]
    await publisher.close()


async def test_file_without_lines_is_not_left(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(0))
    assert names(out.parent) == ["out.jsonl"]


async def test_next_run_leaves_the_lines_where_they_are(journal: Journal, out: Path) -> None:
    """Also when the file of failures was empty, and is gone."""
    await publish(journal, AppendPublisher(out), answered(0))
    publisher = AppendPublisher(out, interval=60)
    await publisher.start(journal)
    assert ids(out) == ["r0"]
    await publisher.close()


async def test_next_run_goes_on_behind_the_last_line(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(1), bad(3), is_complete=False)
    before = data(out)
    await publish(journal, AppendPublisher(out), answered(0), bad(3), answered(2), bad(4))
    assert data(out).startswith(before)
    assert (ids(out), ids(errors_of(out))) == (["r1", "r0", "r2"], ["r3", "r4"])


async def test_run_that_died_at_any_byte_is_gone_on_with(journal: Journal, out: Path, tmp_path: Path) -> None:
    """What a killed run wrote behind the last place that was kept is cut off and written again."""
    await publish(journal, AppendPublisher(out), answered(0), failed(1), is_complete=False)
    await walk(journal, range(4))
    await settle(journal, answered(2), answered(3))
    kept = data(out)
    for tail in range(0, 60, 7):
        put(out, kept + answered(2).line()[:tail])
        publisher = AppendPublisher(out)
        await publisher.start(journal)
        await publisher.close()
        assert data(out) == kept
    await publish(journal, AppendPublisher(out))
    assert (ids(out), ids(errors_of(out))) == (["r0", "r2", "r3"], ["r1"])


async def test_run_that_died_before_its_first_place_was_kept_is_gone_on_with(journal: Journal, out: Path) -> None:
    publisher = AppendPublisher(out, interval=60)
    await publisher.start(journal)
    put(out, b'{"id":"r0"}\n{"id"')
    await publisher.close()
    await publish(journal, AppendPublisher(out), answered(0))
    assert ids(out) == ["r0"]


async def test_whole_file_is_written_anew_when_it_is_gone(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(0), failed(1))
    os.unlink(out)
    await publish(journal, AppendPublisher(out), bad(2))
    assert (ids(out), ids(errors_of(out))) == (["r0"], ["r1", "r2"])


async def test_row_that_is_sent_again_stands_in_both_files(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), failed(0))
    await publish(journal, AppendPublisher(out), answered(0))
    assert (ids(out), ids(errors_of(out))) == (["r0"], ["r0"])


async def test_compressed_file_is_gone_on_with(journal: Journal, out: Path) -> None:
    out = out.with_suffix(".jsonl.gz")
    await publish(journal, AppendPublisher(out), answered(0))
    put(out, data(out) + b"\x1f\x8b\x08half")
    await publish(journal, AppendPublisher(out), answered(1))
    assert ids(out) == ["r0", "r1"]


async def test_moved_file_is_gone_on_with(journal: Journal, out: Path) -> None:
    """Restored from a copy, for instance: it is known by its content."""
    await publish(journal, AppendPublisher(out), answered(0))
    shutil.copy(out, out.with_suffix(".copy"))
    os.replace(out.with_suffix(".copy"), out)
    await publish(journal, AppendPublisher(out), answered(1))
    assert ids(out) == ["r0", "r1"]


async def test_nothing_is_written_before_the_shape_is_known(journal: Journal, out: Path) -> None:
    shapes = iter([None, "openai"])
    await publish(journal, AppendPublisher(out, shape=lambda: next(shapes, "own")), answered(0))  # type: ignore[arg-type]
    await publish(journal, AppendPublisher(out, shape=lambda: "own"), answered(1))
    assert ids(out) == ["batch_req_r0", "batch_req_r1"]


# In the order of the input


def ordered(out: Path, **options: bool) -> Publisher:
    return AppendPublisher(out, ordered=True, **options)  # type: ignore[arg-type]


async def test_ordered_holds_back_what_has_one_before_it(journal: Journal, out: Path) -> None:
    publisher = ordered(out)
    await publisher.start(journal)
    await walk(journal, range(4))
    await settle(journal, answered(2), answered(0), answered(1))
    publisher(answered(0))
    publisher(answered(1))
    await publisher.finish(False)
    await publisher.close()
    assert ids(out) == ["r0", "r1"]
    await publish(journal, ordered(out), *(answered(position) for position in range(4)))
    assert ids(out) == ["r0", "r1", "r2", "r3"]


async def test_ordered_does_not_pass_over_a_row_that_was_not_finished(journal: Journal, out: Path) -> None:
    """A run that is told to stop gives out what it has behind one that failed in passing."""
    await publish(journal, ordered(out), answered(0), answered(2), is_complete=False)
    assert ids(out) == ["r0"]
    await publish(journal, ordered(out), answered(0), answered(1), answered(2))
    assert ids(out) == ["r0", "r1", "r2"]


async def test_order_cannot_be_changed_half_way(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(1), answered(0))
    with pytest.raises(OutputError, match="was begun as rows were settled"):
        await publish(journal, ordered(out))
    await publish(journal, ordered(out, overwrite=True))
    assert ids(out) == ["r0", "r1"]


# What is not ours


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.errors.jsonl"])
async def test_file_that_is_not_ours_is_neither_appended_to_nor_emptied(journal: Journal, out: Path, name: str) -> None:
    put(out.parent / name, b"precious")
    await walk(journal, [0])
    await settle(journal, answered(0))
    with pytest.raises(OutputError, match=f"{name} exists and is not as this journal left it: --overwrite"):
        await publish(journal, AppendPublisher(out))
    assert data(out.parent / name) == b"precious"
    await publish(journal, AppendPublisher(out, overwrite=True))
    assert (ids(out), names(out.parent)) == (["r0"], ["out.jsonl"])


async def test_file_that_was_edited_is_not_gone_on_with(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(0))
    put(out, data(out).replace(b"Yes.", b"Nay."))
    with pytest.raises(OutputError):
        await publish(journal, AppendPublisher(out), answered(1))


async def test_what_is_no_file_is_refused_and_stays(journal: Journal, out: Path) -> None:
    os.mkfifo(out)
    with pytest.raises(OutputError, match=r"out\.jsonl is no regular file"):
        await publish(journal, AppendPublisher(out, overwrite=True))
    assert names(out.parent) == ["out.jsonl"]


async def test_file_that_took_the_place_of_our_empty_one_is_not_ours(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out))
    put(out.with_suffix(".other"), b"precious")
    os.replace(out.with_suffix(".other"), out)
    with pytest.raises(OutputError, match="exists"):
        await publish(journal, AppendPublisher(out), answered(0))
    assert data(out) == b"precious"


async def test_empty_file_that_was_there_is_taken_over(journal: Journal, out: Path) -> None:
    put(out, b"")
    await publish(journal, AppendPublisher(out), answered(0))
    assert ids(out) == ["r0"]


# Full disks


async def test_disk_that_is_full_leaves_whole_lines_and_the_next_run_goes_on(journal: Journal, out: Path) -> None:
    await publish(journal, AppendPublisher(out), answered(0))
    await settle(journal, *(answered(position, "x" * 1000) for position in range(1, 300)))
    publisher = AppendPublisher(out, interval=60)
    await publisher.start(journal)
    with largest_file(200_000), pytest.raises(OutputError, match=r"out\.jsonl cannot be written: File too large"):
        await publisher.finish(True)
    await publisher.close()
    assert ids(out) == ["r0"]
    await publish(journal, AppendPublisher(out))
    assert ids(out) == [f"r{position}" for position in range(300)]


async def test_run_is_told_why_nothing_can_be_written(journal: Journal, out: Path) -> None:
    """By the next result, so that no more rows are sent."""
    publisher = AppendPublisher(out, interval=0.001)
    await publisher.start(journal)
    await walk(journal, range(1))
    await settle(journal, answered(0))

    async def go_on() -> None:
        while True:
            await journal.counts()
            publisher(answered(0))

    with largest_file(10), pytest.raises(OutputError, match="File too large"):
        await go_on()
    await publisher.close()
    assert data(out) == b""
