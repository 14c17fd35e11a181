"""Values of the script language as plain data, and back: what TOML and JSON can hold.

A value is read by the annotations of its class, so that a new step needs nothing here.
"""

from __future__ import annotations

import base64
import binascii
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

Place = tuple[str | int, ...]
"""The way to a value: names of members, and numbers of elements counted from 1."""

_BYTES = "base64"  # {base64 = "..."} stands for bytes


class UnreadableError(ValueError):
    """What was read is not what belongs there."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem)
        self.place = place


def read(value: object, kind: Any, place: Place) -> Any:
    """The value of a type that plain data stands for.

    Raises:
        UnreadableError: it stands for none.
    """
    if _is_union(kind):
        return read(value, _chosen(value, kind, place), place)
    if not _fits(value, kind):
        raise UnreadableError(place, f"it has to be {_named(kind)}, and is {value!r}")
    if kind is Any:
        return value
    if kind is bytes:
        return _bytes(value, place)
    if is_dataclass(kind) or is_typeddict(kind):
        return read_members(value, kind, place)
    if isinstance(value, Mapping):
        _, of = get_args(kind)
        return {name: read(member, of, (*place, name)) for name, member in value.items()}
    if isinstance(value, list):
        return _read_list(value, kind, place)
    return value


def read_members(value: Any, kind: Any, place: Place, **given: Any) -> Any:
    """A dataclass or typed dictionary from its members. Those that are given were read before.

    Raises:
        UnreadableError: one is unknown, missing or of a wrong type, or the class refuses them.
    """
    hints = _members(kind)
    if value.get("kind") == getattr(kind, "kind", ""):  # an answer may say that it is one
        value = {name: member for name, member in value.items() if name != "kind"}
    for name in value:
        if name not in hints:
            known = ", ".join(hints)
            raise UnreadableError((*place, name), f"{_title(kind)} has no such member; it has {known}")
    read_in = {name: read(member, hints[name], (*place, name)) for name, member in value.items()}
    if is_typeddict(kind):
        return read_in
    for field in fields(kind):
        if field.name not in {*value, *given} and _default(field) is MISSING:
            raise UnreadableError((*place, field.name), f"{_title(kind)} needs it, as {_named(hints[field.name])}")
    try:
        return kind(**read_in, **given)
    except (ValueError, TypeError) as error:
        raise UnreadableError(place, str(error)) from None


def plain(value: object) -> Any:
    """A value as plain data. Members with their default are left out.

    Raises:
        ValueError: it is one that could not be read back.
    """
    if is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if getattr(value, field.name) != _default(field)
        }
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        if set(value) == {_BYTES}:
            raise ValueError(f"a mapping with {_BYTES!r} alone stands for bytes in a file, and {value!r} is none")
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    return value


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _members(kind: Any) -> dict[str, Any]:
    """The types of the members, by name."""
    if is_typeddict(kind):
        return get_type_hints(kind)
    # Not get_type_hints(): that of Python 3.10 stumbles over `_: KW_ONLY`, which is no field.
    names = vars(sys.modules[kind.__module__])
    return {
        field.name: eval(field.type, names) if isinstance(field.type, str) else field.type for field in fields(kind)
    }


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _chosen(value: object, kind: Any, place: Place) -> Any:
    """The member of a union that the value looks like. Classes are told apart by the names of their members."""
    fitting = [choice for choice in get_args(kind) if _fits(value, choice)]
    if bytes in fitting:
        return bytes
    if not fitting:
        raise UnreadableError(place, f"it has to be {_named(kind)}, and is {value!r}")
    if isinstance(value, Mapping):
        classes = [choice for choice in fitting if is_dataclass(choice)]
        knowing = [choice for choice in classes if set(value) <= set(_members(choice))]
        if len(classes) > 1 and not knowing:
            raise UnreadableError(place, f"it has to be {_named(kind)}, and is {value!r}")
        return (knowing or fitting)[0]
    return fitting[0]


def _fits(value: object, kind: Any) -> bool:
    """Whether the value is of the outer shape of a type."""
    origin = get_origin(kind) or kind
    if kind is Any:
        return True
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if kind is bytes:
        return isinstance(value, Mapping) and set(value) == {_BYTES}
    if is_dataclass(kind) or is_typeddict(kind) or origin is Mapping:
        return isinstance(value, Mapping)
    if origin in (Sequence, tuple):
        return isinstance(value, list)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (type(None) if kind is None else kind)


def _read_list(value: list[Any], kind: Any, place: Place) -> tuple[Any, ...]:
    of = get_args(kind)
    if get_origin(kind) is tuple and of[-1] is not Ellipsis:
        if len(value) != len(of):
            raise UnreadableError(place, f"it has to be {_named(kind)}, and has {len(value)} elements")
        return tuple(read(each, one, (*place, index)) for index, (each, one) in enumerate(zip(value, of), 1))
    return tuple(read(element, of[0], (*place, index)) for index, element in enumerate(value, 1))


def _bytes(value: Any, place: Place) -> bytes:
    try:
        return base64.b64decode(value[_BYTES], validate=True)
    except (binascii.Error, TypeError):
        raise UnreadableError((*place, _BYTES), "it has to be bytes in base64, and is not") from None


def _title(kind: Any) -> str:
    return str(getattr(kind, "kind", kind.__name__))


_NAMES: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    bytes: "{base64 = ...}",
    Any: "anything",
}


def _named(kind: Any) -> str:
    """A type, in words."""
    if _is_union(kind):
        *most, last = dict.fromkeys(map(_named, get_args(kind)))
        return f"{', '.join(most)} or {last}" if most else last
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if is_dataclass(kind) or is_typeddict(kind):
        return f"a table with {', '.join(_members(kind))}"
    if (get_origin(kind) or kind) is Mapping:
        return "a table"
    if get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis:
        return f"a list of {len(get_args(kind))}"
    if get_origin(kind) in (Sequence, tuple):
        return f"a list, each {_named(get_args(kind)[0])}"
    return _NAMES.get(kind, str(kind))
