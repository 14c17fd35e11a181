"""The shape of a dialect.

A dialect reads requests and writes answers, in values and bytes. It does not know scripts, faults or
sockets: where a stream is cut, and when its parts are sent, is decided elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar

from ..steps import Answer


class RefusedError(Exception):
    """The gateway refuses a request by itself, whatever the script says."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.type = type
        self.param = param


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


@dataclass(frozen=True, slots=True)
class EventStream:
    """A streamed answer in its parts, each a list of whole events as bytes.

    `done` is the terminal mark, empty in a dialect that has none.
    """

    comments: Sequence[bytes]
    opening: Sequence[bytes]
    deltas: Sequence[bytes]
    closing: Sequence[bytes]
    done: bytes
    content_type: str = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Route:
    """A path a dialect answers on.

    Args:
        path: The whole path; a trailing `*` stands for at least one more character.
        respond: Makes the JSON answer of an operation that is no chat, from the parsed body and what
            the `*` stood for; `None` is a chat.
        scripted: The operation uses up a step of the script and asks for the key.
        runs_model: The operation costs something, so that an idempotency key protects it.
    """

    method: str
    path: str
    respond: Callable[[Any, str], object] | None = None
    scripted: bool = True
    runs_model: bool = True


class Dialect(ABC):
    """How one kind of gateway writes.

    Args:
        model: The one model the gateway lists.
    """

    name: ClassVar[str]

    def __init__(self, model: str) -> None:
        self.model = model
        self.routes: tuple[Route, ...] = self.make_routes()

    def find_route(self, method: str, path: str) -> tuple[Route, str]:
        """The route of a path and what its `*` stands for.

        Raises:
            RefusedError: 404 without such a path, 405 where the path takes another method.
        """
        wrong_method = False
        for route in self.routes:
            tail = _match(route.path, path)
            if tail is not None and route.method == method:
                return route, tail
            wrong_method = wrong_method or tail is not None
        if wrong_method:
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} does not take {method}")
        raise RefusedError(HTTPStatus.NOT_FOUND, f"there is nothing at {method} {path}")

    @abstractmethod
    def make_routes(self) -> tuple[Route, ...]:
        """The paths this dialect answers on."""

    @abstractmethod
    def is_authorised(self, headers: Mapping[str, str], api_key: str) -> bool:
        """Whether a request with these headers carries the key."""

    @abstractmethod
    def read_chat(self, body: Any) -> Ask:
        """Understand the parsed body of a chat request.

        Raises:
            RefusedError: the body is not a chat request.
        """

    @abstractmethod
    def chat_body(self, answers: Sequence[Answer], ask: Ask, number: int) -> bytes:
        """The answer as one JSON body; one answer per choice, `number` makes its id."""

    @abstractmethod
    def chat_stream(self, answers: Sequence[Answer], ask: Ask, number: int) -> EventStream:
        """The same answer as a stream."""

    @abstractmethod
    def error_body(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
    ) -> object:
        """The error envelope, as a JSON value; `None` is what is usual for the status."""

    @abstractmethod
    def error_event(self, error: object | None, *, event_name: str | None, line_end: bytes) -> bytes:
        """An error inside a stream; `None` is a server error."""

    @abstractmethod
    def garbage_event(self, data: str, *, line_end: bytes) -> bytes:
        """A frame with this text in it."""

    @abstractmethod
    def ping(self, *, line_end: bytes) -> bytes:
        """A sign of life that is no event."""


def _match(pattern: str, path: str) -> str | None:
    if not pattern.endswith("*"):
        return "" if path == pattern else None
    stem = pattern[:-1]
    return path[len(stem) :] if path.startswith(stem) and len(path) > len(stem) else None
