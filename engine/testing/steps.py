"""What the gateway does with one request, as values.

A step is data: it says what to do and knows nothing of sockets or dialects (`faults` and the
dialects do), so a script can be printed, compared, and read from a file by its `kind`.

Steps come in three groups:

    Answer                                                the model answers
    Cut Truncate NoDone Stall ErrorEvent GarbageFrame     it answers, and something goes wrong on the way
    Fail Reset HangUp Html Empty InvalidJson              there is no answer at all

The second group takes the answer it spoils as `of`; without it, the pretend model's own. The third
has `executed`: `False` means the model never ran; `True` means that it ran, and only its answer was
lost on the way back, so that the request's idempotency key is used up and replays that answer.

Events are counted as they stand on the wire: the frame that carries only the role is the first,
`[DONE]` the last, comments do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, get_args

import orjson

from .http_date import HttpDate

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
"""Response headers; pairs instead of a mapping where a name has to come twice."""

Chunking = Literal["event", "whole"] | int
"""How a body is cut into writes: one per event, one for all that is due, or so many bytes each."""


def _check_not_negative(**numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 0:
            raise ValueError(f"{name} cannot be negative, and is {number}")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool.

    `arguments` is sent as JSON text, as it is on the wire; a string is taken as that text, be it
    valid or not. `id` is made up when `None`.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    _: KW_ONLY
    id: str | None = None

    @property
    def arguments_text(self) -> str:
        if isinstance(self.arguments, str):
            return self.arguments
        return orjson.dumps(dict(self.arguments)).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answers: as JSON or as a stream, as the request asks.

    With no `content`, `pieces`, `reasoning`, `tool_calls` or `refusal` the pretend model answers by
    itself; as soon as one of them is given, they are the whole answer.

    Args:
        content: The text; `None` is sent as null.
        reasoning: Sent before the text, in the member `reasoning_field`.
        tool_calls: Streamed in fragments of their argument text. `tool_index=False` leaves out the
            `index` that tells the calls of one message apart.
        refusal: The text of a refusal.
        finish_reason: `"auto"` follows from the answer; `None` is sent as null to the end.
        usage: `"counted"` counts words; a mapping is sent as it is; `None` leaves usage out.
        usage_on: Where a stream carries usage. `"own_frame"` is a frame with empty `choices`, sent
            only when the request asks for usage; the other two do not ask.
        pieces: How a stream cuts the text; `None` cuts it in words.
        ttft_s: Seconds between the response head and the first event.
        delay_s: Seconds between two deltas, by the clock: a late delta does not delay the next. An
            answer that is not streamed takes as long as the stream would.
        slow_terminator_s: Seconds between the last event and the end of the body.
        chunking: How the body is cut into writes.
        comments: Comment lines before the first event.
        azure_first_frame: Begin with Azure's frame of filter results, which has no choices.
        line_end: Ends every line of the event stream.
        headers: Added to the response head, or put in place of the gateway's own.
    """

    kind: ClassVar[str] = "answer"

    content: str | None = None
    _: KW_ONLY
    reasoning: str | None = None
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    tool_calls: Sequence[ToolCall] = ()
    tool_index: bool = True
    refusal: str | None = None
    finish_reason: str | None = "auto"
    usage: Mapping[str, Any] | Literal["counted"] | None = "counted"
    usage_on: Literal["own_frame", "finish_frame", "every_frame"] = "own_frame"
    pieces: Sequence[str] | None = None
    ttft_s: float = 0.0
    delay_s: float = 0.0
    slow_terminator_s: float = 0.0
    chunking: Chunking = "event"
    comments: Sequence[str] = ()
    azure_first_frame: bool = False
    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    headers: Headers = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_not_negative(ttft_s=self.ttft_s, delay_s=self.delay_s, slow_terminator_s=self.slow_terminator_s)
        if self.pieces is not None:
            joined = "".join(self.pieces)
            if self.content is not None and self.content != joined:
                raise ValueError(f"pieces make up {joined!r}, which is not the content {self.content!r}")
            object.__setattr__(self, "content", joined)
        if isinstance(self.chunking, int) and self.chunking < 1:
            raise ValueError(f"chunking is at least 1 byte a write, not {self.chunking}")

    @property
    def is_open(self) -> bool:
        """Whether what to say is left to the pretend model."""
        return self.content is None and self.reasoning is None and not self.tool_calls and self.refusal is None


OWN_ANSWER = Answer()
"""What the pretend model says by itself."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends inside the body, before its last chunk.

    Exactly one of `after_events` and `after_bytes` says where; bytes count the body alone. An
    answer that is not streamed ends after `after_bytes`, else at its middle. `by="close"` is what a
    killed server or a proxy does: all that was sent arrives. `by="reset"` sends an RST after it, which
    may take along what the client has not read yet.
    """

    kind: ClassVar[str] = "cut"

    _: KW_ONLY
    after_events: int | None = None
    after_bytes: int | None = None
    by: Literal["close", "reset"] = "close"
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        if (self.after_events is None) == (self.after_bytes is None):
            raise ValueError("cut() takes one of after_events and after_bytes")
        _check_not_negative(after_events=self.after_events, after_bytes=self.after_bytes)


@dataclass(frozen=True, slots=True)
class Truncate:
    """The body ends cleanly, with neither finish reason nor `[DONE]`.

    `after_events=None` sends every delta. An answer that is not streamed is JSON that stops at its
    middle, with a content length that agrees.
    """

    kind: ClassVar[str] = "truncate"

    _: KW_ONLY
    after_events: int | None = None
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        _check_not_negative(after_events=self.after_events)


@dataclass(frozen=True, slots=True)
class NoDone:
    """A complete stream that ends cleanly after its finish reason, without `[DONE]`."""

    kind: ClassVar[str] = "no_done"

    _: KW_ONLY
    of: Answer = OWN_ANSWER


@dataclass(frozen=True, slots=True)
class Stall:
    """Silence, before the response head or in the body after so many events.

    After `for_s` seconds the answer goes on; `None` is for ever. `ping_every_s` sends a comment that
    often meanwhile (only in the body of a stream); `None` sends nothing.
    """

    kind: ClassVar[str] = "stall"

    _: KW_ONLY
    when: Literal["before_headers", "in_body"] = "in_body"
    after_events: int = 0
    for_s: float | None = None
    ping_every_s: float | None = None
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        _check_not_negative(after_events=self.after_events, for_s=self.for_s)
        if self.ping_every_s is not None and self.ping_every_s <= 0:
            raise ValueError(f"ping_every_s is the time between two pings, and cannot be {self.ping_every_s}")


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An error inside a 200: the stream ends with an error frame.

    `error` is the value of the frame's `error` member; `None` is the dialect's own server error.
    `event_name` adds an `event:` line; `done` sends `[DONE]` after the error all the same. An answer
    that is not streamed is a 200 with the error as its body. The idempotency key is set free.
    """

    kind: ClassVar[str] = "error_event"

    _: KW_ONLY
    after_events: int = 2
    error: Mapping[str, Any] | str | None = None
    event_name: str | None = None
    done: bool = False
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        _check_not_negative(after_events=self.after_events)


@dataclass(frozen=True, slots=True)
class GarbageFrame:
    """A frame that is not JSON, after which the stream goes on; or a whole body of it."""

    kind: ClassVar[str] = "garbage_frame"

    _: KW_ONLY
    after_events: int = 2
    data: str = "not json"
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        _check_not_negative(after_events=self.after_events)


@dataclass(frozen=True, slots=True)
class Fail:
    """An error status.

    Args:
        status: Any HTTP status.
        retry_after: Seconds, a text sent as it is, or an `http_date()` resolved when it is sent.
        retry_after_ms: Milliseconds, in the header `retry-after-ms`.
        should_retry: The header `x-should-retry`.
        body: `None` is the dialect's error envelope; a mapping is sent as JSON, a text as
            text/plain, bytes without a content type.
        code, type, message: Members of the dialect's envelope; `None` is usual for the status.
        times: So many requests in a row fail like this.
    """

    kind: ClassVar[str] = "fail"

    status: int
    _: KW_ONLY
    retry_after: int | float | str | HttpDate | None = None
    retry_after_ms: int | float | None = None
    should_retry: bool | None = None
    headers: Headers = field(default_factory=dict)
    body: Mapping[str, Any] | str | bytes | None = None
    code: str | int | None = None
    type: str | None = None
    message: str | None = None
    times: int = 1
    executed: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"fail() takes the status of a final response, 200 to 599, not {self.status}")
        if self.times < 1:
            raise ValueError(f"fail() happens at least once, not {self.times} times")


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST).

    `"before_request_read"`: as soon as the request's head is there, its body unread.
    `"before_headers"`: the request was read, no byte of an answer is sent.
    `"after_headers"`: the answer's head is sent and nothing more.
    """

    kind: ClassVar[str] = "reset"

    when: Literal["before_request_read", "before_headers", "after_headers"] = "before_headers"
    _: KW_ONLY
    executed: bool = False
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        if self.executed and self.when == "before_request_read":
            raise ValueError("the model cannot have run for a request that was not read")


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is closed (FIN) after the request was read, without any byte of an answer."""

    kind: ClassVar[str] = "hang_up"

    _: KW_ONLY
    executed: bool = False
    of: Answer = OWN_ANSWER


@dataclass(frozen=True, slots=True)
class Html:
    """A page of a proxy instead of an answer."""

    kind: ClassVar[str] = "html"

    _: KW_ONLY
    status: int = 200
    body: str = "<html><head><title>Please sign in</title></head><body><h1>Please sign in</h1></body></html>\n"
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """No body and no content type, with a content length of 0."""

    kind: ClassVar[str] = "empty"

    _: KW_ONLY
    status: int = 200
    executed: bool = False


@dataclass(frozen=True, slots=True)
class InvalidJson:
    """A 200 that says it is JSON and is not."""

    kind: ClassVar[str] = "invalid_json"

    _: KW_ONLY
    body: str = '{"id": "chatcmpl-1", "choices": ['
    executed: bool = False


Step = (
    Answer
    | Cut
    | Truncate
    | NoDone
    | Stall
    | ErrorEvent
    | GarbageFrame
    | Fail
    | Reset
    | HangUp
    | Html
    | Empty
    | InvalidJson
)

STEPS: tuple[type[Step], ...] = get_args(Step)
"""Every kind of step there is."""

# In a script a step reads as an instruction.
answer = Answer
cut = Cut
empty = Empty
error_event = ErrorEvent
fail = Fail
garbage_frame = GarbageFrame
hang_up = HangUp
html = Html
invalid_json = InvalidJson
no_done = NoDone
reset = Reset
stall = Stall
tool_call = ToolCall
truncate = Truncate
