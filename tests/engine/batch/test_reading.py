"""Rows from files and stdin: real files, real pipes, real processes."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from penstock.engine.batch.reading import RowFile
from penstock.engine.batch.rows import BatchRow
from penstock.errors import BadRowError, ConfigurationError, InputError

HELLO = b'{"id":"a","prompt":"Hello"}'


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(data)
    return path


def ids(rows: RowFile) -> list[str]:
    return [row.id if isinstance(row, BatchRow) else "bad" for row in rows]


def one(folder: Path, line: bytes) -> BatchRow | BadRowError:
    (row,) = RowFile(file_of(folder, line))
    return row


async def test_rows_are_the_same_with_for_and_async_for(tmp_path: Path) -> None:
    rows = RowFile(file_of(tmp_path, b"\n".join(b'{"prompt":"%d"}' % number for number in range(20_000))))
    listed = [row async for row in rows]
    assert listed == list(rows)
    assert [row.position for row in listed if isinstance(row, BatchRow)] == list(range(20_000))


def test_every_shape_is_a_row(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        b'"Hi"\n'
        b'[{"role":"user","content":"Hi"}]\n'
        b'{"id":"a","prompt":"Hi","temperature":0}\n'
        b'{"id":"b","input":["x"]}\n'
        b'{"custom_id":"c","method":"POST","url":"/v1/chat/completions",'
        b'"body":{"model":"m","messages":[{"role":"user","content":"Hi"}]}}\n',
    )
    rows = [row for row in RowFile(path) if isinstance(row, BatchRow)]
    assert [row.id for row in rows] == ["0", "1", "a", "b", "c"]
    assert [row.operation for row in rows] == ["chat", "chat", "chat", "embeddings", "chat"]
    assert rows[0].body == rows[1].body == {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends_byte_order_mark_and_empty_lines_do_not_matter(tmp_path: Path, end: bytes) -> None:
    data = b"\xef\xbb\xbf" + end + HELLO + end + b"  " + end + HELLO.replace(b'"a"', b'"b"')
    assert ids(RowFile(file_of(tmp_path, data))) == ["a", "b"]


@pytest.mark.parametrize("data", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
async def test_nothing_is_no_rows(tmp_path: Path, data: bytes) -> None:
    rows = RowFile(file_of(tmp_path, data))
    assert ([row async for row in rows], rows.estimated_rows) == ([], 0)


def test_gzip_is_read_under_any_name(tmp_path: Path) -> None:
    assert ids(RowFile(file_of(tmp_path, gzip.compress(HELLO + b"\n")))) == ["a"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"prompt":"Hi"', "line 1: not JSON: "),
        (b'{"prompt":"\xff"}', "line 1: not JSON: "),
        (b"7", "line 1: .*not int"),
        (b"{}", "line 1: .*no messages"),
        (b'{"id":"a"}{"id":"b"}', "line 1: not JSON: "),
        (b'{"prompt":"' + b"x" * 100 + b'"}', "line 1: 113 bytes, and 100 are allowed"),
    ],
)
def test_bad_line_says_where_and_what(tmp_path: Path, line: bytes, what: str) -> None:
    (row,) = RowFile(file_of(tmp_path, line), max_line_bytes=100)
    assert isinstance(row, BadRowError)
    with pytest.raises(BadRowError, match=what):
        raise row


def test_bad_line_in_the_middle_stands_in_its_place(tmp_path: Path) -> None:
    """And counts, so that mending it moves no other row."""
    rows = list(RowFile(file_of(tmp_path, b'"Hi"\n\n{"prom\n"Ho"')))
    assert [type(row) for row in rows] == [BatchRow, BadRowError, BatchRow]
    assert isinstance(rows[2], BatchRow)
    assert (rows[2].id, rows[2].position) == ("2", 2)


def test_bad_line_knows_its_number(tmp_path: Path) -> None:
    rows = RowFile(file_of(tmp_path, b'"Hi"\n\n{"id":"mine"}\n"Ho"\n[]'))
    assert [row.line for row in rows if isinstance(row, BadRowError)] == [3, 5]


def test_bad_line_keeps_its_id(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b'{"id": "a", "promt": "Hi"}\n{"id": 1.5, "prompt": "Hi"}\n{"custom_id": "c"}\n')
    rows = [row for row in RowFile(tmp_path / "in") if isinstance(row, BadRowError)]
    assert [row.row_id for row in rows] == ["a", None, "c"]


async def test_strict_raises_the_first_bad_line(tmp_path: Path) -> None:
    rows = RowFile(file_of(tmp_path, b'"Hi"\n{}\n'), strict=True)
    with pytest.raises(BadRowError, match=r"in\.jsonl, line 2: "):
        [row async for row in rows]


def test_id_of_a_bad_line_does_not_show_a_key(tmp_path: Path) -> None:
    assert "sk-" not in str(one(tmp_path, b'{"prompt":"sk-0123456789abcdef"'))


@pytest.mark.parametrize("name", ["missing.jsonl", ""])
async def test_what_cannot_be_opened_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read: "):
        [row async for row in RowFile(tmp_path / name)]


def test_bound_has_to_be_positive() -> None:
    with pytest.raises(ConfigurationError):
        RowFile("in.jsonl", max_line_bytes=0)


@pytest.mark.parametrize("size", [100, 2_000_000])
async def test_file_that_shrinks_or_grows_while_it_is_read_is_an_error(tmp_path: Path, size: int) -> None:
    """And no row of what was read after the change is given out."""
    path = file_of(tmp_path, (HELLO + b"\n") * 50_000)
    given_out = []

    async def read() -> None:
        async for row in RowFile(path):
            given_out.append(row)
            os.truncate(path, size)

    with pytest.raises(InputError, match=rf"was changed while it was read: 1400000 bytes then, {size} now"):
        await read()
    assert 0 < len(given_out) < 20_000


def test_file_that_is_replaced_is_read_to_its_end(tmp_path: Path) -> None:
    path = file_of(tmp_path, (HELLO + b"\n") * 50_000)
    rows = iter(RowFile(path))
    next(rows)
    (tmp_path / "other").write_bytes(b"")
    os.replace(tmp_path / "other", path)
    assert 1 + len(list(rows)) == 50_000


def test_progress_is_told_in_bytes_and_rows(tmp_path: Path) -> None:
    path = file_of(tmp_path, (HELLO + b"\n") * 50_000)
    rows = RowFile(path)
    assert (rows.size, rows.estimated_rows) == (None, None)
    iterator = iter(rows)
    next(iterator)
    assert rows.size == 1_400_000
    assert rows.estimated_rows == pytest.approx(50_000, rel=0.01)
    assert 1 + len(list(iterator)) == rows.estimated_rows == rows.rows_read


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(12):
            file.write((HELLO + b"\n") * 5_000)
    tracemalloc.start()
    try:
        read = sum(1 for _ in RowFile(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == 60_000
    assert peak < 20_000_000  # one block, and the objects of its rows


async def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    rows = RowFile(file_of(tmp_path, (HELLO + b"\n") * 50_000))
    before = len(os.listdir("/dev/fd"))
    async with aclosing(rows.__aiter__()) as iterator:
        await anext(iterator)
    assert len(os.listdir("/dev/fd")) == before


# stdin

READ = "import asyncio; from penstock.engine.batch.reading import RowFile\n"


def python(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", READ + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ALL = """
async def main():
    async for row in RowFile("-"):
        print(row.id, flush=True)
asyncio.run(main())
"""


def test_stdin_gives_each_row_as_it_comes() -> None:
    with python(ALL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(b'"Hi"\n')
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % number
        assert process.communicate() == (b"", b"")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_stdin_may_be_compressed(pack: Callable[[bytes], bytes]) -> None:
    with python(ALL) as process:
        assert process.communicate(pack(HELLO + b"\n")) == (b"a\n", b"")


def test_silent_stdin_keeps_neither_the_loop_nor_the_process() -> None:
    """The pipe stays open and says nothing, and the program ends by itself."""
    program = """
async def main():
    reading = asyncio.ensure_future(RowFile("-").__aiter__().__anext__())
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
asyncio.run(main())
print("over")
"""
    with python(program) as process:
        assert process.wait(10) == 0
        assert process.communicate() == (b"over\n", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
async def test_reader_that_is_left_in_a_read_closes_the_file_when_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    before = len(os.listdir("/dev/fd"))
    try:
        reading = asyncio.ensure_future(anext(aiter(RowFile(path))))
        await asyncio.sleep(0)  # the thread is started in the first step of the task
        (thread,) = (each for each in threading.enumerate() if each.name == "penstock-blocking")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        os.write(writer, b'"Hi"\n')
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
        assert len(os.listdir("/dev/fd")) == before
    finally:
        os.close(writer)
