"""The file of a cassette: its lines, who writes it, who reads it, and which request is like which."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from penstock import errors
from penstock.engine.cassette.library import Library, load
from penstock.engine.cassette.lines import (
    HEADING,
    Answered,
    Asked,
    BadLineError,
    Ended,
    Event,
    Left,
    Lost,
    Read,
    decoded,
    encoded,
)
from penstock.engine.cassette.matching import DEFAULT_MATCH, difference, is_match, key_of
from penstock.engine.cassette.recording import Recording

CHAT = "http://127.0.0.1:1/v1/chat/completions"
ASKED = Asked("POST", CHAT, (("Content-Type", "application/json"),), b'{"model": "m", "n": 1}')
EVENTS: list[Event] = [
    ASKED,
    Asked("GET", "https://host/v1/models?limit=2"),
    Asked("POST", CHAT, (), b"not JSON"),
    Asked("POST", CHAT, (), b"\xff\x00"),
    Answered(0.1, 200, "OK", (("Set-Cookie", "a=***"), ("Set-Cookie", "b=***"))),
    Read(0.25, "data: žluť\n\n".encode()),
    Read(0.5, b"\xc5"),
    Ended(1.0),
    Lost(1.0, "reset", "ECONNRESET"),
    Left(0.0),
]


def written(path: Path, *lines: tuple[int, Event]) -> Path:
    path.write_bytes(HEADING + b"".join(encoded(number, event) for number, event in lines))
    return path


def asked(body: str, **other: str) -> Asked:
    return Asked(other.get("method", "POST"), other.get("url", CHAT), (), body.encode())


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_a_line_says_all_of_an_event(event: Event) -> None:
    line = encoded(7, event)
    assert decoded(line) == (7, event)
    assert line.count(b"\n") == 1


@given(st.binary(max_size=64), st.floats(0, 1e6))
def test_every_read_comes_back_byte_for_byte(data: bytes, at: float) -> None:
    assert decoded(encoded(1, Read(at, data))) == (1, Read(round(at, 4), data))


def test_text_is_written_as_text_and_other_bytes_as_base64() -> None:
    assert encoded(1, Read(0.0, "é\n".encode())) == '{"read": 1, "at": 0.0, "text": "é\\n"}\n'.encode()
    assert encoded(1, Read(0.0, b"\xc3")) == b'{"read": 1, "at": 0.0, "base64": "ww=="}\n'


def test_half_of_a_surrogate_pair_in_a_request_can_be_written() -> None:
    assert decoded(encoded(1, asked(r'{"a": "\ud800"}')))[1] == asked(r'{"a": "\ud800"}')


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"read": 1, "at": 0}', b'{"other": 1}', b'{"read": "x"}', b"{" * 9999]
)
def test_what_is_no_line_is_a_bad_line(line: bytes) -> None:
    with pytest.raises(BadLineError):
        decoded(line)


@given(st.binary(max_size=200))
def test_reading_a_line_never_fails_in_another_way(line: bytes) -> None:
    with contextlib.suppress(BadLineError):
        decoded(line)


def test_interactions_that_ran_at_the_same_time_are_told_apart(tmp_path: Path) -> None:
    head = Answered(0.0, 200, "OK", ())
    lines: list[tuple[int, Event]] = [
        (1, ASKED),
        (2, ASKED),
        (2, head),
        (1, head),
        (1, Read(0.1, b"one")),
        (2, Read(0.1, b"two")),
    ]
    first, second = load(written(tmp_path / "c", *lines, (2, Ended(0.2)), (1, Ended(0.2))))
    assert [first.events, second.events] == [
        [head, Read(0.1, b"one"), Ended(0.2)],
        [head, Read(0.1, b"two"), Ended(0.2)],
    ]


def test_a_file_that_was_cut_anywhere_can_be_read(tmp_path: Path) -> None:
    whole = written(
        tmp_path / "c", (1, ASKED), (1, Answered(0.0, 200, "OK", ())), (1, Read(0.1, b"one")), (1, Ended(0.1))
    )
    data = whole.read_bytes()
    for size in range(len(HEADING), len(data)):
        whole.write_bytes(data[:size])
        lines = data[:size].count(b"\n") - 1
        assert sum(1 + len(each.events) for each in load(whole)) == lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a cassette"),
        (b"interactions:\n- request:\n", "is not a cassette"),
        (b'{"penstock_cassette": 2}\n', "is of version 2, and this is for 1"),
        (HEADING + b'{"read": 1, "at": 0, "text": ""}\n', "line 2: belongs to no request above it"),
        (HEADING + b"<<<<<<< HEAD\n", "line 2: not a line of a cassette"),
        (HEADING + encoded(1, ASKED) + encoded(1, ASKED), "line 3: a request 1 is above already"),
        (HEADING + encoded(1, ASKED) + encoded(1, Ended(0.1)), "line 3: belongs to an answer, and none is above it"),
        (HEADING + encoded(1, ASKED) + b'{"left": 1, "at": 1e999}\n', "line 3: not a line of a cassette"),
        (HEADING + encoded(1, Asked("GET", "http://[")), "line 2: not a line of a cassette"),
        (HEADING + encoded(1, Asked("GET", "/v1/models")), "line 2: not a line of a cassette"),
    ],
)
def test_another_file_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(errors.CassetteError, match=message):
        load(path)


def test_a_missing_file_is_a_cassette_error(tmp_path: Path) -> None:
    with pytest.raises(errors.CassetteError, match="No such file"):
        load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}'),
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": "é"}', '{"a": "\\u00e9"}'),
    ],
)
def test_bodies_are_alike_when_their_json_is_equal(one: str, other: str) -> None:
    assert key_of(asked(one), DEFAULT_MATCH) == key_of(asked(other), DEFAULT_MATCH)


@pytest.mark.parametrize(
    "other",
    [
        asked('{"a": true}'),
        asked('{"a": "1"}'),
        asked('{"a": 1}', url=f"{CHAT}?page=2"),
        asked('{"a": 1}', method="PUT"),
        asked("a=1"),
    ],
)
def test_other_requests_are_not_alike(other: Asked) -> None:
    assert key_of(asked('{"a": 1}'), DEFAULT_MATCH) != key_of(other, DEFAULT_MATCH)


def test_a_form_is_alike_whatever_divides_it() -> None:
    def form(boundary: str) -> Asked:
        content_type = (("content-type", f"multipart/form-data; boundary={boundary}"),)
        return Asked("POST", CHAT, content_type, f"--{boundary}\r\n\r\nx\r\n--{boundary}--".encode())

    assert key_of(form("abc"), DEFAULT_MATCH) == key_of(form("xyz123"), DEFAULT_MATCH)


def test_headers_are_compared_when_asked_for_without_those_that_change() -> None:
    def request(**headers: str) -> Asked:
        return Asked("GET", CHAT, tuple((name.replace("_", "-"), value) for name, value in headers.items()))

    match = ("headers",)
    base = key_of(request(X_Tenant="blue"), match)
    assert (
        key_of(request(x_tenant="blue", Idempotency_Key="1", Authorization="Bearer ***", X_Request_Id="7"), match)
        == base
    )
    assert key_of(request(X_Tenant="red"), match) != base


@pytest.mark.parametrize("match", [(), ("url",), "body", None, 7, [1]])
def test_a_match_that_compares_nothing_known_is_none(match: object) -> None:
    assert not is_match(match)


def test_equal_requests_are_answered_in_the_order_of_the_recording_each_once(tmp_path: Path) -> None:
    library = Library(written(tmp_path / "c", (1, ASKED), (2, asked("{}")), (3, ASKED)), DEFAULT_MATCH)
    assert [library.take(each).number for each in (ASKED, asked("{}"), ASKED)] == [1, 2, 3]
    with pytest.raises(errors.CassetteMismatchError, match=r"every recorded answer .* the last request is in line"):
        library.take(ASKED)


def test_a_function_can_say_what_is_alike(tmp_path: Path) -> None:
    library = Library(written(tmp_path / "c", (1, ASKED)), lambda recorded, asked: recorded.url == asked.url)
    assert library.take(asked("anything")).number == 1


def test_a_mismatch_shows_how_the_nearest_request_differs(tmp_path: Path) -> None:
    path = written(tmp_path / "c", (1, asked("{}", url="http://h/v1/models")), (2, ASKED), (3, asked('{"zzz": 0}')))
    with pytest.raises(errors.CassetteMismatchError) as raised:
        Library(path, DEFAULT_MATCH).take(asked('{"n": 2, "model": "m"}'))
    assert str(raised.value) == (
        f"no recorded request in {path} is like POST {CHAT}; the nearest is in line 3:\n"
        "--- recorded\n+++ asked\n@@ -3,3 +3,3 @@\n"
        '  "model": "m",\n- "n": 1\n+ "n": 2\n }\n'
        ". Record it anew if the change is meant."
    )


def test_a_mismatch_with_nothing_recorded_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.CassetteMismatchError, match="nothing is recorded"):
        Library(written(tmp_path / "c"), DEFAULT_MATCH).take(ASKED)


def test_a_long_difference_is_cut() -> None:
    one, other = (
        '{"a": [' + ",".join(map(str, random.Random(seed).sample(range(9999), 500))) + "]}" for seed in (1, 2)
    )
    lines = difference(asked(one), asked(other)).splitlines()
    assert len(lines) == 41
    assert lines[-1].endswith("lines more")


def test_nothing_is_replaced_before_the_first_request(tmp_path: Path) -> None:
    path = written(tmp_path / "c", (1, ASKED))
    recording = Recording(path, is_new=False)
    assert len(load(path)) == 1
    recording.finish(recording.begin(asked("{}")))
    assert [each.asked for each in load(path)] == [asked("{}")]


def test_the_file_is_whole_after_every_line(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "c"
    recording = Recording(path, is_new=True)
    number = recording.begin(ASKED)
    assert [each.events for each in load(path)] == [[]]
    recording.write(number, Answered(0.0, 200, "OK", ()))
    assert [each.events for each in load(path)] == [[Answered(0.0, 200, "OK", ())]]
    recording.finish(number)
    assert os.listdir(path.parent) == ["c"]


@pytest.mark.skipif(os.name == "nt", reason="files are locked on POSIX")
def test_two_recorders_of_one_file_at_a_time_are_refused(tmp_path: Path) -> None:
    first, second = (Recording(tmp_path / "c", is_new=False) for _ in range(2))
    number = first.begin(ASKED)
    with pytest.raises(errors.CassetteError, match="is being recorded by another recorder: give one Record to all"):
        second.begin(ASKED)
    first.finish(number)
    assert len(load(tmp_path / "c")) == 1


def test_a_recorder_whose_file_was_replaced_says_so(tmp_path: Path) -> None:
    first, second = (Recording(tmp_path / "c", is_new=False) for _ in range(2))
    first.finish(first.begin(ASKED))
    number = second.begin(ASKED)
    second.finish(number)
    with pytest.raises(errors.CassetteError, match="has been replaced by another recorder"):
        first.begin(ASKED)


def test_a_file_that_was_begun_meanwhile_is_not_replaced_by_a_recorder_of_new_ones(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "c", is_new=True)
    written(tmp_path / "c", (1, ASKED))
    with pytest.raises(errors.CassetteError, match="has been begun by another recorder"):
        recording.begin(ASKED)
    assert len(load(tmp_path / "c")) == 1


def test_a_folder_that_cannot_be_written_is_a_cassette_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.CassetteError, match="cannot be written"):
        Recording(tmp_path / "file" / "c", is_new=True).begin(ASKED)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that is none")
@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, is_new: bool) -> None:
    """Such as /dev/null, which whoever may would replace for the whole machine."""
    path = tmp_path / "c"
    os.mkfifo(path)
    with pytest.raises(errors.CassetteError, match="cannot be written: it is no file"):
        Recording(path, is_new=is_new).begin(ASKED)
    assert path.is_fifo()


def test_urls_of_requests_are_compared_as_they_were_sent() -> None:
    assert key_of(asked("", url=str(URL("http://h/a%2Fb", encoded=True))), ("path",)) != key_of(
        asked("", url="http://h/a/b"), ("path",)
    )
