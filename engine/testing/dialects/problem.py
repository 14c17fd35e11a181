"""What is wrong with a request, in no dialect, and the answer a dialect makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer. `None` is what the dialect usually says for the status.

    Args:
        param: The member of the request that is at fault.
        details: More members of the envelope, where the dialect has a place for them.
        headers: The dialect's own, beside the usual ones.
        body: The whole body, where it is not in the dialect's usual envelope.
    """

    status: int
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Pairs = ()
    body: object = None


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer: status, headers, and a body that is a JSON value. `None` is no body."""

    status: int
    body: object = None
    headers: Pairs = ()


class RefusedError(Exception):
    """The gateway refuses a request by itself, whatever the script says."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class InvalidBodyError(RefusedError):
    """The body is not what the operation takes. A dialect may say it with another status than 400."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(Problem(400, message, code=code, type="invalid_request_error", param=param))
