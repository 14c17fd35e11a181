"""One row of a batch: what it asks for, under an id of its own. Values only: nothing is read, sent or kept here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import BadRowError

RowOperation = Literal["chat", "embeddings"]
"""What a row can ask for."""

MAX_ID_LENGTH = 512  # characters; an id is an index key of the journal

_MAPPING = (dict, Mapping)  # asked first whether it is a dict: an abstract class takes five times as long to say
_OPERATIONS = get_args(RowOperation)
_MESSAGE_NAMES = {"messages", "prompt", "input"}

_URLS: dict[str, RowOperation] = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings"}


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One request of a batch.

    Args:
        id: Unique in the input, 1 to 512 characters; the position as text where the input has none.
        position: Place in the input, from 0.
        body: Members of the request body. A chat has ``messages``, embeddings have ``input``; ``model`` only where the
            row says one, else it is the engine's.
        operation: What is asked for.
        is_openai: Whether it came in the shape of OpenAI's batch files, so that its result goes out in that shape.
        has_own_id: Whether the input gave the id. Positions cannot be there twice.
    """

    id: str
    position: int
    body: Mapping[str, Any]
    operation: RowOperation = "chat"
    is_openai: bool = False
    has_own_id: bool = True

    @classmethod
    def of(cls, item: object, position: int) -> BatchRow:
        """The row that an item of the input is.

        Args:
            item: A text (one user message); a message or a list of messages; ``{"id", "messages" | "prompt" |
                "input", ...}`` with members of the body beside them; or a line of OpenAI's batch files
                (``{"custom_id", "method": "POST", "url", "body"}``). A `BatchRow` is given back as it is.
            position: Place of the item in the input, from 0.

        Raises:
            BadRowError: It is none of these; the message says what is wrong with it, `param` which member.
        """
        if isinstance(item, cls):
            return item
        if isinstance(item, str):
            return cls(str(position), position, {"messages": [_user(_text(item, position))]}, has_own_id=False)
        if isinstance(item, (list, tuple)):
            _check_messages(item, position)
            return cls(str(position), position, {"messages": list(item)}, has_own_id=False)
        if not isinstance(item, _MAPPING):
            text = f"a text, messages or a mapping was expected, not {type(item).__name__}"
            raise _bad(position, text)
        if "custom_id" in item or ("url" in item and "body" in item):
            return _openai_row(item, position)
        if "role" in item and not _MESSAGE_NAMES & item.keys():
            return cls(str(position), position, {"messages": [item]}, has_own_id=False)
        return _plain_row(item, position)


def _openai_row(item: Mapping[str, Any], position: int) -> BatchRow:
    row_id = _id(item.get("custom_id"), "custom_id", position)
    method, url, body = item.get("method", "POST"), item.get("url"), item.get("body")
    if method != "POST":
        raise _bad(position, f"method is 'POST', not {method!r:.80}", "method", row_id)
    operation = _URLS.get(url) if isinstance(url, str) else None
    if operation is None:
        raise _bad(position, f"url is one of {', '.join(_URLS)}, not {url!r:.80}", "url", row_id)
    if not isinstance(body, Mapping):
        raise _bad(position, f"body is an object, not {type(body).__name__}", "body", row_id)
    return BatchRow(row_id, position, _checked(body, operation, position, row_id), operation, is_openai=True)


def _plain_row(item: Mapping[str, Any], position: int) -> BatchRow:
    members = dict(item)
    has_own_id = members.get("id") is not None
    row_id = _id(members.pop("id"), "id", position) if has_own_id else str(position)
    if not has_own_id:
        members.pop("id", None)
    operation = members.pop("operation", "embeddings" if "input" in members else "chat")
    if operation not in _OPERATIONS:
        raise _bad(position, f"operation is 'chat' or 'embeddings', not {operation!r:.80}", "operation", row_id)
    if "prompt" in members and operation == "chat":
        if "messages" in members:
            raise _bad(position, "it has a prompt and messages: give one of them", "prompt", row_id)
        members["messages"] = [_user(_text(members.pop("prompt"), position, row_id))]
    body = _checked(members, operation, position, row_id)
    return BatchRow(row_id, position, body, operation, has_own_id=has_own_id)


def _checked(body: Mapping[str, Any], operation: RowOperation, position: int, row_id: str) -> Mapping[str, Any]:
    name = "messages" if operation == "chat" else "input"
    if not body.get(name):
        raise _bad(position, f"it has no {name}", name, row_id)
    if operation == "chat":
        _check_messages(body["messages"], position, row_id)
    elif not isinstance(body["input"], (str, list, tuple)):
        text = f"input is a text or a list, not {type(body['input']).__name__}"
        raise _bad(position, text, "input", row_id)
    return body


def _check_messages(messages: Any, position: int, row_id: str | None = None) -> None:
    if not isinstance(messages, (list, tuple)):
        raise _bad(position, f"messages are a list, not {type(messages).__name__}", "messages", row_id)
    if not messages:
        raise _bad(position, "it has no messages", "messages", row_id)
    for place, message in enumerate(messages):
        if not isinstance(message, _MAPPING) or not message.get("role"):
            name = f"messages[{place}]"
            raise _bad(position, f"{name} is no object with a role", name, row_id)


def _text(prompt: Any, position: int, row_id: str | None = None) -> str:
    if isinstance(prompt, str) and prompt:
        return prompt
    raise _bad(position, "the prompt is empty or no text", "prompt", row_id)


def _user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


def _id(value: Any, name: str, position: int) -> str:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise _bad(position, f"{name} is a text of 1 to {MAX_ID_LENGTH} characters, not {value!r:.80}", name)
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _bad(position, f"{name} has half a surrogate pair in it, which is not Unicode text", name)
    return value


def _bad(position: int, what: str, param: str | None = None, row_id: str | None = None) -> BadRowError:
    name = "" if row_id is None else f" ({row_id!r:.80})"
    error = BadRowError(f"row {position}{name}: {what}", param=param, phase="not_sent")
    error.row_id = row_id
    return error
