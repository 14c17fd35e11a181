"""Connections between calls, keys, deadlines and cancelled calls."""

from __future__ import annotations

from tests.raw_server import DONE, STREAM_HEAD, event

from ..acts import (
    FOREIGN,
    PARTS,
    START,
    STREAM,
    answer,
    answers,
    as_asked,
    begin,
    breaks,
    cancel,
    close,
    complaint,
    completion,
    error_event,
    hang,
    head,
    idled,
    open_up,
    refuses,
    reset,
    spoils,
    stream,
    when_idle,
    whole,
)
from ..scenario import AT_ONCE, BACKED_OFF, THROTTLED, Scenario, answered, cancelled, failed, told

CONNECTIONS = "Connections between calls"
KEYS = "Running twice"
BREAK = "What `on_break` does"
TIME = "Deadlines and cancelling"

_STRAY = whole(completion(FOREIGN))
_CLOSING = as_asked(
    STREAM.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n", 1), whole(completion(), "connection: close")
)

KEPT = [
    Scenario("reuse", "answers two calls", [answers(answer, idled)], both=answered(), calls=2),
    Scenario(
        "body-never-ends",
        "[DONE], and the body does not end",
        [answers(STREAM_HEAD, *PARTS, DONE, hang, keeps=False)],
        stream=answered(),
        clocks={"idle": 0.3},
    ),
    Scenario(
        "stray-bytes",
        "an answer, and at once a second one that nobody asked for",
        [answers(as_asked(STREAM + _STRAY, whole(completion()) + _STRAY), idled), answers()],
        both=answered(),
        calls=2,
    ),
    Scenario(
        "stray-bytes-idle",
        "bytes on an idle connection",
        [answers(answer, when_idle, _STRAY, idled), answers()],
        both=answered(),
        calls=2,
    ),
    Scenario(
        "closed-when-idle",
        "closes the idle connection",
        [answers(answer, when_idle, close, idled, keeps=False), answers()],
        both=answered(),
        calls=2,
    ),
    Scenario(
        "reset-when-idle",
        "resets the idle connection",
        [answers(answer, when_idle, reset, idled, keeps=False), answers()],
        both=answered(),
        calls=2,
    ),
    Scenario(
        "stale",
        "closes a kept connection when the next request comes",
        [answers(answer, idled), breaks(close), answers()],
        both=answered(*AT_ONCE),
        calls=2,
    ),
    Scenario(
        "stale-reset",
        "resets a kept connection when the next request comes",
        [answers(answer, idled), breaks(reset), answers()],
        both=answered(*AT_ONCE),
        calls=2,
    ),
    Scenario(
        "closes-each-time",
        "closes after each answer, and says so",
        [answers(_CLOSING, close, idled, keeps=False)],
        both=answered(),
        calls=2,
    ),
    Scenario(
        "closes-unsaid",
        "closes after each answer, and does not say so",
        [answers(answer, close, idled, keeps=False)],
        both=answered(),
        calls=2,
    ),
]

_LOST = breaks(close)
_IN_PROGRESS = refuses(409, body=complaint("still running", code="idempotency_in_progress"))

TWICE = [
    Scenario(
        "lost-then-replay",
        "runs it, loses the answer, then answers",
        [_LOST, answers()],
        both=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "in-progress",
        "loses the answer; 409 idempotency_in_progress; answers",
        [_LOST, _IN_PROGRESS, answers()],
        both=answered(*BACKED_OFF[:1], *THROTTLED[1:]),
    ),
    Scenario(
        "key-reuse",
        "422 idempotency_key_reuse",
        [refuses(422, body=complaint("another body", code="idempotency_key_reuse"))],
        both=failed("IdempotencyKeyReuseError", "rejected", "never"),
    ),
    Scenario(
        "replayed-failure",
        "500 each time, kept with the key",
        [refuses(500)],
        both=failed("ServerError", "rejected", "after", *BACKED_OFF),
    ),
    Scenario(
        "lost-without-key",
        "loses the answer; no `Idempotency` in the stack",
        [_LOST, answers()],
        both=failed("DisconnectedError", "no_answer", "after"),
        keyed=False,
        own=True,
    ),
    Scenario(
        "refused-without-key",
        "429; no `Idempotency` in the stack",
        [refuses(429), answers()],
        both=answered(*THROTTLED[:1]),
        keyed=False,
        own=True,
    ),
    Scenario(
        "empty-without-key",
        "an empty success; no `Idempotency` in the stack",
        [answers(head(200, length=0)), answers()],
        both=failed("EmptyResponseError", "before_output", "after"),
        keyed=False,
        own=True,
    ),
    Scenario(
        "never-again",
        'loses the answer; `Retry(ambiguous="never")`',
        [_LOST, answers()],
        both=failed("DisconnectedError", "no_answer", "after"),
        retry={"ambiguous": "never"},
        own=True,
    ),
    Scenario(
        "never-but-refused",
        '503; `Retry(ambiguous="never")`',
        [refuses(503), answers()],
        both=answered(*THROTTLED[:1]),
        retry={"ambiguous": "never"},
        own=True,
    ),
    Scenario(
        "always-again",
        'loses the answer; `Retry(ambiguous="always")`, no key',
        [_LOST, answers()],
        both=answered(*BACKED_OFF[:1]),
        retry={"ambiguous": "always"},
        keyed=False,
        runs=2,
        own=True,
    ),
    Scenario(
        "keys-ignored",
        "loses the answer, then answers; ignores keys",
        [_LOST, answers()],
        both=answered(*BACKED_OFF[:1]),
        honours_keys=False,
        runs=2,
        own=True,
    ),
    Scenario(
        "budget-empty",
        "500; the retry budget is empty",
        [refuses(500), answers()],
        both=failed("ServerError", "rejected", "after"),
        retry={"budget": 0},
        own=True,
    ),
    Scenario(
        "budget-for-one",
        "500 each time; the retry budget has 20 tokens",
        [refuses(500)],
        both=failed("ServerError", "rejected", "after", *BACKED_OFF[:1]),
        retry={"budget": 20},
        own=True,
    ),
    Scenario(
        "budget-free",
        "503 with Retry-After: 2; the retry budget is empty",
        [refuses(503, "retry-after: 2"), answers()],
        both=answered(*told(2)),
        retry={"budget": 0},
        own=True,
    ),
    Scenario(
        "retries-behind",
        "500; has tried three times itself (`x-litellm-attempted-retries: 2`)",
        [refuses(500, "x-litellm-attempted-retries: 2"), answers()],
        both=failed("ServerError", "rejected", "after"),
        own=True,
    ),
    Scenario(
        "one-attempt",
        "loses the answer; `Retry(max_attempts=1)`",
        [_LOST, answers()],
        both=failed("DisconnectedError", "no_answer", "after"),
        retry={"max_attempts": 1},
        own=True,
    ),
]

BREAKS = [
    Scenario(
        "keep-partial",
        'closes after the first text; `on_break="keep_partial"`',
        [breaks(begin, close)],
        stream=answered(text=START, verdict="truncated"),
        options={"on_break": "keep_partial"},
        own=True,
    ),
    Scenario(
        "keep-partial-error",
        'an error event after the first text; `on_break="keep_partial"`',
        [breaks(STREAM_HEAD, PARTS[0], error_event("gone", type="server_error"))],
        stream=answered(text=START, verdict="errored"),
        options={"on_break": "keep_partial"},
        own=True,
    ),
    Scenario(
        "restart",
        'closes after the first text, then answers; `on_break="restart"`',
        [breaks(begin, close), answers()],
        stream=answered(*BACKED_OFF[:1]),
        options={"on_break": "restart"},
        own=True,
    ),
    Scenario(
        "restart-in-vain",
        'closes after the first text each time; `on_break="restart"`',
        [breaks(begin, close)],
        stream=failed("StreamTruncatedError", "after_output", "after", *BACKED_OFF, text=START),
        options={"on_break": "restart"},
        own=True,
    ),
    Scenario(
        "restart-garbage",
        'an event that is not JSON; `on_break="restart"`',
        [answers(stream(PARTS[0], event(b"what?"), DONE)), answers()],
        stream=failed("MalformedResponseError", "after_output", "never", text=START),
        options={"on_break": "restart"},
        own=True,
    ),
]

TIMES = [
    Scenario(
        "deadline-over-attempts",
        "429 with Retry-After: 3 each time; deadline 5 s",
        [refuses(429, "retry-after: 3")],
        both=failed("RateLimitError", "rejected", "after", *told(3)),
        clocks={"deadline": 5.0},
        own=True,
    ),
    Scenario(
        "deadline-before-wait",
        "429 with Retry-After: 30; deadline 20 s",
        [refuses(429, "retry-after: 30"), answers()],
        both=failed("RateLimitError", "rejected", "after"),
        clocks={"deadline": 20.0},
        own=True,
    ),
    Scenario(
        "deadline-silent",
        "says nothing; deadline 0.2 s",
        [breaks(hang)],
        both=failed("DeadlineExceededError", "no_answer", "never"),
        clocks={"deadline": 0.2},
        own=True,
    ),
    Scenario(
        "deadline-in-stream",
        "falls silent after the first text; deadline 0.3 s",
        [breaks(begin, hang)],
        stream=failed("DeadlineExceededError", "after_output", "never", text=START),
        clocks={"deadline": 0.3},
        own=True,
    ),
    Scenario("cancelled-before-head", "is cancelled while it is silent", [breaks(cancel, hang)], both=cancelled()),
    Scenario(
        "cancelled-before-event",
        "is cancelled after the head",
        [breaks(open_up, cancel, hang)],
        both=cancelled(),
    ),
    Scenario(
        "cancelled-in-error",
        "is cancelled in the middle of an error body",
        [spoils(head(500, length=100), b"half", cancel, hang)],
        both=cancelled(),
    ),
    Scenario(
        "cancelled-second",
        "is cancelled in its second attempt",
        [refuses(503), breaks(cancel, hang)],
        both=cancelled(*THROTTLED[:1]),
    ),
    Scenario(
        "cancelled-in-wait",
        "is cancelled while it waits to try again",
        [refuses(503), answers()],
        both=cancelled(),
        cancels_in_wait=True,
        own=True,
    ),
]
