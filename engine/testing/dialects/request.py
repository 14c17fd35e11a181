"""What a dialect sees of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its head and its body.

    Args:
        number: Counted from 1 in order of arrival; makes the ids of the answer.
        tail: What the `*` of the route's path stood for.
        headers: Names compare without regard to case.
        body: The parsed JSON; `None` when there is none, or it could not be parsed.
    """

    number: int
    method: str
    path: str
    tail: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Any = field(default=None, repr=False)

    @property
    def wants_stream(self) -> bool:
        """Whether it asks for a stream; every gateway is asked by this member."""
        return isinstance(self.body, Mapping) and self.body.get("stream") is True

    @property
    def trace_id(self) -> str:
        """A UUID for the gateways that name requests by one; it ends with the number."""
        return f"00000000-0000-4000-8000-{self.number:012d}"
