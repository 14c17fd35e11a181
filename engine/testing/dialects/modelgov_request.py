"""Reading requests to Modelgov.

Bounds are those of its published request schemas. Members it does not know are ignored, as it
ignores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..words import count_words
from .chat import Ask
from .problem import InvalidBodyError

Check = Callable[[Any], str | None]
"""What is wrong with the value of a member; `None` for nothing."""


def read_members(body: Any, required: Mapping[str, Check], optional: Mapping[str, Check]) -> Mapping[str, Any]:
    """The body, with every member that is known checked.

    Raises:
        InvalidBodyError: names the first member that is missing or wrong.
    """
    if not isinstance(body, Mapping):
        raise InvalidBodyError("body: must be object")
    for name, check in required.items():
        if name not in body:
            raise InvalidBodyError(f"{name}: is required", param=name)
        _apply(name, check, body[name])
    for name, check in optional.items():
        if name in body:
            _apply(name, check, body[name])
    return body


def read_chat(body: Any, *, model: str) -> Ask:
    """What a chat asks. `model` answers a request that names no class of models.

    Raises:
        InvalidBodyError: it is not a chat request.
    """
    members = read_members(body, {**IDENTITY, "messages": _messages}, _CHAT_OPTIONS)
    texts = [_text_of(message["content"]) for message in members["messages"]]
    return Ask(
        model=members.get("modelClass") or model,
        prompt=texts[-1],
        from_tool=members["messages"][-1]["role"] == "tool",
        prompt_words=sum(map(count_words, texts)),
        stream=members.get("stream", False),
    )


def text(most: int | None = None, least: int = 1) -> Check:
    """A string of so many characters."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return "must be string"
        return _wrong_size(len(value), least, most, "characters")

    return check


def integer(least: int, most: int | None = None) -> Check:
    """A whole number within bounds."""

    def check(value: Any) -> str | None:
        if type(value) is not int:
            return "must be integer"
        if value < least or (most is not None and value > most):
            return f"must be >= {least}" if value < least else f"must be <= {most}"
        return None

    return check


def items(check_item: Check, least: int, most: int) -> Check:
    """A list of so many items."""

    def check(value: Any) -> str | None:
        if not isinstance(value, list):
            return "must be array"
        return _wrong_size(len(value), least, most, "items") or _first_wrong(value, check_item)

    return check


def _apply(name: str, check: Check, value: Any) -> None:
    complaint = check(value)
    if complaint is not None:
        raise InvalidBodyError(f"{name}: {complaint}", param=name)


def _wrong_size(size: int, least: int, most: int | None, what: str) -> str | None:
    if size < least:
        return f"too few {what}"
    return f"too many {what}" if most is not None and size > most else None


def _first_wrong(values: list[Any], check_item: Check) -> str | None:
    for index, value in enumerate(values):
        complaint = check_item(value)
        if complaint is not None:
            return f"[{index}] {complaint}"
    return None


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be boolean"


def _temperature(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "must be number"
    return None if 0 <= value <= 2 else "must be from 0 to 2"


def _metadata(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be object"
    return _wrong_size(len(value), 0, 32, "keys")


def _message(value: Any) -> str | None:
    if not isinstance(value, Mapping) or value.get("role") not in ("system", "user", "assistant", "tool"):
        return "must have a role: system, user, assistant or tool"
    content = value.get("content")
    return items(_part, 1, 32)(content) if isinstance(content, list) else text(100_000, 0)(content)


def _part(value: Any) -> str | None:
    if isinstance(value, Mapping) and value.get("type") == "text":
        return text(100_000, 0)(value.get("text"))
    if not isinstance(value, Mapping) or value.get("type") != "image_url":
        return "must be a part of type text or image_url"
    image = value.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else None
    return None if str(url).startswith(("data:", "https:")) else "must have an image_url.url of data: or https:"


def _text_of(content: Any) -> str:
    """The text of a message that was checked: its string, or its text parts joined."""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


_messages = items(_message, 1, 64)

IDENTITY: dict[str, Check] = {"userId": text(), "userType": text(), "feature": text()}
"""Who asks, and for what: required everywhere."""

OPTIONS: dict[str, Check] = {
    "modelClass": text(),
    "inputTokensEstimate": integer(1, 10_000_000),
    "projectId": text(),
    "environment": text(),
    "metadata": _metadata,
}

_CHAT_OPTIONS: dict[str, Check] = {
    **OPTIONS,
    "context": items(lambda value: None if isinstance(value, (str, Mapping)) else "must be a passage", 1, 64),
    "temperature": _temperature,
    "stream": _boolean,
}
