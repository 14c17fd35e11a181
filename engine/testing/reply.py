"""An answer in its dialect, before anything goes wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from .answers import Answer, Headers
from .dialects.dialect import Dialect
from .dialects.framing import EventStream
from .plan import Head

JSON = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, and kept under an idempotency key.

    Args:
        content: The body, or the stream.
        answer: Its pace, its way of writing, and its headers.
        work_s: How long the model works on an answer that is not streamed.
        tokens: What the model is paid for it: words of the request and of the answer.
        seed: For the jitter of its pace.
        headers: The dialect's own, less those that say what the body is.
        runs_model: Whether the model runs for it.
    """

    content: bytes | EventStream
    answer: Answer
    work_s: float = 0.0
    tokens: int = 0
    seed: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    runs_model: bool = True

    def head(self) -> Head:
        """Status and headers; those that the answer was given come before the dialect's."""
        own: tuple[tuple[str, str], ...]
        if isinstance(self.content, bytes):
            own = (JSON,) if self.content else ()
        else:
            own = (("content-type", self.content.content_type), ("cache-control", "no-cache"))
        return Head(self.status, merge_headers(merge_headers(own, self.headers), self.answer.headers))

    def at_once(self) -> Reply:
        """The same reply without its pace, as it comes out of a store."""
        unpaced = replace(self.answer, ttft_s=0.0, delay_s=0.0, jitter_s=0.0, slow_terminator_s=0.0)
        return replace(self, answer=unpaced, work_s=0.0)

    def without_content(self, dialect: Dialect) -> Reply:
        """The same reply without its text. What is no success has none."""
        if isinstance(self.content, EventStream):
            return replace(self, content=replace(self.content, deltas=()))
        if self.status >= 300:
            return self
        return replace(self, content=orjson.dumps(dialect.without_content(orjson.loads(self.content))))


def merge_headers(own: Sequence[tuple[str, str]], given: Headers) -> tuple[tuple[str, str], ...]:
    """`given` headers after our own ones, less those of the same name."""
    pairs = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
    names = {name.lower() for name, _ in pairs}
    return (*((name, value) for name, value in own if name.lower() not in names), *pairs)
