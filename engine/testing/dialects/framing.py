"""Streams in their parts, and how their events are framed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .sse import sse_comment, sse_event


class Framing(ABC):
    """What faults need to write into a stream that has begun."""

    @abstractmethod
    def error(self, body: Any, *, event_name: str | None = None) -> bytes:
        """An error, told by the body that the dialect gives it inside a stream."""

    def wrap(self, error: Any) -> Any:
        """The body that tells an error whose value a script gives."""
        return {"error": error}

    @abstractmethod
    def garbage(self, data: str) -> bytes:
        """A frame with this text in it."""

    @abstractmethod
    def ping(self) -> bytes:
        """A sign of life that is no event; empty where there is none."""


@dataclass(frozen=True, slots=True)
class EventFraming(Framing):
    """Server-sent events. `error_name` is the `event:` of errors that are given no other."""

    line_end: bytes = b"\n"
    error_name: str | None = None

    def event(self, data: bytes, name: str | None = None) -> bytes:
        return sse_event(data, line_end=self.line_end, event=name)

    def comment(self, text: str) -> bytes:
        return sse_comment(text, line_end=self.line_end)

    def error(self, body: Any, *, event_name: str | None = None) -> bytes:
        return self.event(orjson.dumps(body), event_name or self.error_name)

    def garbage(self, data: str) -> bytes:
        return self.event(data.encode())

    def ping(self) -> bytes:
        return self.comment("ping")


@dataclass(frozen=True, slots=True)
class EventStream:
    """A streamed answer in its parts, each a list of whole events as bytes.

    Args:
        done: The terminal mark; empty in a format that has none.
        done_after_error: The terminal mark comes after an error, too.
    """

    framing: Framing
    comments: Sequence[bytes]
    opening: Sequence[bytes]
    deltas: Sequence[bytes]
    closing: Sequence[bytes]
    done: bytes
    content_type: str = "text/event-stream; charset=utf-8"
    done_after_error: bool = False
