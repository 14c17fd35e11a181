"""Reading requests to OmniGate.

A FastAPI server: a wrong body is a 422 that lists every complaint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..words import count_words
from .chat import Ask
from .problem import Problem, RefusedError


class Complaints:
    """What is wrong with one body, collected before it is refused."""

    def __init__(self, body: Any) -> None:
        self._found: list[dict[str, object]] = []
        self.body: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
        if not isinstance(body, Mapping):
            self.add("Input should be a valid dictionary", "model_attributes_type")

    def add(self, message: str, type: str, *where: str | int) -> None:
        self._found.append({"loc": ["body", *where], "msg": message, "type": type})

    def require_text(self, name: str, least: int = 1) -> str:
        """The text in a member that has to be there; empty when it is not."""
        value = self.body.get(name)
        if name not in self.body:
            self.add("Field required", "missing", name)
        elif not isinstance(value, str):
            self.add("Input should be a valid string", "string_type", name)
        elif len(value) < least:
            self.add(f"String should have at least {least} characters", "string_too_short", name)
        return value if isinstance(value, str) else ""

    def check_number(self, name: str, least: float, most: float | None = None, *, whole: bool = False) -> None:
        """A number within bounds, where there is one."""
        value = self.body.get(name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            self.add(f"Input should be a valid {'integer' if whole else 'number'}", "int_type", name)
        elif value < least:
            self.add(f"Input should be greater than or equal to {least}", "greater_than_equal", name)
        elif most is not None and value > most:
            self.add(f"Input should be less than or equal to {most}", "less_than_equal", name)

    def refuse_if_any(self) -> None:
        """Raise `RefusedError` when something was found."""
        if self._found:
            raise RefusedError(Problem(422, body={"detail": self._found}))


def read_chat(body: Any) -> Ask:
    """What `POST /v1/chat` asks: text alone, by system, user and assistant.

    Raises:
        RefusedError: 422, it is not a chat request.
    """
    complaints = Complaints(body)
    model = complaints.require_text("model")
    texts = _texts(complaints)
    complaints.check_number("max_tokens", 1, whole=True)
    complaints.check_number("temperature", 0, 2)
    fallbacks = complaints.body.get("fallback_models")
    if isinstance(fallbacks, list) and len(fallbacks) > 5:
        complaints.add("List should have at most 5 items", "too_long", "fallback_models")
    complaints.refuse_if_any()
    return Ask(
        model=model,
        prompt=texts[-1],
        prompt_words=sum(map(count_words, texts)),
        stream=complaints.body.get("stream") is True,
        max_words=complaints.body.get("max_tokens"),
    )


def _texts(complaints: Complaints) -> list[str]:
    messages = complaints.body.get("messages")
    if not isinstance(messages, list):
        complaints.add("Input should be a valid list", "list_type", "messages")
        return []
    if not messages:
        complaints.add("List should have at least 1 item after validation, not 0", "too_short", "messages")
    for index, message in enumerate(messages):
        _check_message(complaints, message, index)
    return [str(message.get("content")) for message in messages if isinstance(message, Mapping)]


def _check_message(complaints: Complaints, message: Any, index: int) -> None:
    if not isinstance(message, Mapping):
        complaints.add("Input should be a valid dictionary", "model_attributes_type", "messages", index)
        return
    if message.get("role") not in ("system", "user", "assistant"):
        expected = "Input should be 'system', 'user' or 'assistant'"
        complaints.add(expected, "literal_error", "messages", index, "role")
    if not isinstance(message.get("content"), str):
        complaints.add("Input should be a valid string", "string_type", "messages", index, "content")
