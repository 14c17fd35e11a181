"""Bytes to lines, wherever they are cut."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.batch.lines import Line, decompressed, split_lines
from penstock.errors import InputError


def lines_of(*pieces: bytes, max_bytes: int = 100) -> list[Line]:
    return [line for lines in split_lines(pieces, max_bytes) for line in lines]


def texts(*pieces: bytes, max_bytes: int = 100) -> list[bytes | None]:
    return [line.text for line in lines_of(*pieces, max_bytes=max_bytes)]


def plain(*pieces: bytes) -> bytes:
    return b"".join(decompressed(pieces, "in.gz"))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\r\nb\r", [b"a", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
    ],
)
def test_lines_are_the_same_wherever_they_are_cut(data: bytes, expected: list[bytes]) -> None:
    for size in range(1, len(data) + 1):
        assert texts(*cut(data, size)) == expected
    assert texts(data) == expected


def test_lines_are_numbered_with_the_empty_ones() -> None:
    assert lines_of(b"a\n\nb") == [Line(1, b"a", 1), Line(2, b"", 0), Line(3, b"b", 1)]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_line_that_is_too_long_is_passed_over_and_told_with_its_size(size: int) -> None:
    data = b"a\n" + b"x" * 101 + b"\nb\n" + b"y" * 100 + b"\r\nc"
    found = lines_of(*cut(data, size))
    assert [line.text for line in found] == [b"a", None, b"b", b"y" * 100, b"c"]
    assert found[1] == Line(2, None, 101)


def test_endless_line_is_not_held() -> None:
    tracemalloc.start()
    try:
        ((line,),) = split_lines((b"x" * 100_000 for _ in range(500)), 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (line.text, line.size) == (None, 50_000_000)
    assert peak < 2_500_000


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_any_cut_gives_the_lines_of_the_whole(parts: list[bytes], size: int) -> None:
    data = b"\n".join(parts)
    assert lines_of(*cut(data, size), max_bytes=12) == lines_of(data, max_bytes=12)


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_gzip_is_known_by_its_first_bytes(size: int) -> None:
    data = b'{"prompt":"Hi"}\n' * 1000
    assert plain(*cut(gzip.compress(data), size)) == data
    assert plain(*cut(data, size)) == data


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_members_follow_each_other_with_padding_or_without(size: int) -> None:
    packed = gzip.compress(b"a\n") + gzip.compress(b"") + b"\0" * 20 + gzip.compress(b"b\n") + b"\0" * 9
    assert plain(*cut(packed, size)) == b"a\nb\n"


def test_one_byte_and_none_are_no_gzip() -> None:
    assert (plain(b"\x1f"), plain()) == (b"\x1f", b"")


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_gzip_that_ends_in_the_middle_is_an_error_after_what_there_was(size: int) -> None:
    packed = gzip.compress(b"a\n" * 10) + gzip.compress(b"b\n" * 10)[:-3]
    found: list[bytes] = []
    with pytest.raises(InputError, match=r"in\.gz: the gzip data ends in the middle"):
        found.extend(decompressed(cut(packed, size), "in.gz"))
    assert b"".join(found) == b"a\n" * 10 + b"b\n" * 10


def test_damaged_gzip_is_an_error() -> None:
    packed = bytearray(gzip.compress(b"abc\n" * 1000))
    packed[-6] ^= 1  # of the checksum
    with pytest.raises(InputError, match="damaged"):
        plain(bytes(packed))


def test_what_follows_a_member_and_is_none_is_an_error() -> None:
    with pytest.raises(InputError, match="damaged"):
        plain(gzip.compress(b"a\n") + b"more")


def test_bomb_comes_in_pieces() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert max(len(piece) for piece in decompressed([bomb], "in.gz")) <= 1 << 18
