"""What goes wrong on the way while the model answers.

Events are counted as they stand on the wire: a frame that carries only the role is one, `[DONE]` is
one, and so is each write of a stream of plain text. Comments do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from .answers import OWN_ANSWER, Answer, Encoding, check_can_be_sent, check_not_negative

_NO_TEXT = Answer(pieces=("",))


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
        check_not_negative(after_events=self.after_events, after_bytes=self.after_bytes)


@dataclass(frozen=True, slots=True)
class Truncate:
    """The body ends cleanly, with neither finish reason nor `[DONE]`.

    `after_events=None` sends every delta. `done` sends `[DONE]` all the same; with `after_events=1` that
    is a role and nothing else. An answer that is not streamed is JSON that stops at its middle, with a
    content length that agrees.
    """

    kind: ClassVar[str] = "truncate"

    _: KW_ONLY
    after_events: int | None = None
    done: bool = False
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)


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
        check_not_negative(after_events=self.after_events, for_s=self.for_s)
        if self.ping_every_s is not None and self.ping_every_s <= 0:
            raise ValueError(f"ping_every_s is the time between two pings, and cannot be {self.ping_every_s}")
        if self.ping_every_s is not None and self.of.encoding is not None:
            raise ValueError("pings are sent as they are, and the answer is compressed: leave out one of the two")


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An error inside a 200: the stream ends with an error frame.

    `error` is the value of the frame's `error` member, of the frame itself (Modelgov), or the text
    after the mark (OmniGate's plain text); `None` is the dialect's own server error. `event_name` adds
    an `event:` line. `done` sends `[DONE]` after the error all the same; `None` does as the gateway
    does. An answer that is not streamed is a 200 with the error as its body. The idempotency key is
    set free.
    """

    kind: ClassVar[str] = "error_event"

    _: KW_ONLY
    after_events: int = 2
    error: Mapping[str, Any] | str | None = None
    event_name: str | None = None
    done: bool | None = None
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)
        check_can_be_sent(error=self.error)


@dataclass(frozen=True, slots=True)
class GarbageFrame:
    """A frame that is not JSON, after which the stream goes on; or a whole body of it."""

    kind: ClassVar[str] = "garbage_frame"

    _: KW_ONLY
    after_events: int = 2
    data: str = "not json"
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)


@dataclass(frozen=True, slots=True)
class Endless:
    """A stream whose last delta comes again every `every_s` seconds, until the client goes.

    `of` decides what it is: by default an empty piece of text. An answer that is not streamed, and a
    dialect that has no event for an empty piece (OmniGate's plain text), falls silent instead.
    """

    kind: ClassVar[str] = "endless"

    every_s: float = 0.02
    _: KW_ONLY
    of: Answer = _NO_TEXT

    def __post_init__(self) -> None:
        if self.every_s <= 0:
            raise ValueError(f"every_s is the time between two deltas, and cannot be {self.every_s}")
        if self.of.encoding is not None:
            raise ValueError("a delta that comes again is sent as it is, and cannot be compressed")


@dataclass(frozen=True, slots=True)
class HugeEvent:
    """An answer whose text is one piece of so many bytes: one event that may be more than a client takes."""

    kind: ClassVar[str] = "huge_event"

    size: int = 16 << 20
    _: KW_ONLY
    encoding: Encoding | None = None

    def __post_init__(self) -> None:
        check_not_negative(size=self.size)

    @property
    def of(self) -> Answer:
        """The answer itself."""
        return Answer(pieces=("x" * self.size,), encoding=self.encoding)
