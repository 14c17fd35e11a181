"""A chat in no dialect, and the shape of what reads and writes one.

A chat format knows one wire format and nothing of scripts, faults or sockets: where a stream is cut,
and when its parts are sent, is decided elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..answers import Answer
from ..words import split_words
from .framing import EventStream
from .request import Request


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the request offers; `parameters` is its JSON schema."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a chat request asks, in no dialect.

    Args:
        prompt: The text of the last message.
        from_tool: The last message is a tool's result.
        prompt_words: Words in all messages.
        choices: How many answers are wanted.
        max_words: The most words an answer may have; `None` is no limit.
        tools: The tools offered; none when the request forbids their use.
        tool_required: A tool has to be called.
    """

    model: str
    prompt: str
    from_tool: bool = False
    prompt_words: int = 0
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    max_words: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_required: bool = False


class ChatFormat(ABC):
    """How chats are read and written on one path."""

    @abstractmethod
    def read(self, request: Request) -> Ask:
        """Understand the body of a chat request.

        Raises:
            RefusedError: it is not one that the gateway takes.
        """

    @abstractmethod
    def whole(self, answers: Sequence[Answer], ask: Ask, request: Request) -> object:
        """The answer as one JSON value; one answer per choice."""

    @abstractmethod
    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        """The same answer as a stream."""


def text_pieces(answer: Answer) -> Sequence[str]:
    """How the text of a stream is cut."""
    return split_words(answer.content or "") if answer.pieces is None else answer.pieces
