"""The event-stream decoder gives the events of the HTML standard, wherever the reads cut the bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.errors import ConfigurationError, EngineStateError, EventTooLargeError
from penstock.engine.sse import ServerSentEvent, SSEDecoder

BOM = b"\xef\xbb\xbf"
E = ServerSentEvent


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def in_reads_of(size: int, stream: bytes) -> Iterator[bytes]:
    return (stream[i : i + size] for i in range(0, len(stream), size))


def cut_at(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(stream)]
    return [stream[a:b] for a, b in zip(places, places[1:], strict=False)]


def feed_all(decoder: SSEDecoder, reads: Iterable[bytes]) -> list[ServerSentEvent]:
    return [event for read in reads for event in decoder.feed(read)]


def decode(*reads: bytes) -> list[ServerSentEvent]:
    return feed_all(SSEDecoder(), reads)


# -- a table of streams, cut in every way -----------------------------------------------------------------------------

STREAMS: dict[str, tuple[bytes, list[ServerSentEvent]]] = {
    "nothing": (b"", []),
    "one event": (b"data: x\n\n", [E(data="x")]),
    "events of a model": (
        b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
        [E(data='{"a":1}'), E(data='{"b":2}'), E(data="[DONE]")],
    ),
    "line ends are LF": (b"event: e\ndata: x\n\n", [E("e", "x")]),
    "line ends are CRLF": (b"event: e\r\ndata: x\r\n\r\ndata: y\r\n\r\n", [E("e", "x"), E(data="y")]),
    "line ends are CR": (b"event: e\rdata: x\r\rdata: y\r\r", [E("e", "x"), E(data="y")]),
    "line ends are mixed": (b"data: x\r\r\ndata: y\n\rdata: z\r\n\n", [E(data="x"), E(data="y"), E(data="z")]),
    "LF CR is two line ends": (b"data: x\n\rdata: y\n\n", [E(data="x"), E(data="y")]),
    "a byte order mark at the start is dropped": (BOM + b"data: x\n\n", [E(data="x")]),
    "only one byte order mark is dropped": (BOM + BOM + b"data: x\n\ndata: y\n\n", [E(data="y")]),
    "a byte order mark further on is text": (b"data: " + BOM + b"x\n\n", [E(data="\ufeffx")]),
    "a byte order mark before a blank line": (BOM + b"\ndata: x\n\n", [E(data="x")]),
    "half a byte order mark is not one": (b"\xef\xbbdata: x\n\ndata: y\n\n", [E(data="y")]),
    "a comment is no event": (b": ping\n\n:\n\ndata: x\n: in between\n\n", [E(data="x")]),
    "a colon needs no space": (b"data:x\n\n", [E(data="x")]),
    "one leading space is dropped, not two": (b"data:  x \n\n", [E(data=" x ")]),
    "a tab is not a space": (b"data:\tx\n\n", [E(data="\tx")]),
    "a value may hold colons": (b"data: a: b\n\n", [E(data="a: b")]),
    "a line without colon is a field without value": (b"data\n\n", [E(data="")]),
    "empty data is an event": (b"data:\n\ndata: \n\n", [E(data=""), E(data="")]),
    "two empty data lines are one LF": (b"data\ndata\n\n", [E(data="\n")]),
    "data lines are joined with LF": (b"data: a\ndata:\ndata: b\n\n", [E(data="a\n\nb")]),
    "data before and after another field": (b"data: a\nid: 1\ndata: b\n\n", [E(data="a\nb", id="1")]),
    "many blank lines": (b"\n\n\ndata: x\n\n\n\n\ndata: y\n\n\n", [E(data="x"), E(data="y")]),
    "field names are case-sensitive": (b"Data: x\nDATA: y\n\n", []),
    "field names are not trimmed": (b" data: x\ndata : y\n\n", []),
    "unknown fields are ignored": (b"foo: 1\nbar\ndata: x\n\n", [E(data="x")]),
    "the event name holds for one event": (b"event: e\ndata: x\n\ndata: y\n\n", [E("e", "x"), E(data="y")]),
    "the last event name counts": (b"event: a\nevent: b\ndata: x\n\n", [E("b", "x")]),
    "an empty event name is the default": (b"event: a\nevent:\ndata: x\n\n", [E(data="x")]),
    "an event without data is none and loses its name": (b"event: e\n\ndata: x\n\n", [E(data="x")]),
    "an event without data loses its retry": (b"retry: 5\n\ndata: x\n\n", [E(data="x")]),
    "an id sticks": (b"id: 1\ndata: x\n\ndata: y\n\n", [E(data="x", id="1"), E(data="y", id="1")]),
    "an id of an event without data sticks": (b"id: 1\n\ndata: x\n\n", [E(data="x", id="1")]),
    "an empty id takes the last one back": (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [E(data="x", id="1"), E(data="y")]),
    "an id with NUL is ignored": (b"id: 1\nid: 2\x003\ndata: x\n\n", [E(data="x", id="1")]),
    "NUL in data is text": (b"data: a\x00b\n\n", [E(data="a\x00b")]),
    "a retry belongs to its event": (b"retry: 5\ndata: x\n\ndata: y\n\n", [E(data="x", retry=5), E(data="y")]),
    "other line separators are text": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n\n".encode(),
        [E(data="a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg")],
    ),
    "characters of every length": ("data: é你🙂\n\n".encode(), [E(data="é你🙂")]),
    "bytes that are no character": (
        b"data: \xff|\xc0\xaf|\xed\xa0\x80\n\n",
        [E(data="\ufffd|\ufffd\ufffd|\ufffd\ufffd\ufffd")],
    ),
    "a character broken off is one U+FFFD": (
        b"data: \xf0\x9f\x99\n\ndata: \xe4\xbd|\n\n",
        [E(data="\ufffd"), E(data="\ufffd|")],
    ),
    "what follows the last blank line is no event": (b"data: x\n\ndata: y\n", [E(data="x")]),
}

stream_cases = pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS.keys())


@stream_cases
def test_a_stream_in_one_read(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert decode(stream) == events


@stream_cases
def test_a_stream_byte_by_byte(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert decode(*bytewise(stream)) == events


@stream_cases
def test_a_stream_cut_at_every_place(stream: bytes, events: list[ServerSentEvent]) -> None:
    for place in range(len(stream) + 1):
        assert decode(stream[:place], b"", stream[place:]) == events


@given(st.data())
def test_a_stream_of_all_cases_cut_anywhere(data: st.DataObject) -> None:
    stream = b"\n\nid\n\n".join(stream for stream, _ in STREAMS.values() if not stream.startswith(BOM))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert decode(*cut_at(stream, cuts)) == decode(stream)


# -- against the standard, read literally -----------------------------------------------------------------------------


class Standard:
    """HTML standard 9.2.6, step by step over a whole stream: slow, and plain enough to be checked by reading."""

    def __init__(self, stream: bytes) -> None:
        self.events: list[ServerSentEvent] = []
        self.last_event_id_buffer = self.last_event_id = ""
        self.reconnection_time: int | None = None
        self.comments = 0
        self.reset()
        text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
        *lines, self.unfinished_line = re.split(r"\r\n|\n|\r", text)
        for line in lines:
            self.process(line)

    def reset(self) -> None:
        self.data_buffer = self.event_type_buffer = ""
        self.retry: int | None = None

    def process(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line.startswith(":"):
            self.comments += 1
        elif ":" in line:
            name, value = line.split(":", 1)
            self.process_field(name, value[1:] if value.startswith(" ") else value)
        else:
            self.process_field(line, "")

    def process_field(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type_buffer = value
        if name == "data":
            self.data_buffer += value + "\n"
        if name == "id" and "\0" not in value:
            self.last_event_id_buffer = value
        if name == "retry" and re.fullmatch("0*[0-9]{1,15}", value):
            self.retry = self.reconnection_time = int(value)

    def event(self) -> ServerSentEvent | None:
        if self.data_buffer == "":
            return None
        return E(self.event_type_buffer or "message", self.data_buffer[:-1], self.last_event_id_buffer, self.retry)

    def dispatch(self) -> None:
        self.last_event_id = self.last_event_id_buffer
        event = self.event()
        if event is not None:
            self.events.append(event)
        self.reset()

    def unfinished(self) -> ServerSentEvent | None:
        """What is left at the end. The standard discards it; reading it uses this object up."""
        if self.unfinished_line:
            self.process(self.unfinished_line)
        return self.event()


LINE_ENDS = [b"\n", b"\n\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n"]
FIELDS = [
    b"data",
    b"data:",
    b"data: ",
    b"\n\ndata: ",
    b"event",
    b"event: e",
    b"id",
    b"id: 7",
    b"retry: 50",
    b"retry:-1",
]
EVENTS = [b"data: x\n\n", b'data: {"a": 1}\n\n', b": ping\n\n", b"event: e\ndata: x\n\n"]
BYTES = [b":", b": ", b" ", b"\0", b"\x0b", b"\xff", BOM, b"\xef", b"\xbb", b"\xf0\x9f", b"\xc2\x85", b"\xe2\x80\xa8"]
PIECES = LINE_ENDS + FIELDS + EVENTS + BYTES
streams = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=40).map(b"".join)


@given(streams, st.data())
def test_any_bytes_give_what_the_standard_says(stream: bytes, data: st.DataObject) -> None:
    standard = Standard(stream)
    decoder = SSEDecoder()
    reads = cut_at(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert feed_all(decoder, reads) == standard.events
    assert decoder.close() == Standard(stream).unfinished()
    assert decoder.last_event_id == standard.last_event_id
    assert decoder.reconnection_time_ms == standard.reconnection_time
    assert decoder.comments == standard.comments


@given(streams, st.integers(1, 40), st.data())
def test_the_limit_holds_or_fails_alike_for_every_cut(stream: bytes, limit: int, data: st.DataObject) -> None:
    reads = cut_at(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert until_failure(SSEDecoder(limit), reads) == until_failure(SSEDecoder(limit), bytewise(stream))


def until_failure(decoder: SSEDecoder, reads: list[bytes]) -> tuple[list[ServerSentEvent], object]:
    """The events, and what `close` gives or `"too large"`."""
    events: list[ServerSentEvent] = []
    try:
        for read in reads:
            events += decoder.feed(read)
        return events, decoder.close()
    except EventTooLargeError:
        return events, "too large"


# -- when events come -------------------------------------------------------------------------------------------------


def test_a_cr_at_the_end_of_a_read_dispatches_at_once() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: x\r\r") == [E(data="x")]
    assert decoder.feed(b"\ndata: y\r\n\r") == [E(data="y")]
    assert decoder.feed(b"\n") == []


def test_an_lf_belongs_to_the_cr_before_it_over_empty_reads_too() -> None:
    decoder = SSEDecoder()
    reads = [b"data: x\r", b"", b"\n", b"data: y\r", b"\n", b"\r"]
    assert [decoder.feed(read) for read in reads] == [[], [], [], [], [], [E(data="x\ny")]]


def test_a_character_cut_in_four_reads_is_whole() -> None:
    assert decode(b"data: \xf0", b"\x9f", b"\x99", b"\x82\n\n") == [E(data="🙂")]


def test_a_byte_order_mark_may_come_in_three_reads() -> None:
    assert decode(b"\xef", b"\xbb", b"\xbf", b"data: x\n\n") == [E(data="x")]


# -- the attributes ---------------------------------------------------------------------------------------------------


def test_the_last_event_id_changes_at_the_blank_line() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n\nid: 2\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("5", 5),
        ("0", 0),
        ("0010", 10),
        ("0" * 5000 + "7", 7),
        ("9" * 15, 10**15 - 1),
        ("9" * 16, None),
        ("9" * 5000, None),
        ("", None),
        (" 5", None),
        ("5 ", None),
        ("-1", None),
        ("+5", None),
        ("1_000", None),
        ("5.0", None),
        ("5s", None),
        ("٣", None),
        ("²", None),
    ],
)
def test_a_retry_is_ascii_digits_only(value: str, milliseconds: int | None) -> None:
    decoder = SSEDecoder()
    assert decoder.feed(f"retry: {value}\ndata: x\n\n".encode()) == [E(data="x", retry=milliseconds)]
    assert decoder.reconnection_time_ms == milliseconds


def test_a_retry_that_cannot_be_read_leaves_the_one_before() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: 5\nretry: soon\n\n")
    assert decoder.reconnection_time_ms == 5


def test_comments_are_counted_as_their_lines_end() -> None:
    decoder = SSEDecoder()
    counts = []
    for read in (b":\n", b"\n:", b"\n", b"data: x\n:\n: y"):
        assert decoder.feed(read) == []
        counts.append(decoder.comments)
    assert counts == [1, 1, 2, 3]


def test_pending_bytes_are_those_of_the_unfinished_event() -> None:
    decoder = SSEDecoder()
    pending = []
    for read in (b"data: x\n\n", b"event: e\r", b"\n", b"data", b": y", b"\n", b"\n"):
        decoder.feed(read)
        pending.append(decoder.pending_bytes)
    assert pending == [0, 9, 9, 13, 16, 17, 0]


# -- the end of the stream --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "unfinished"),
    [
        (b"", None),
        (b"data: x\n\n", None),
        (b"data: x\n\n\n", None),
        (b"data: x\n\n: pi", None),
        (b"data: x\n\n: ping\n", None),
        (b"data: x\n\nevent: e\nid: 1\n", None),
        (b"data: x\n\ndat", None),
        (b"\xef\xbb", None),
        (b"data: x", E(data="x")),
        (b"data: x\n", E(data="x")),
        (b"data: x\r", E(data="x")),
        (b"data", E(data="")),
        (b"data: x\n: pi", E(data="x")),
        (b"data: x\ndata: y", E(data="x\ny")),
        (b"data: x\nevent: e", E("e", "x")),
        (b"id: 1\n\nretry: 5\ndata: x", E(data="x", id="1", retry=5)),
        (b"data: \xf0\x9f", E(data="\ufffd")),
    ],
)
def test_closing_reports_the_unfinished_last_event(stream: bytes, unfinished: ServerSentEvent | None) -> None:
    for reads in ([stream], bytewise(stream)):
        decoder = SSEDecoder()
        feed_all(decoder, reads)
        assert decoder.close() == unfinished


def test_closing_twice_is_harmless_and_reports_once() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: x")
    assert [decoder.close(), decoder.close()] == [E(data="x"), None]
    assert decoder.pending_bytes == 0


def test_an_unfinished_event_leaves_the_stream_state_as_it_was() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\nretry: 5\n\nid: 2\ndata: x\nretry: 70")  # the line may have been cut short of 7000
    assert decoder.close() == E(data="x", id="2", retry=70)
    assert (decoder.last_event_id, decoder.reconnection_time_ms) == ("1", 5)


def test_an_unfinished_comment_is_not_counted() -> None:
    decoder = SSEDecoder()
    decoder.feed(b": ping\n: pi")
    decoder.close()
    assert decoder.comments == 1


def test_feeding_after_closing_is_an_error() -> None:
    decoder = SSEDecoder()
    decoder.close()
    with pytest.raises(EngineStateError, match="after close"):
        decoder.feed(b"data: x\n\n")


# -- the limit --------------------------------------------------------------------------------------------------------

ALLOWED = b"id: 1\r\ndata: 0123456789\r\n\r\n"  # 6 + 17 bytes with CRLF counted as one
LIMIT = 23


@pytest.mark.parametrize("reads", [[ALLOWED], bytewise(ALLOWED)], ids=["whole", "bytewise"])
def test_an_event_of_the_largest_size_is_allowed(reads: list[bytes]) -> None:
    assert feed_all(SSEDecoder(LIMIT), reads * 2) == [E(data="0123456789", id="1")] * 2


@pytest.mark.parametrize("reads", [[ALLOWED], bytewise(ALLOWED)], ids=["whole", "bytewise"])
def test_one_byte_more_is_refused(reads: list[bytes]) -> None:
    message = "an event of the stream is too large: 23 bytes received, 22 bytes allowed"
    with pytest.raises(EventTooLargeError, match=message):
        feed_all(SSEDecoder(LIMIT - 1), reads)


def test_an_endless_line_is_refused_in_the_read_that_passes_the_limit() -> None:
    decoder = SSEDecoder(10)
    assert decoder.feed(b"data: 6789") == []
    with pytest.raises(EventTooLargeError, match="11 bytes received, 10 bytes allowed"):
        decoder.feed(b"x")


def test_lines_without_a_blank_line_are_refused() -> None:
    decoder = SSEDecoder(20)
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"data: x\nfoo\n" * 2)


def test_events_before_the_large_one_are_returned_and_the_next_call_raises() -> None:
    decoder = SSEDecoder(10)
    assert decoder.feed(b"data: x\n\nid: 1\n\ndata: 0123456789\n\ndata: y\n\n") == [E(data="x")]
    with pytest.raises(EventTooLargeError, match="17 bytes received"):
        decoder.feed(b"")
    assert decoder.last_event_id == "1"


def test_events_before_a_large_unfinished_line_are_returned_and_closing_raises() -> None:
    decoder = SSEDecoder(10)
    assert decoder.feed(b"data: x\n\ndata: 0123456789") == [E(data="x")]
    with pytest.raises(EventTooLargeError, match="16 bytes received"):
        decoder.close()


def test_the_large_event_may_be_one_of_many_alike() -> None:
    decoder = SSEDecoder(10)
    assert decoder.feed(b"data: x\n\ndata: 0123456789\n\ndata: y\n\n") == [E(data="x")]
    with pytest.raises(EventTooLargeError, match="17 bytes received"):
        decoder.close()


def test_the_first_large_event_is_the_one_reported() -> None:
    with pytest.raises(EventTooLargeError, match="17 bytes received"):
        SSEDecoder(10).feed(b"data: 0123456789\n\n: a comment that is too large as well")


def test_a_failed_decoder_stays_failed_and_holds_nothing() -> None:
    decoder = SSEDecoder(10)
    for use in (lambda: decoder.feed(b"data: 0123456789"), lambda: decoder.feed(b"data: x\n\n"), decoder.close):
        for _ in range(2):
            with pytest.raises(EventTooLargeError, match="16 bytes received, 10 bytes allowed"):
                use()
    assert decoder.pending_bytes == 0


def test_comments_do_not_count_into_an_event() -> None:
    decoder = SSEDecoder(10)
    stream = b": ping\n" * 100 + b"data: x\n" + b": ping\n" * 100 + b"\n"
    assert feed_all(decoder, in_reads_of(3, stream)) == [E(data="x")]
    assert decoder.comments == 200


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_comment_line_is_held_to_the_limit_by_itself(end: bytes) -> None:
    assert SSEDecoder(10).feed(b": 23456789" + end) == []
    with pytest.raises(EventTooLargeError, match="11 bytes received"):
        SSEDecoder(10).feed(b": 234567890" + end)


def test_the_byte_order_mark_does_not_count() -> None:
    stream = BOM + b"data: x\n\n"
    for reads in ([stream], bytewise(stream)):
        assert feed_all(SSEDecoder(8), reads) == [E(data="x")]
    assert feed_all(SSEDecoder(1), bytewise(BOM)) == []


def test_a_read_larger_than_the_limit_is_no_matter() -> None:
    assert SSEDecoder(10).feed(b"data: x\n\n" * 100) == [E(data="x")] * 100


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit: int) -> None:
    with pytest.raises(ConfigurationError, match="max_event_bytes"):
        SSEDecoder(max_event_bytes=limit)


# -- linear work ------------------------------------------------------------------------------------------------------
# No clock here: to look again at what is buffered would touch half a terabyte, and these tests would not end.


def test_a_line_of_eight_mebibytes_in_reads_of_64_bytes() -> None:
    payload = "0123456789abcdef" * (512 * 1024 - 1)
    assert decode(*in_reads_of(64, f"data: {payload}\n\n".encode())) == [E(data=payload)]


def test_a_line_of_one_mebibyte_in_reads_of_one_byte() -> None:
    payload = "x" * 1024 * 1024
    assert decode(*in_reads_of(1, f"data: {payload}\n\n".encode())) == [E(data=payload)]


def test_an_event_of_a_million_lines_in_reads_of_64_bytes() -> None:
    assert decode(*in_reads_of(64, b"data: x\n" * 1_000_000 + b"\n")) == [E(data="\n".join("x" * 1_000_000))]


# -- the event --------------------------------------------------------------------------------------------------------


def test_an_event_has_defaults() -> None:
    event = ServerSentEvent(data="x")
    assert (event.event, event.data, event.id, event.retry) == ("message", "x", "", None)


@pytest.mark.parametrize("other", [E("e", "x"), E(data="y"), E(data="x", id="1"), E(data="x", retry=0)])
def test_events_differ_in_every_field(other: ServerSentEvent) -> None:
    assert E(data="x") != other


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (E(data="x"), "ServerSentEvent(data='x')"),
        (E("e", "x", "1", 5), "ServerSentEvent(event='e', data='x', id='1', retry=5)"),
    ],
)
def test_the_repr_of_an_event_is_its_construction(event: ServerSentEvent, text: str) -> None:
    assert repr(event) == text
    assert eval(text) == event


def test_an_event_takes_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        E(data="x").other = 1  # type: ignore[attr-defined]


def test_the_repr_of_a_decoder_tells_what_is_pending() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n\ndata: secret")
    assert repr(decoder) == "<SSEDecoder pending_bytes=12 last_event_id='1'>"
