"""Faults before and in the head of an answer, and in its framing."""

from __future__ import annotations

from tests.raw_server import END, STREAM_HEAD, chunk

from ..acts import (
    CHUNKED_JSON_HEAD,
    PARTS,
    START,
    STREAM,
    answers,
    as_asked,
    begin,
    breaks,
    close,
    completion,
    for_ever,
    hang,
    head,
    in_pieces,
    open_up,
    pause,
    reset,
    whole,
)
from ..scenario import BACKED_OFF, Scenario, answered, failed
from ..server import Act

NAME = "Before the answer, and its framing"

BODY = completion()
JSON = "content-type: application/json"
_MANY_HEADERS = [f"x-header-{number}: {number}" for number in range(200)]


def _with_headers(*headers: str) -> Act:
    """The answer, with further headers."""
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return as_asked(STREAM.replace(b"OK\r\n", b"OK\r\n" + lines, 1), whole(BODY, *headers))


_LOST = failed("DisconnectedError", "no_answer", "after", *BACKED_OFF)
_NOT_HTTP = failed("ProtocolError", "no_answer", "never")
_SILENT = failed("FirstEventTimeoutError", "no_answer", "after", *BACKED_OFF)
_CUT = failed("StreamTruncatedError", "after_output", "after", text=START)

SCENARIOS = [
    Scenario(
        "silent",
        "reads the request and says nothing",
        [breaks(hang)],
        both=_SILENT,
        clocks={"first_event": 0.15, "answer": 0.15},
    ),
    Scenario(
        "silent-once",
        "says nothing, then answers",
        [breaks(hang), answers()],
        both=answered(*BACKED_OFF[:1]),
        clocks={"first_event": 0.3, "answer": 0.3},
    ),
    Scenario(
        "closed-before-head",
        "closes without a word",
        [breaks(close)],
        both=_LOST,
    ),
    Scenario(
        "reset-before-head",
        "resets without a word, then answers",
        [breaks(reset), answers()],
        both=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "partial-head",
        "closes in the middle of the head",
        [breaks(b"HTTP/1.1 200 OK\r\ncontent-ty", close)],
        both=_LOST,
    ),
    Scenario(
        "half-head-for-ever",
        "stops in the middle of the head",
        [breaks(b"HTTP/1.1 200 OK\r\ncontent-ty", hang)],
        both=_SILENT,
        clocks={"first_event": 0.15, "answer": 0.15},
    ),
    Scenario(
        "bytewise-head",
        "sends the head byte by byte",
        [answers(in_pieces(head(200, JSON, length=len(BODY))), BODY)],
        unary=answered(),
    ),
    Scenario("garbage", "sends bytes that are no HTTP", [breaks(b"\x00\x01 what is this\r\n\r\n")], both=_NOT_HTTP),
    Scenario(
        "http-0.9",
        "sends a body without a head",
        [breaks(BODY, close)],
        both=_NOT_HTTP,
        c_parser=True,
    ),
    Scenario(
        "http-1.0",
        "answers in HTTP/1.0 and closes",
        [
            answers(
                as_asked(
                    b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
                    + b"".join(part.split(b"\r\n", 1)[1][:-2] for part in (*PARTS, chunk(b"data: [DONE]\n\n"))),
                    b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY,
                ),
                close,
                keeps=False,
            )
        ],
        both=answered(),
    ),
    Scenario(
        "early-hints",
        "sends 100 and 103 before the answer",
        [answers(b"HTTP/1.1 100 Continue\r\n\r\n", head(103, "link: </a>"), as_asked(STREAM, whole(BODY)))],
        both=answered(),
    ),
    Scenario(
        "interim-for-ever",
        "sends 103 for ever",
        [breaks(for_ever(head(103)))],
        both=_SILENT,
        clocks={"first_event": 0.15, "answer": 0.15},
        endless=True,
    ),
    Scenario(
        "large-header",
        "sends a header of 16 kB",
        [answers(_with_headers("x-policy: " + "a" * 16_000))],
        both=answered(),
    ),
    Scenario(
        "huge-header",
        "sends a header of 100 kB",
        [breaks(_with_headers("x-policy: " + "a" * 100_000))],
        both=_NOT_HTTP,
    ),
    Scenario("many-headers", "sends 200 headers", [breaks(_with_headers(*_MANY_HEADERS))], both=_NOT_HTTP),
    Scenario(
        "header-injection",
        "sends a header with a bare CR in it",
        [breaks(_with_headers("x-policy: a\rb"))],
        both=_NOT_HTTP,
    ),
    Scenario(
        "two-lengths",
        "sends two content-lengths that differ",
        [breaks(head(200, JSON, f"content-length: {len(BODY) - 9}", length=len(BODY)) + BODY)],
        both=_NOT_HTTP,
        c_parser=True,
    ),
    Scenario(
        "length-and-chunks",
        "sends a content-length and transfer-encoding chunked",
        [
            breaks(
                as_asked(
                    STREAM.replace(b"OK\r\n", b"OK\r\ncontent-length: 3\r\n", 1),
                    head(200, JSON, "transfer-encoding: chunked", length=3) + chunk(BODY) + END,
                )
            )
        ],
        both=_NOT_HTTP,
    ),
    Scenario(
        "negative-length",
        "sends a content-length of -5",
        [breaks(head(200, JSON, "content-length: -5") + BODY)],
        both=_NOT_HTTP,
    ),
    Scenario(
        "length-too-long",
        "promises more bytes than it sends, and closes",
        [breaks(head(200, JSON, length=len(BODY) + 50) + BODY, close)],
        unary=failed("DisconnectedError", "before_output", "after", *BACKED_OFF),
    ),
    Scenario(
        "bad-chunk-size",
        "sends a chunk size that is no number",
        [breaks(as_asked(STREAM_HEAD + PARTS[0], CHUNKED_JSON_HEAD + chunk(BODY)), pause, b"zz\r\nabc\r\n")],
        stream=_CUT,
        unary=failed("DisconnectedError", "before_output", "after", *BACKED_OFF),
        clocks={"idle": 0.15, "first_event": 0.15, "answer": 0.15},
        c_parser=True,
    ),
    Scenario(
        "negative-chunk-size",
        "sends a chunk size of -1",
        [breaks(STREAM_HEAD, PARTS[0], pause, b"-1\r\nabc\r\n")],
        stream=_CUT,
        clocks={"idle": 0.15, "first_event": 0.15},
        c_parser=True,
    ),
    Scenario(
        "huge-chunk-size",
        "announces a chunk of 2^72 bytes",
        [breaks(STREAM_HEAD, PARTS[0], pause, b"1000000000000000000\r\nabc\r\n", hang)],
        stream=_CUT,
        clocks={"idle": 0.15, "first_event": 0.15},
        c_parser=True,
    ),
    Scenario(
        "last-chunk-without-end",
        "leaves out the last CRLF of the body, and waits",
        [breaks(as_asked(STREAM[:-2], CHUNKED_JSON_HEAD + chunk(BODY) + END[:-2]), hang)],
        stream=answered(),
        unary=failed("IdleTimeoutError", "before_output", "after", *BACKED_OFF),
        clocks={"idle": 0.15, "first_event": 0.15, "answer": 0.15},
    ),
    Scenario(
        "head-only",
        "sends the head of a success, then nothing",
        [breaks(open_up, hang), answers()],
        both=answered(*BACKED_OFF[:1]),
        clocks={"first_event": 0.3, "idle": 0.3, "answer": 0.3},
    ),
    Scenario(
        "head-and-cut",
        "sends the head of a success and closes, then answers",
        [breaks(open_up, close), answers()],
        both=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "unary-cut",
        "closes in the middle of a whole answer, then answers",
        [breaks(begin, close), answers()],
        unary=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "unary-stall",
        "stops in the middle of a whole answer, then answers",
        [breaks(begin, hang), answers()],
        unary=answered(*BACKED_OFF[:1]),
        clocks={"idle": 0.3, "first_event": 0.3, "answer": 0.3},
    ),
]
