"""Writing the little TOML that a script needs, and finding the lines of what was read.

TOML has no null; here the inline table ``{null = true}`` stands for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

NULL = {"null": True}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"^\s*(?:\[\[|\[)\s*([A-Za-z0-9_.-]+)\s*(?:\]\]|\])\s*(?:#.*)?$")


def tables(name: str, listed: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """The lines of an array of tables."""
    for members in listed:
        yield f"[[{name}]]"
        yield from lines(members)
        yield ""


def lines(members: Mapping[str, Any]) -> Iterable[str]:
    """One line for each member."""
    for name, value in members.items():
        yield f"{_key(name)} = {_value(value)}"


def without_nulls(value: Any) -> Any:
    """What was read, with null where its table stands."""
    if value == NULL:
        return None
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def line_of(text: str, table: str, number: int, tables: int, member: str | None) -> int | None:
    """The line of a table's header, or of a member in it, counted from 1.

    `None` when it cannot be told: the table is written in another way than under a header of its own.

    Args:
        text: The whole file.
        table: Its name as in its header, such as ``rule.step``.
        number: Which of those with this name, in the order of the file, counted from 1.
        tables: How many there are. A text that has another number of such headers has some in a string.
        member: One of its members; `None` is the table itself.
    """
    rows = text.splitlines()
    headers = [index for index, row in enumerate(rows) if (found := _HEADER.match(row)) and found[1] == table]
    if len(headers) != tables:
        return None
    start = headers[number - 1]
    if member is not None:
        for index in range(start + 1, len(rows)):
            if _HEADER.match(rows[index]):
                break
            if re.match(rf'\s*"?{re.escape(member)}"?\s*[.=]', rows[index]):
                return index + 1
    return start + 1


def _value(value: Any) -> str:
    if value is None:
        return "{ null = true }"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON writes strings as TOML does, except for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        if value == NULL:
            raise ValueError(f"{value!r} stands for null in TOML; write the script as JSON")
        return "{ " + ", ".join(lines(value)) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)
