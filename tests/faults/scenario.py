"""A scenario: what a server does, and what has to come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.engine.errors import Advice, Phase

from .acts import OWN
from .server import Play

Mode = Literal["stream", "unary"]
Place = Literal["server", "nobody", "full", "unknown", "tls"]
"""Where the client connects to: the server; a port where nobody listens; one whose queue is full; a name that does not
exist; the server, with TLS that it does not speak.
"""
Span = tuple[float, float]
"""The least and the most seconds of a wait."""

BACKED_OFF: tuple[Span, ...] = ((0, 0.5), (0, 1))
"""The waits of three attempts that failed in a way that may pass."""
THROTTLED: tuple[Span, ...] = ((0, 1), (0, 2))
"""The same, after 429, 503 and 529."""
AT_ONCE: tuple[Span, ...] = ((0, 0),)


def told(*seconds: float) -> tuple[Span, ...]:
    """The waits after hints: at least what was told, and up to a tenth more."""
    return tuple((wait, wait * 1.1) for wait in seconds)


@dataclass(frozen=True)
class Came:
    """What comes of a call.

    Args:
        kind: ``"answer"``, ``"cancelled"``, or the class of the error.
        text: The answer, or what the error carries of it. `None` when it carries nothing.
        phase, advice: Of the error.
        waits: Between the attempts; there is one attempt more than waits.
        verdict: Of the stream. `None` when it has none.
    """

    kind: str
    text: str | None = None
    phase: Phase | None = None
    advice: Advice | None = None
    waits: tuple[Span, ...] = ()
    verdict: str | None = "errored"

    @property
    def attempts(self) -> int:
        return len(self.waits) + 1


def answered(*waits: Span, text: str = OWN, verdict: str = "complete") -> Came:
    return Came("answer", text, waits=waits, verdict=verdict)


def failed(kind: str, phase: Phase, advice: Advice, *waits: Span, text: str | None = None) -> Came:
    verdict = "truncated" if kind == "StreamTruncatedError" else "errored"
    return Came(kind, text, phase, advice, waits, verdict)


def cancelled(*waits: Span, text: str | None = None) -> Came:
    return Came("cancelled", text, waits=waits, verdict=None)


@dataclass(frozen=True)
class Scenario:
    """What a server does, and what has to come of it.

    Args:
        id: A short name.
        what: What the server does, for the table.
        plays: The same, request by request; the last one is played from then on.
        both: What comes of a streamed and of a unary call.
        stream: What comes of a streamed call alone.
        unary: What comes of a unary call alone.
        clocks: Fields of `Timeouts`, for those that are to run out.
        retry: Arguments of `Retry`; ``budget`` is the capacity of one.
        options: Further arguments of the engine.
        keyed: Whether the stack has `Idempotency` in it.
        honours_keys: Whether the gateway runs a request with a known key only once.
        calls: 1, or 2 that are made one after the other; the first has to be answered, the second counts.
        place: Where the client connects to.
        prompt: Bytes of the prompt.
        sent: The most bytes that the server gets rid of.
        runs: How often the gateway has carried the request out. `None` is as often as plays with one key make it.
        cancels_in_wait: Whether the caller cancels while the call waits for its next attempt.
        endless: Whether the server goes on for ever, so that a bound on silence does not end the call.
        c_parser: Whether it comes to this with aiohttp's C parser alone; the one in Python reads such bytes otherwise.
        own: Whether it is about an option of ours, so that there is nothing to compare with.
        note: A remark for the table.
    """

    id: str
    what: str
    plays: Sequence[Play] = ()
    both: Came | None = None
    stream: Came | None = None
    unary: Came | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    keyed: bool = True
    honours_keys: bool = True
    calls: int = 1
    place: Place = "server"
    prompt: int = 2
    sent: int | None = None
    runs: int | None = None
    cancels_in_wait: bool = False
    endless: bool = False
    c_parser: bool = False
    own: bool = False
    note: str = ""

    def came(self, mode: Mode) -> Came | None:
        """What comes of a call. `None` when it is not made."""
        return (self.stream if mode == "stream" else self.unary) or self.both

    @property
    def modes(self) -> tuple[Mode, ...]:
        modes: tuple[Mode, ...] = ("stream", "unary")
        return tuple(mode for mode in modes if self.came(mode) is not None)

    def played(self, attempts: int) -> tuple[Play, ...]:
        """The plays of the last call, when it makes so many attempts."""
        if not self.plays:
            return ()
        first = self.calls - 1
        return tuple(self.plays[min(first + number, len(self.plays) - 1)] for number in range(attempts))

    def runs_of(self, came: Came) -> int:
        """How often the gateway has carried the last call's request out."""
        if self.runs is not None:
            return self.runs
        return int(any(play.runs for play in self.played(came.attempts)))

    def is_perhaps_twice(self, came: Came) -> bool:
        """Whether what comes of it is to be marked: an earlier attempt may have run, for all that a client can know."""
        return any(play.runs or not play.reads_first for play in self.played(came.attempts)[:-1])
