r"""The lines of a cassette: what can happen to a request, as values and as JSON.

A file begins with ``{"penstock_cassette": 1}``. Every other line names what happened and the number of the
interaction it happened to, so that interactions which ran at the same time can share a file::

    {"request": 1, "method": "POST", "url": "http://host/v1/embeddings", "headers": [...], "json": {...}}
    {"answer": 1, "at": 0.1203, "status": 200, "reason": "OK", "headers": [["Content-Type", "application/json"]]}
    {"read": 1, "at": 0.1207, "text": "{\"data\": "}
    {"read": 1, "at": 0.1419, "base64": "w6Q="}
    {"end": 1, "at": 0.142}

``at`` is in seconds from the request on. Instead of an end there may be ``{"lost": 1, "how": ..., "why": ...}``, or
``{"left": 1}`` where the client went away, or nothing, where the recording itself was cut off.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from yarl import URL

VERSION = 1
HEADING = b'{"penstock_cassette": 1}\n'

Pairs = tuple[tuple[str, str], ...]
"""Headers as they came: names and values in their order, a name as often as it came."""


@dataclass(frozen=True)
class Asked:
    """A request, without secrets. `body` is `None` where there is none."""

    method: str
    url: str
    headers: Pairs = ()
    body: bytes | None = None


@dataclass(frozen=True)
class Answered:
    """The head of the answer has come."""

    at: float
    status: int
    reason: str
    headers: Pairs


@dataclass(frozen=True)
class Read:
    """Bytes of the body that came together, decompressed where the client has that done."""

    at: float
    data: bytes


@dataclass(frozen=True)
class Ended:
    """The body is complete."""

    at: float


@dataclass(frozen=True)
class Lost:
    """It failed before its end: `how` is a word of `losses`, `why` what is known beside it."""

    at: float
    how: str
    why: str = ""


@dataclass(frozen=True)
class Left:
    """The client went away before the end."""

    at: float


Event: TypeAlias = "Asked | Answered | Read | Ended | Lost | Left"


class BadLineError(ValueError):
    """A line that is none of a cassette; the text says why."""


def encoded(number: int, event: Event) -> bytes:
    """The line of an event, with its line feed."""
    line = _fields(number, event)
    try:
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and UTF-8 cannot
        return json.dumps(line).encode() + b"\n"


def decoded(line: bytes) -> tuple[int, Event]:
    """The event of a line, and the number of its interaction.

    Raises:
        BadLineError: It is not a line of this version.
    """
    try:
        fields = json.loads(line)
        kind, number = next(iter(fields.items()))
        return int(number), _READERS[kind](fields)
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError) as error:
        raise BadLineError(f"not a line of a cassette ({type(error).__name__})") from None


def version_of(line: bytes) -> int | None:
    """The version that a first line tells. `None` when it is no such line."""
    try:
        version = json.loads(line)["penstock_cassette"]
    except (ValueError, TypeError, KeyError):
        return None
    return version if isinstance(version, int) else None


def _fields(number: int, event: Event) -> dict[str, Any]:
    if isinstance(event, Asked):
        request = {"request": number, "method": event.method, "url": event.url, "headers": event.headers}
        return request | ({} if event.body is None else _body_fields(event.body))
    if isinstance(event, Answered):
        head = {"status": event.status, "reason": event.reason, "headers": event.headers}
        return {"answer": number, "at": _rounded(event.at), **head}
    if isinstance(event, Read):
        return {"read": number, "at": _rounded(event.at), **_data_fields(event.data)}
    if isinstance(event, Lost):
        return {"lost": number, "at": _rounded(event.at), "how": event.how, "why": event.why}
    return {"left" if isinstance(event, Left) else "end": number, "at": _rounded(event.at)}


def _rounded(at: float) -> float:
    return round(at, 4)  # a tenth of a millisecond: more is noise, and shows in every diff


def _body_fields(body: bytes) -> dict[str, Any]:
    """The body of a request: as JSON where it is JSON, for people who read it."""
    try:
        return {"json": json.loads(body)}
    except (ValueError, RecursionError):
        return _data_fields(body)


def _data_fields(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _data_in(fields: dict[str, Any]) -> bytes | None:
    if "json" in fields:
        return json.dumps(fields["json"]).encode()
    if "text" in fields:
        return str(fields["text"]).encode()
    if "base64" in fields:
        try:
            return base64.b64decode(fields["base64"], validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
    return None


def _pairs(value: Any) -> Pairs:
    return tuple((str(name), str(text)) for name, text in value)


def _at(fields: dict[str, Any]) -> float:
    at = float(fields["at"])
    if not math.isfinite(at):
        raise ValueError("a time that never comes")
    return at


def _request(fields: dict[str, Any]) -> Asked:
    method, url = fields["method"], fields["url"]
    if not isinstance(method, str) or not URL(url, encoded=True).absolute:
        raise ValueError("no request")
    return Asked(method, url, _pairs(fields["headers"]), _data_in(fields))


def _read(fields: dict[str, Any]) -> Read:
    data = _data_in(fields)
    if data is None:
        raise ValueError("a read without its bytes")
    return Read(_at(fields), data)


_READERS: dict[str, Any] = {
    "request": _request,
    "answer": lambda fields: Answered(
        _at(fields), int(fields["status"]), str(fields["reason"]), _pairs(fields["headers"])
    ),
    "read": _read,
    "end": lambda fields: Ended(_at(fields)),
    "lost": lambda fields: Lost(_at(fields), str(fields["how"]), str(fields.get("why", ""))),
    "left": lambda fields: Left(_at(fields)),
}
