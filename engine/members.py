"""Members of decoded JSON, read without trusting them.

What is missing or null is `None`. What has another type is a `MalformedResponseError` that names the member.
"""

from __future__ import annotations

from typing import Any

from .errors import MalformedResponseError


def text_of(members: dict[str, Any], name: str) -> str | None:
    """A text."""
    value = members.get(name)
    if value is None or isinstance(value, str):
        return value
    raise MalformedResponseError(f"{name} is {kind_of(value)}, not text")


def list_of(members: dict[str, Any], name: str) -> list[Any]:
    """A list; an empty one when it is missing or null."""
    value = members.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise MalformedResponseError(f"{name} is {kind_of(value)}, not a list")


def object_of(members: dict[str, Any], name: str) -> dict[str, Any] | None:
    """An object."""
    value = members.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise MalformedResponseError(f"{name} is {kind_of(value)}, not an object")


def whole_of(members: dict[str, Any], name: str) -> int | None:
    """A whole number; `true` and 1.0 are none."""
    value = members.get(name)
    if value is None or type(value) is int:  # a bool is an int, too
        return value
    raise MalformedResponseError(f"{name} is {kind_of(value)}, not a whole number")


def kind_of(value: Any) -> str:
    """A JSON value's type in JSON's words."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names[type(value)]
