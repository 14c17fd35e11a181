"""Which recorded request is like the one that is made, and how the nearest differs.

Headers are not compared unless asked for, and then without those that are another for each request: credentials,
idempotency keys, dates, ids, counts of attempts, lengths.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

from yarl import URL

from ..headers import is_credential_name
from .lines import Asked

Field = str
"""``"method"``, ``"host"`` (with scheme and port), ``"path"`` (with the query), ``"body"`` or ``"headers"``."""

Alike = Callable[[Asked, Asked], bool]
"""Whether a recorded request (first) answers the one that is made (second)."""

Match: TypeAlias = "Sequence[Field] | Alike"

DEFAULT_MATCH = ("method", "path", "body")

_VOLATILE = re.compile(
    r"^(?:idempotency-key|date|user-agent|host|content-length|accept-encoding|connection|traceparent|tracestate"
    r"|baggage|x-stainless-.*|x-.*(?:request|client|trace|correlation)-id|.*retry.*|.*timeout.*)$",
    re.IGNORECASE,
)
_BOUNDARY = re.compile(rb'boundary="?([^";\s]+)')
_SHOWN_LINES = 40
_SHOWN_CHARACTERS = 160  # of a line
_COMPARED = 20_000  # characters of a body, to find the nearest; the exact comparison looks at all of it


def key_of(asked: Asked, match: Sequence[Field]) -> tuple[Hashable, ...]:
    """What of a request is compared, so that requests which are alike have the same."""
    return tuple(_FIELDS[field](asked) for field in match)


def is_match(value: Any) -> bool:
    """Whether something is a `Match`."""
    if callable(value):
        return True
    is_sequence = isinstance(value, (list, tuple)) and bool(value)
    return is_sequence and all(isinstance(field, str) and field in _FIELDS for field in value)


def nearest(recorded: Sequence[Asked], asked: Asked) -> int | None:
    """The place of the recorded request that is most like this one. `None` when nothing is recorded."""
    if not recorded:
        return None
    compare = difflib.SequenceMatcher(autojunk=False)
    wanted = shown(asked)[:_COMPARED]
    compare.set_seq2(wanted)

    def likeness(at: int) -> tuple[bool, bool, float, int]:
        other = recorded[at]
        is_same_path = _path(other) == _path(asked)
        compare.set_seq1(shown(other)[:_COMPARED] if is_same_path else "")
        return other.method == asked.method, is_same_path, compare.quick_ratio(), -at

    return max(range(len(recorded)), key=likeness)


def difference(recorded: Asked, asked: Asked) -> str:
    """How two requests differ, as a diff for people: at most 40 lines."""
    lines = [
        line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
        for line in difflib.unified_diff(
            shown(recorded).splitlines(), shown(asked).splitlines(), "recorded", "asked", lineterm="", n=1
        )
    ]
    more = len(lines) - _SHOWN_LINES
    return "\n".join(lines[:_SHOWN_LINES] + ([f"... and {more} lines more"] if more > 0 else []))


def shown(asked: Asked) -> str:
    """What is compared of a request by default, one thing on a line."""
    body = _canonical_body(asked)
    if body is None:
        text = ""
    elif isinstance(body, bytes):
        text = body.decode("utf-8", "backslashreplace")
    else:
        text = json.dumps(json.loads(body), indent=1, ensure_ascii=False)
    return f"{asked.method} {_path(asked)}\n{text}"


def _path(asked: Asked) -> str:
    return URL(asked.url, encoded=True).raw_path_qs


def _host(asked: Asked) -> str:
    return str(URL(asked.url, encoded=True).origin())


def _headers(asked: Asked) -> tuple[tuple[str, str], ...]:
    stable = [
        (name.lower(), value)
        for name, value in asked.headers
        if not is_credential_name(name) and _VOLATILE.match(name) is None
    ]
    return tuple(sorted(stable))


def _canonical_body(asked: Asked) -> str | bytes | None:
    """A body in the one form that all equal ones have: as text when it is JSON, else as bytes."""
    body = asked.body
    if not body:
        return None
    try:
        return json.dumps(_canonical(json.loads(body)), sort_keys=True)
    except (ValueError, RecursionError):
        pass
    # A form is divided by a word that is another each time.
    content_type = next((value for name, value in asked.headers if name.lower() == "content-type"), "")
    boundary = _BOUNDARY.search(content_type.encode()) if content_type.startswith("multipart/") else None
    return body.replace(boundary[1], b"boundary") if boundary is not None else body


def _canonical(value: Any) -> Any:
    """JSON whose numbers compare as numbers: 1.0 is 1, and true is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(member) for member in value]
    return value


_FIELDS: dict[str, Callable[[Asked], Hashable]] = {
    "method": lambda asked: asked.method,
    "host": _host,
    "path": _path,
    "body": _canonical_body,
    "headers": _headers,
}
