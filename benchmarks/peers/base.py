"""What a library can be asked to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "tiny"
KEY = "sk-benchmark"
PATH = "/v1/chat/completions"
ANSWER = "Seven is a prime."
"""What the load server says to whatever is not streamed."""

Take = Callable[[Any], object]
"""Gets each piece of a stream, a text that is not empty. From what does not decode it gets bytes."""

Reader = Callable[[str, Take], Awaitable[object]]
"""Sends a prompt, and reads the stream that answers it to its end."""

Caller = Callable[[str], Awaitable[str]]
"""Sends a prompt, and returns the text of the answer."""


@dataclass(frozen=True)
class Parser:
    """The decoding of a stream without a socket.

    Args:
        decode: Makes a list of whatever the library gives for each event, out of the reads of a stream. This is what is
            measured.
        text: The text in such a list: content, reasoning and arguments of tools.
        corpora: Those it understands. `None` is all that have chat completion chunks.
        wants_payloads: Whether it gets the JSON of each event, in the place of reads.
    """

    decode: Callable[[list[bytes]], list[Any]]
    text: Callable[[list[Any]], str]
    corpora: tuple[str, ...] | None = None
    wants_payloads: bool = False


@dataclass(frozen=True)
class Work:
    """A batch.

    Args:
        rows: How many.
        concurrency: Requests in flight at most.
        folder: For whatever the library keeps. The same for `prepare` and `run`.
    """

    rows: int
    concurrency: int
    folder: Path

    def prompts(self) -> Iterator[str]:
        """One for each row, made as they are asked for."""
        return (f"Name prime number {number}." for number in range(self.rows))


@dataclass(frozen=True)
class Batcher:
    """A way to take many rows through.

    Args:
        run: Returns how many rows had the right answer.
        prepare: Called before, and not measured. `None` has nothing to prepare.
        is_resume: Whether what it does is to go on with what was done.
        is_alone: Whether all is done in this process, so that its CPU time says it all.
    """

    run: Callable[[Work], Awaitable[int]]
    prepare: Callable[[Work], Awaitable[object]] | None = None
    is_resume: bool = False
    is_alone: bool = True


@dataclass
class Peer:
    """A library, connected to the load server. Each member is by the name that stands in the results."""

    close: Callable[[], Awaitable[object]]
    readers: dict[str, Reader] = field(default_factory=dict)
    callers: dict[str, Caller] = field(default_factory=dict)
    parsers: dict[str, Parser] = field(default_factory=dict)
    batchers: dict[str, Batcher] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What a bench client is asked for.

    Args:
        prompt: Of every request: the order, see `order`.
        requests: How many.
        concurrency: At a time, of a closed loop. 0 for an open one.
        rate: Requests per second of an open loop, evenly. 0 for a closed one.
        is_calibrated: Whether the client may measure itself first, if it can.
    """

    prompt: str
    requests: int
    concurrency: int = 0
    rate: float = 0.0
    is_calibrated: bool = False


@dataclass(frozen=True)
class Timed:
    """One request, as a bench client says it was.

    Args:
        id: The answer's, as `bench_server` gives it, or what the client sent as ``X-Request-ID``.
        began: Seconds of the client's clock, from where it counts.
        ended: Seconds of the same clock: the last piece, or the end.
        ttft_ms: Time to the first token.
        gap_ms: Between two pieces, the mean of the request. `None` with fewer than two.
        events: With a piece of text.
    """

    id: str
    began: float
    ended: float
    ttft_ms: float
    gap_ms: float | None
    events: int


@dataclass(frozen=True)
class Marks:
    """Where a bench client says that it was behind: what it prints, what it exports."""

    console: bool
    document: bool


@dataclass(frozen=True)
class BenchClient:
    """A program that measures streams.

    Args:
        command: Its command line, from its environment's folder of programs, the server's URL, the load, and a folder
            for what it needs and exports, which is there and empty.
        read: The requests that were completed, out of what it has exported.
        marks: Where it says that it was behind, from what it printed and has exported.
        share: Of the requests in what has no pace; all of them would take slow ones minutes.
        is_once: Whether the first round is enough, because it takes so long to start.
        variables: Of its environment.
    """

    command: Callable[[Path, str, Load, Path], list[str]]
    read: Callable[[Path], list[Timed]]
    marks: Callable[[str, Path], Marks]
    share: float = 1.0
    is_once: bool = False
    variables: dict[str, str] = field(default_factory=dict)


def body(prompt: str, *, stream: bool) -> dict[str, Any]:
    """The request, for libraries that know nothing of chats."""
    request: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    if stream:
        request["stream_options"] = {"include_usage": True}
    return request


def text_of_objects(objects: Iterable[dict[str, Any]]) -> str:
    """The text in decoded chunks, as `Parser.text` wants it."""
    return "".join(_piece(object["choices"][0]["delta"]) for object in objects if object.get("choices"))


def _piece(delta: dict[str, Any]) -> str:
    calls = delta.get("tool_calls") or []
    arguments = [call["function"].get("arguments") or "" for call in calls]
    return "".join([delta.get("reasoning_content") or "", delta.get("content") or "", *arguments])
