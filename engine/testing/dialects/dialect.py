"""The shape of a dialect.

A dialect reads requests and writes answers, in values and bytes. It does not know scripts, faults or
sockets: where a stream is cut, and when its parts are sent, is decided elsewhere.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..answers import Answer
from ..verdicts import Block, Cause, ProviderError
from .chat import ChatFormat
from .problem import Pairs, Problem, RefusedError, Response
from .request import Request

Respond = Callable[[Request, Answer], object]
"""Makes the JSON answer of an operation that is no chat; `None` is no body.

Of the answer, only what the gateway states about it concerns such an operation. May raise
`RefusedError`.
"""


@dataclass(frozen=True, slots=True)
class Route:
    """A path a dialect answers on.

    Args:
        path: The whole path; a trailing `*` stands for at least one more character.
        operation: How its chats are read and written, or what it responds with.
        status: Of its successes.
        scripted: The operation uses up a step of the script.
        keyless: It asks for no key.
        runs_model: It costs something, so that an idempotency key protects it.
    """

    method: str
    path: str
    operation: ChatFormat | Respond
    status: int = 200
    scripted: bool = True
    keyless: bool = False
    runs_model: bool = True


class Dialect(ABC):
    """How one kind of gateway writes.

    Args:
        model: The one model the gateway lists.
    """

    name: ClassVar[str]
    honours_keys: ClassVar[bool] = False
    """Whether the gateway is known to honour idempotency keys."""
    keeps_content: ClassVar[bool] = True
    """Whether a replay brings the text back, unless the gateway is told otherwise."""
    blocks: ClassVar[Mapping[Cause, Problem]] = {}
    """What this gateway blocks for, and how it usually says so."""
    has_reasons: ClassVar[bool] = False
    """Whether it tells the reason of a block beside the message, not in it."""
    wrong_key: ClassVar[str | None] = None
    """What it says about a missing or wrong key; `None` is what is usual for 401."""

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
            raise RefusedError(Problem(405, f"{path} does not take {method}"))
        raise RefusedError(Problem(404, f"there is nothing at {method} {path}"))

    @abstractmethod
    def make_routes(self) -> tuple[Route, ...]:
        """The paths this dialect answers on."""

    def authorise(self, headers: Mapping[str, str], api_key: str) -> None:
        """Let a request with the key pass.

        Raises:
            RefusedError: 401, it has none or another.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not is_same_key(key.strip(), api_key):
            raise RefusedError(Problem(401, self.wrong_key))

    def example(self, text: str) -> tuple[str, dict[str, Any]]:
        """Path and body of a chat that says `text` and asks for a stream."""
        body = {"model": self.model, "stream": True, "messages": [{"role": "user", "content": text}]}
        return "/v1/chat/completions", body

    @abstractmethod
    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        """The error that tells a problem. Inside a stream that has begun only its body can be told."""

    def invalid(self, problem: Problem) -> Problem:
        """How this gateway says that a body is not what the operation takes."""
        return problem

    def block(self, step: Block, request: Request) -> Problem:
        """How this gateway says that it blocked."""
        usual = self.blocks[step.cause]
        said = usual.message if self.has_reasons else step.reason or usual.message
        return replace(
            usual,
            status=step.status or usual.status,
            message=step.message or said,
            code=step.code or usual.code,
            details={**usual.details, **step.details},
        )

    def provider_error(self, step: ProviderError, request: Request) -> Problem:
        """How this gateway says that the provider behind it failed."""
        said = "did not answer" if step.status is None else f"returned {step.status}"
        return Problem(502, f"Provider {said}: {step.message}")

    def signature(self, request: Request) -> Pairs:
        """The headers of every answer."""
        return (("x-request-id", f"req_{request.number}"),)

    def answer_headers(self, answer: Answer, request: Request) -> Pairs:
        """The headers of an answer by the model, beside the usual ones."""
        return ()

    def check_key(self, key: str, request: Request) -> Problem | None:
        """What is wrong with the idempotency key of a request; `None` for nothing."""
        return None

    def key_scope(self, body: Any) -> str:
        """Whose key it is: equal keys of two scopes are two keys."""
        return ""

    @abstractmethod
    def without_content(self, body: Any) -> object:
        """The JSON answer as it is replayed when the text was not kept: ids and usage are all that is left."""


def is_same_key(key: str, api_key: str) -> bool:
    """Compare two keys in a time that does not depend on where they differ."""
    return hmac.compare_digest(key.encode(), api_key.encode())


def _match(pattern: str, path: str) -> str | None:
    if not pattern.endswith("*"):
        return "" if path == pattern else None
    stem = pattern[:-1]
    return path[len(stem) :] if path.startswith(stem) and len(path) > len(stem) else None
