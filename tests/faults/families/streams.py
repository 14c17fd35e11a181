"""Successes that are none, and faults in the middle of a stream."""

from __future__ import annotations

import gzip

import orjson

from tests.raw_server import DONE, STREAM_HEAD, chunk, event, text

from ..acts import (
    OWN,
    PARTS,
    START,
    STREAM,
    answers,
    as_asked,
    begin,
    breaks,
    close,
    complaint,
    completion,
    flood,
    for_ever,
    hang,
    head,
    in_pieces,
    raw_stream,
    reset,
    says,
    stream,
    whole,
)
from ..scenario import BACKED_OFF, THROTTLED, Came, Scenario, answered, failed

NO_ANSWER = "Successes that are none"
IN_STREAM = "In the stream"
ODD = "Odd, and an answer"

_DEEP = b"[" * 100_000 + b"]" * 100_000
_HTML = b"<html><head><title>Sign in</title></head></html>"
_MALFORMED = failed("MalformedResponseError", "before_output", "never")
_EMPTY = failed("EmptyResponseError", "before_output", "after", *BACKED_OFF)
_PROVIDER = complaint("the model is gone", type="server_error")
_OVERLOADED = complaint("too busy", type="overloaded_error")

SUCCESSES = [
    Scenario("html-200", "an HTML page", [answers(whole(_HTML, kind="text/html"))], both=_MALFORMED),
    Scenario(
        "html-as-stream",
        "an HTML page labelled as an event stream",
        [answers(whole(_HTML, kind="text/event-stream"))],
        stream=_MALFORMED,
    ),
    Scenario("empty-200", "nothing, with content-length: 0", [answers(head(200, length=0))], both=_EMPTY),
    Scenario(
        "empty-once",
        "nothing, then answers",
        [answers(head(200, length=0)), answers()],
        both=answered(*BACKED_OFF[:1]),
    ),
    Scenario("empty-stream", "an event stream without an event", [answers(stream())], stream=_EMPTY),
    Scenario(
        "only-comments", "comments, then the end", [answers(raw_stream(b": hello\n\n: hello\n\n"))], stream=_EMPTY
    ),
    Scenario("only-done", "[DONE] and nothing before", [answers(stream(DONE))], stream=_EMPTY),
    Scenario(
        "only-role",
        "a role, then [DONE]",
        [answers(stream(event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}), DONE))],
        stream=_EMPTY,
    ),
    Scenario(
        "json-for-stream",
        "a whole answer where a stream was wanted",
        [answers(whole(completion()))],
        stream=_MALFORMED,
    ),
    Scenario(
        "stream-for-json",
        "a stream where a whole answer was wanted",
        [answers(STREAM)],
        unary=_MALFORMED,
    ),
    Scenario(
        "wrong-type",
        "a stream labelled application/json",
        [answers(STREAM.replace(b"text/event-stream", b"application/json"))],
        stream=_MALFORMED,
    ),
    Scenario(
        "error-in-200",
        "200 with an error in JSON, each time",
        [says(whole(_PROVIDER))],
        both=failed("ServerError", "before_output", "after", *BACKED_OFF),
    ),
    Scenario(
        "refusal-in-200",
        "200 with an error in JSON that is final",
        [says(whole(complaint("no such parameter", type="invalid_request_error")))],
        both=failed("InvalidRequestError", "before_output", "never"),
    ),
    Scenario("broken-200", "half of a JSON object", [answers(whole(completion()[:50]))], unary=_MALFORMED),
    Scenario("list-200", "a JSON list", [answers(whole(b"[1, 2]"))], unary=_MALFORMED),
    Scenario(
        "no-choices", "an answer without choices", [answers(whole(b'{"id": "1", "choices": []}'))], unary=_MALFORMED
    ),
    Scenario("null-message", "an answer that says nothing", [answers(whole(completion(None)))], unary=_MALFORMED),
    Scenario(
        "wrong-members",
        "an answer whose content is a number",
        [answers(as_asked(stream(text(7)), whole(completion(7))))],  # type: ignore[arg-type]
        both=_MALFORMED,
    ),
    Scenario(
        "deep-200",
        "JSON 100,000 levels deep",
        [answers(as_asked(stream(event(_DEEP)), whole(_DEEP)))],
        both=_MALFORMED,
    ),
]


def _cut(*acts: object, came: Came | None = None) -> dict[str, object]:
    return {"plays": [breaks(*acts)], "stream": came or _TRUNCATED}  # type: ignore[arg-type]


_TRUNCATED = failed("StreamTruncatedError", "after_output", "after", text=START)
_BROKEN = failed("MalformedResponseError", "after_output", "never", text=START)
_FINISH = text("four", "stop")
_BEGUN = (STREAM_HEAD, PARTS[0])
_ROLE = event({"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
_EMPTY_DELTA = event({"id": "1", "choices": [{"index": 0, "delta": {"content": ""}}]})
_LINE = b"x" * 65536
_STALLS = {"idle": 0.2, "first_event": 0.2}

STREAMS = [
    Scenario(
        "cut-before-event",
        "resets before the first event, then answers",
        [breaks(STREAM_HEAD, reset), answers()],
        stream=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "cut-after-role",
        "closes after the role, then answers",
        [breaks(STREAM_HEAD, _ROLE, close), answers()],
        stream=answered(*BACKED_OFF[:1]),
    ),
    Scenario("cut-after-event", "closes after the first text", [breaks(begin, close)], stream=_TRUNCATED),
    Scenario("reset-after-event", "resets after the first text", [breaks(begin, reset)], stream=_TRUNCATED),
    Scenario(
        "cut-after-finish",
        "closes after the finish reason, without the last chunk",
        [breaks(STREAM_HEAD, *PARTS, close)],
        stream=failed("StreamTruncatedError", "after_output", "after", text=OWN),
    ),
    Scenario(
        "cut-after-done",
        "closes after [DONE], without the last chunk",
        [answers(STREAM_HEAD, *PARTS, DONE, close, keeps=False)],
        stream=answered(),
    ),
    Scenario("no-done", "ends after the finish reason, without [DONE]", [answers(stream(*PARTS))], stream=answered()),
    Scenario("clean-cut", "ends without finish reason and [DONE]", [answers(stream(*PARTS[:1]))], stream=_TRUNCATED),
    Scenario(
        "filtered",
        "ends with finish reason content_filter",
        [answers(stream(PARTS[0], text("", "content_filter"), DONE))],
        stream=answered(text=START, verdict="filtered"),
    ),
    Scenario(
        "error-first",
        "an error event at the start, then answers",
        [says(stream(event(_OVERLOADED), DONE)), answers()],
        stream=answered(*THROTTLED[:1]),
    ),
    Scenario(
        "error-then-done",
        "an error event after the first text, then [DONE]",
        [answers(stream(PARTS[0], event(_PROVIDER), DONE))],
        stream=failed("ServerError", "after_output", "after", text=START),
    ),
    Scenario(
        "error-then-cut",
        "an error event after the first text, then a reset",
        [breaks(*_BEGUN, event(_PROVIDER), reset)],
        stream=failed("ServerError", "after_output", "after", text=START),
    ),
    Scenario(
        "event-error",
        "event: error without an error member",
        [says(raw_stream(b'event: error\ndata: {"code": 1, "message": "gone"}\n\n'))],
        stream=failed("ProviderError", "before_output", "after", *BACKED_OFF),
    ),
    Scenario(
        "event-error-late",
        "the same after the first text",
        [answers(stream(PARTS[0], chunk(b'event: error\ndata: {"message": "gone"}\n\n')))],
        stream=failed("ProviderError", "after_output", "after", text=START),
    ),
    Scenario(
        "error-text-event",
        "an error that is a bare text, after the first text",
        [answers(stream(PARTS[0], event({"error": "gone"}), DONE))],
        stream=failed("ProviderError", "after_output", "after", text=START),
    ),
    Scenario(
        "object-error",
        "an event with object: error",
        [answers(stream(PARTS[0], event({"object": "error", "message": "gone", "code": 500}), DONE))],
        stream=failed("ServerError", "after_output", "after", text=START),
    ),
    Scenario(
        "garbage-event", "an event that is not JSON", [answers(stream(PARTS[0], event(b"what?"), DONE))], stream=_BROKEN
    ),
    Scenario(
        "garbage-first",
        "a first event that is not JSON",
        [answers(stream(event(b"what?"), DONE))],
        stream=_MALFORMED,
    ),
    Scenario(
        "half-json",
        "an event with half a JSON object",
        [answers(stream(PARTS[0], event(b'{"choices": [{"del'), DONE))],
        stream=_BROKEN,
    ),
    Scenario(
        "cut-in-event",
        "ends in the middle of an event",
        [answers(stream(PARTS[0], chunk(b'data: {"choices": [{"del')))],
        stream=_TRUNCATED,
    ),
    Scenario("list-event", "an event with a JSON list", [answers(stream(PARTS[0], event([1]), DONE))], stream=_BROKEN),
    Scenario(
        "nan-event",
        "an event with NaN in it",
        [answers(stream(PARTS[0], event(b'{"choices": [], "logprob": NaN}'), DONE))],
        stream=_BROKEN,
    ),
    Scenario(
        "lone-surrogate",
        "an event with half of a surrogate pair",
        [answers(stream(PARTS[0], event(b'{"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}'), DONE))],
        stream=_BROKEN,
    ),
    Scenario(
        "endless-line",
        "a line of 12 MB without an end",
        [breaks(*_BEGUN, chunk(b"data: "), flood(chunk(_LINE), 184), close)],
        stream=failed("EventTooLargeError", "after_output", "never", text=START),
    ),
    Scenario(
        "endless-event",
        "an event of 12 MB in short lines",
        [breaks(*_BEGUN, flood(chunk(b"data: x\n" * 8192), 184), close)],
        stream=failed("EventTooLargeError", "after_output", "never", text=START),
    ),
    Scenario(
        "gzip-bomb-stream",
        "a gzip bomb of 50 MB as the stream",
        [
            answers(
                whole(gzip.compress(b"data: " + b"x" * 50_000_000), "content-encoding: gzip", kind="text/event-stream")
            )
        ],
        stream=failed("EventTooLargeError", "before_output", "never"),
    ),
    Scenario(
        "gzip-bomb-answer",
        "a gzip bomb of 100 MB as the whole answer",
        [answers(whole(gzip.compress(b'{"choices": "' + b"x" * 100_000_000), "content-encoding: gzip"))],
        unary=failed("ResponseTooLargeError", "before_output", "never"),
    ),
    Scenario(
        "large-answer",
        "a whole answer of 100 MB",
        [breaks(head(200, "content-type: application/json", length=1526 * len(_LINE)), flood(_LINE, 1526))],
        unary=failed("ResponseTooLargeError", "before_output", "never"),
        sent=90_000_000,
    ),
    Scenario(
        "stall",
        "falls silent after the first text",
        [breaks(begin, hang)],
        stream=failed("IdleTimeoutError", "after_output", "after", text=START),
        clocks=_STALLS,
    ),
    Scenario(
        "stall-before-event",
        "sends the head, a role, and falls silent; then answers",
        [breaks(STREAM_HEAD, _ROLE, hang), answers()],
        stream=answered(*BACKED_OFF[:1]),
        clocks={"first_event": 0.3},
    ),
    *(
        Scenario(
            f"{name}-for-ever",
            f"{what} for ever, after the first text",
            [breaks(*_BEGUN, for_ever(data))],
            stream=failed("ProgressTimeoutError", "after_output", "after", text=START),
            clocks={"progress": 0.2},
            endless=True,
        )
        for name, what, data in (
            ("comments", "comments", chunk(b": ping\n\n")),
            ("pings", "events without data", chunk(b"event: ping\ndata:\n\n")),
            ("empty-deltas", "deltas without text", _EMPTY_DELTA),
            ("usage", "token counts", event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})),
            ("half-line", "bytes of one line", chunk(b"x")),
        )
    ),
    Scenario(
        "roles-for-ever",
        "roles and no text for ever",
        [breaks(STREAM_HEAD, for_ever(_ROLE))],
        stream=failed("ProgressTimeoutError", "before_output", "after", *BACKED_OFF),
        clocks={"progress": 0.15},
        endless=True,
    ),
    Scenario(
        "comments-first",
        "comments for ever, and nothing else",
        [breaks(STREAM_HEAD, for_ever(chunk(b": ping\n\n")))],
        stream=failed("DeadlineExceededError", "before_output", "never"),
        clocks={"deadline": 0.3},
        endless=True,
    ),
    Scenario(
        "slow-unary",
        "a whole answer that drips",
        [breaks(head(200, "content-type: application/json", length=10_000), for_ever(b" "))],
        unary=failed("DeadlineExceededError", "before_output", "never"),
        clocks={"deadline": 0.3},
        endless=True,
    ),
]

_UNICODE = "zwölf \u2028 \x85 \U0001f33f"
_UNICODE_STREAM = stream(
    event(orjson.dumps({"choices": [{"index": 0, "delta": {"content": _UNICODE}, "finish_reason": "stop"}]})), DONE
)
_PLAIN = b"".join(b"data: %b\n\n" % part.partition(b"data: ")[2].partition(b"\n\n")[0] for part in (*PARTS, DONE))


def _usage(count: object) -> bytes:
    return (
        b'{"choices": [], "usage": {"prompt_tokens": %b, "completion_tokens": 1, "total_tokens": 1}}'
        % str(count).encode()
    )


ODDITIES = [
    Scenario("bytewise", "byte by byte", [answers(in_pieces(STREAM))], stream=answered()),
    Scenario(
        "split-utf8",
        "characters cut in the middle",
        [answers(in_pieces(_UNICODE_STREAM, 3))],
        stream=answered(text=_UNICODE),
    ),
    Scenario(
        "crlf", "lines that end with CRLF", [answers(raw_stream(_PLAIN.replace(b"\n", b"\r\n")))], stream=answered()
    ),
    Scenario("cr", "lines that end with CR", [answers(raw_stream(_PLAIN.replace(b"\n", b"\r")))], stream=answered()),
    Scenario("bom", "a byte order mark first", [answers(raw_stream(b"\xef\xbb\xbf" + _PLAIN))], stream=answered()),
    Scenario(
        "no-space",
        "no space after data:",
        [answers(raw_stream(_PLAIN.replace(b"data: ", b"data:")))],
        stream=answered(),
    ),
    Scenario(
        "padded-done",
        "[DONE] with spaces around it",
        [answers(raw_stream(_PLAIN.replace(b"[DONE]", b"  [DONE] ")))],
        stream=answered(),
    ),
    Scenario("no-last-blank", "no blank line after [DONE]", [answers(raw_stream(_PLAIN[:-1]))], stream=answered()),
    Scenario(
        "invalid-utf8-text",
        "invalid UTF-8 in a text",
        [answers(stream(PARTS[0].replace(b"plus", b"pl\xffs"), *PARTS[1:], DONE))],
        stream=answered(text=OWN.replace("plus", "pl\ufffds")),
    ),
    Scenario(
        "extra-fields",
        "id, retry and unknown fields",
        [answers(raw_stream(b"retry: 5\nid: 7\nfoo: bar\n" + _PLAIN))],
        stream=answered(),
    ),
    Scenario(
        "gzip-stream",
        "a compressed stream",
        [answers(whole(gzip.compress(_PLAIN), "content-encoding: gzip", kind="text/event-stream"))],
        stream=answered(),
    ),
    Scenario(
        "no-type",
        "no content type",
        [answers(as_asked(head(200, length=len(_PLAIN)) + _PLAIN, head(200, length=len(completion())) + completion()))],
        both=answered(),
    ),
    Scenario(
        "large-event",
        "an event of 2 MB",
        [answers(stream(text("y" * 2_000_000, "stop"), DONE))],
        stream=answered(text="y" * 2_000_000),
    ),
    *(
        Scenario(
            f"usage-{name}",
            f"a token count of {name.replace('-', ' ')}",
            [answers(stream(*PARTS, event(_usage(count)), DONE))],
            stream=answered(),
            note="no usage",
        )
        for name, count in (("2-to-the-64", 2**64), ("minus-one", -1), ("one-point-five", 1.5), ("true", "true"))
    ),
]
