"""The usual completion: one choice, a text, a finish reason and nothing else that a field of ours is for.

Nearly every unary answer is one, and reading it at once costs half of reading it member by member. It is read here
only when every member is of the type, and in the place, that the general reading would take it from unchanged; a test
holds both equal. Anything else is not read here.
"""

from __future__ import annotations

from typing import Any

from .accumulate import copy_members
from .chat_reader import KNOWN_MEMBERS, KNOWN_OF_CHOICE, KNOWN_OF_DELTA, REASONING_NAMES, unknown
from .types import Choice, LLMResponse
from .usage import read_usage

_OTHERS = frozenset({"refusal", "tool_calls", "function_call", *REASONING_NAMES})  # what a message may have beside text


def usual_response(payload: dict[str, Any], response_headers: dict[str, str]) -> LLMResponse | None:
    """The answer of a usual completion. `None` when it is not one.

    Args:
        payload: The decoded object, which is no error.
        response_headers: With lower-case names; becomes the answer's.
    """
    choices = payload.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return None
    choice: dict[str, Any] = choices[0]
    message, finish_reason, index = choice.get("message"), choice.get("finish_reason"), choice.get("index", 0)
    if type(message) is not dict or type(finish_reason) is not str or type(index) is not int:
        return None
    content, role = message.get("content"), message.get("role")
    if type(content) is not str or not content or not finish_reason or index or choice.get("logprobs") is not None:
        return None
    if role is not None and type(role) is not str:
        return None
    if not _OTHERS.isdisjoint(message) and any(message.get(name) is not None for name in _OTHERS):
        return None
    extra = copy_members(unknown(choice, KNOWN_OF_CHOICE) | unknown(message, KNOWN_OF_DELTA))
    stop_reason = extra.get("stop_reason")
    request_id, model, created = payload.get("id"), payload.get("model"), payload.get("created")
    return LLMResponse(
        content=content,
        finish_reason=finish_reason,
        stop_sequence=stop_reason if isinstance(stop_reason, str) else None,
        choices=(Choice(content=content, finish_reason=finish_reason, extra=extra),),
        model=model if model and isinstance(model, str) else None,
        request_id=request_id if request_id and isinstance(request_id, str) else None,
        created=created if type(created) is int else None,
        usage=read_usage(payload.get("usage")),
        provider_metadata={**unknown(payload, KNOWN_MEMBERS), "response_headers": response_headers},
    )
