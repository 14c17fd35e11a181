"""Keyword arguments as Modelgov wants them: our names to its own, and what has to be there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidRequestError

_MAX_REQUEST_ID = 128  # characters; the gateway's limit
_IDENTITY = ("user_id", "user_type", "feature")


def to_members(params: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as members of a body: snake_case to camelCase, what is `None` left out.

    Only these names are changed; what is inside of the values goes out as it is. ``model_class`` wins over its alias
    ``requested_model_class``; an empty one is none.

    Raises:
        InvalidRequestError: ``user_id``, ``user_type`` or ``feature`` is missing or is not a text.
    """
    members = {camel_case(name): value for name, value in params.items() if value is not None}
    for name in _IDENTITY:
        value = members.get(camel_case(name))
        if not isinstance(value, str) or not value:
            raise InvalidRequestError(f"{name} has to be given, as a text", param=name, phase="not_sent")
    alias = members.pop("requestedModelClass", None)
    model_class = members.pop("modelClass", None) or alias
    return {**members, "modelClass": model_class} if model_class else members


def to_query(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Keyword arguments as pairs of a query, what is `None` left out."""
    return tuple((camel_case(name), str(value)) for name, value in params.items() if value is not None)


def to_headers(request_id: Any) -> dict[str, str]:
    """The header for the caller's own id of a request. None for `None` and for an empty text.

    Raises:
        InvalidRequestError: It is not 1 to 128 characters of printable ASCII.
    """
    if request_id is None or request_id == "":
        return {}
    if isinstance(request_id, str) and len(request_id) <= _MAX_REQUEST_ID and re.fullmatch("[!-~]+", request_id):
        return {"x-request-id": request_id}
    raise InvalidRequestError(
        f"request_id is up to {_MAX_REQUEST_ID} characters of visible ASCII, not {request_id!r:.150}",
        param="request_id",
        phase="not_sent",
    )


def camel_case(name: str) -> str:
    """``user_id`` as ``userId``. A name without underscores stays as it is."""
    first, *more = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in more)
