"""Whole files that appear at the end: order, atomicity, what may be replaced, full disks."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from penstock.engine.batch.journal import Journal
from penstock.engine.batch.rename_publisher import RenamePublisher
from penstock.errors import OutputError

from .journals import read_only_folder
from .published import (
    answered,
    bad,
    data,
    errors_of,
    failed,
    ids,
    largest_file,
    lines,
    names,
    publish,
    put,
    settle,
    walk,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX permissions and limits")


async def test_results_stand_in_the_order_of_the_input(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(2), answered(0), answered(1))
    assert lines(out)[0] == {"id": "r0", "body": {"text": "Yes."}, "attempts": []}
    assert (ids(out), names(out.parent)) == (["r0", "r1", "r2"], ["out.jsonl"])


async def test_each_row_is_in_one_of_the_two_files(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), bad(0), failed(3), answered(1), bad(2), answered(5), bad(4), bad(6))
    assert ids(out) == ["r1", "r5"]
    assert ids(errors_of(out)) == ["r0", "r2", "r3", "r4", "r6"]


async def test_no_rows_make_an_empty_file(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out))
    assert (data(out), names(out.parent)) == (b"", ["out.jsonl"])


async def test_run_that_is_not_complete_leaves_what_was_there(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(0), bad(1), is_complete=False)
    assert names(out.parent) == []


async def test_many_bad_rows_go_through_a_file(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), *(bad(position) for position in range(20_000)))
    assert ids(errors_of(out)) == [f"r{position}" for position in range(20_000)]


async def test_compressed_where_the_name_says_so(journal: Journal, out: Path) -> None:
    out = out.with_suffix(".jsonl.gz")
    await publish(journal, RenamePublisher(out), answered(0), answered(1))
    assert (data(out)[:2], ids(out)) == (b"\x1f\x8b", ["r0", "r1"])


async def test_shape_of_openai(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out, shape=lambda: "openai"), answered(0), failed(1), bad(2))
    assert lines(out) == [
        {
            "id": "batch_req_r0",
            "custom_id": "r0",
            "response": {"status_code": 200, "request_id": "", "body": {"text": "Yes."}},
            "error": None,
        }
    ]
    assert [(line["custom_id"], line["error"]["code"]) for line in lines(errors_of(out))] == [
        ("r1", "ServerError"),
        ("r2", "BadRowError"),
    ]


async def test_row_that_the_input_no_longer_has_is_not_published(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(0), answered(1), answered(2))
    publisher = RenamePublisher(out)
    await publisher.start(journal)
    await walk(journal, [0, 2])
    await journal.retire()
    await publisher.finish(True)
    await publisher.close()
    assert ids(out) == ["r0", "r2"]


# What may be replaced


async def test_our_own_files_are_replaced(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(0), failed(1))
    await publish(journal, RenamePublisher(out), answered(0), answered(1))
    assert (ids(out), names(out.parent)) == (["r0", "r1"], ["out.jsonl"])


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.errors.jsonl"])
async def test_file_that_is_not_ours_stops_the_run_before_it_begins(journal: Journal, out: Path, name: str) -> None:
    put(out.parent / name, b"precious")
    publisher = RenamePublisher(out)
    with pytest.raises(OutputError, match=f"{name} exists and is not what this journal published: --overwrite"):
        await publisher.start(journal)
    assert data(out.parent / name) == b"precious"


async def test_file_of_ours_that_was_edited_is_not_ours(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(0))
    put(out, data(out) + b"a note\n")
    with pytest.raises(OutputError):
        await publish(journal, RenamePublisher(out))


async def test_file_that_appears_during_the_run_is_not_replaced(journal: Journal, out: Path) -> None:
    publisher = RenamePublisher(out)
    await publisher.start(journal)
    put(out, b"precious")
    with pytest.raises(OutputError, match="exists"):
        await publisher.finish(True)
    await publisher.close()
    assert (data(out), names(out.parent)) == (b"precious", ["out.jsonl"])


async def test_overwrite_replaces_any_file_and_keeps_who_may_read_it(journal: Journal, out: Path) -> None:
    put(out, b"old")
    os.chmod(out, 0o640)
    await publish(journal, RenamePublisher(out, overwrite=True), answered(0))
    assert (ids(out), stat.S_IMODE(os.stat(out).st_mode)) == (["r0"], 0o640)


@pytest.mark.parametrize("overwrite", [False, True])
async def test_what_is_no_file_is_never_replaced(journal: Journal, out: Path, overwrite: bool) -> None:
    os.mkfifo(out)
    with pytest.raises(OutputError, match="no regular file"):
        await RenamePublisher(out, overwrite=overwrite).start(journal)
    with pytest.raises(OutputError, match="no regular file"):
        await RenamePublisher(out.parent, overwrite=overwrite).start(journal)


async def test_missing_folder_is_told_before_the_run(journal: Journal, out: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        await RenamePublisher(out.parent / "missing" / "out.jsonl").start(journal)


async def test_folder_that_cannot_be_written_to_is_told_before_the_run(journal: Journal, out: Path) -> None:
    for parent in out.parents:
        if "pytest-" in str(parent):
            parent.chmod(0o755)
    with read_only_folder(out.parent), pytest.raises(OutputError, match="Permission denied"):
        await RenamePublisher(out).start(journal)


async def test_link_stays_a_link(journal: Journal, out: Path) -> None:
    target = out.parent / "elsewhere.jsonl"
    os.symlink(target, out)
    await publish(journal, RenamePublisher(out), answered(0))
    assert (os.readlink(out), ids(target)) == (str(target), ["r0"])


async def test_crash_between_the_two_renames_leaves_files_that_are_ours(
    journal: Journal, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after the failures have their name and before the results have theirs."""
    await publish(journal, RenamePublisher(out), answered(0), failed(1))
    before = data(out)
    replace = os.replace

    def dies(source: str, target: str) -> None:
        if str(target) == str(out):
            raise OSError("the process ends here")
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(OutputError):
        await publish(journal, RenamePublisher(out), answered(0, "New."), failed(1), failed(2))
    monkeypatch.undo()
    assert (data(out), ids(errors_of(out))) == (before, ["r1", "r2"])
    await publish(journal, RenamePublisher(out), answered(0, "New."), failed(1), answered(2))
    assert (ids(out), ids(errors_of(out))) == (["r0", "r2"], ["r1"])


# Full disks


async def test_disk_that_is_full_leaves_the_old_file_and_no_part(journal: Journal, out: Path) -> None:
    await publish(journal, RenamePublisher(out), answered(0))
    before = data(out)
    await settle(journal, *(answered(position, "x" * 1000) for position in range(1, 300)))
    with largest_file(200_000), pytest.raises(OutputError, match=r"out\.jsonl cannot be written: File too large"):
        await publish(journal, RenamePublisher(out))
    assert (data(out), names(out.parent)) == (before, ["out.jsonl"])
