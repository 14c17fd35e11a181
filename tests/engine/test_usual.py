"""The usual completion is read as the general reading reads it, or not at all."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import LLMResponse
from penstock.engine.decode import _any_response
from penstock.engine.usual import usual_response
from penstock.engine.verdict import Answer

HEADERS = {"content-type": "application/json", "x-request-id": "req-1"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
USUAL: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Seven.", "refusal": None, "annotations": []},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 3}},
    "service_tier": "default",
    "system_fingerprint": None,
}

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "text", 0, 1, -1, True, False, 2.5, 0.0, [], [1], ["a"], {}, {"a": 1}, [{}]]
)
MEMBERS = [
    *("id", "object", "created", "model", "choices", "usage", "error", "obfuscation", "response_headers", "x"),
    *("index", "message", "delta", "finish_reason", "logprobs", "stop_reason", "token_ids"),
    *("role", "content", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content", "annotations"),
]
PLACES = st.sampled_from([(), ("choices", 0), ("choices", 0, "message")])
CHANGES = st.lists(st.tuples(PLACES, st.sampled_from(MEMBERS), st.one_of(ODD, st.just(...))), max_size=4)


def changed(changes: list[tuple[tuple[Any, ...], str, Any]]) -> dict[str, Any]:
    """The usual completion with other members; `...` takes one away."""
    payload = deepcopy(USUAL)
    for place, name, value in changes:
        target: Any = payload
        for step in place:
            try:
                target = target[step]
            except (KeyError, IndexError, TypeError):
                target = None
        if isinstance(target, dict):
            if value is ...:
                target.pop(name, None)
            else:
                target[name] = deepcopy(value)
    return payload


def everything(response: LLMResponse) -> dict[str, Any]:
    """All fields, those that are not compared among them."""
    told = {field.name: getattr(response, field.name) for field in fields(response)}
    told["extras"] = [dict(choice.extra) for choice in response.choices]
    return told


@given(CHANGES)
def test_it_is_read_as_the_general_reading_reads_it(changes: list[tuple[tuple[Any, ...], str, Any]]) -> None:
    payload = changed(changes)
    usual = usual_response(deepcopy(payload), dict(HEADERS))
    if usual is not None:
        general = _any_response(payload, dict(HEADERS), Answer(200, HEADERS, b"{}", 0.0))
        assert everything(usual) == everything(general)


@pytest.mark.parametrize("name", ["service_tier", "usage", "created", "id", "model", "system_fingerprint", "object"])
def test_it_may_lack_a_member(name: str) -> None:
    payload = {member: value for member, value in USUAL.items() if member != name}
    response = usual_response(payload, dict(HEADERS))
    assert response is not None
    assert response.content == "Seven."


def test_what_is_shared_with_the_body_is_not_shared_with_the_answer() -> None:
    payload = deepcopy(USUAL)
    response = usual_response(payload, dict(HEADERS))
    assert response is not None
    payload["choices"][0]["message"]["annotations"].append(1)
    assert response.choices[0].extra == {"annotations": []}


UNUSUAL: dict[str, list[tuple[tuple[Any, ...], str, Any]]] = {
    "no text": [(("choices", 0, "message"), "content", "")],
    "parts": [(("choices", 0, "message"), "content", [{"type": "text", "text": "a"}])],
    "reasoning": [(("choices", 0, "message"), "reasoning", "Hm.")],
    "tool calls": [(("choices", 0, "message"), "tool_calls", [])],
    "another index": [(("choices", 0), "index", 1)],
    "true as the index": [(("choices", 0), "index", True)],
    "logprobs": [(("choices", 0), "logprobs", {"content": []})],
    "no finish reason": [(("choices", 0), "finish_reason", None)],
    "two choices": [((), "choices", USUAL["choices"] * 2)],
}


@pytest.mark.parametrize("changes", UNUSUAL.values(), ids=UNUSUAL)
def test_anything_else_is_left_to_the_general_reading(changes: list[tuple[tuple[Any, ...], str, Any]]) -> None:
    assert usual_response(changed(changes), dict(HEADERS)) is None
