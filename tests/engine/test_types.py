"""The values of the public surface: what they accept, what makes them equal, and that they travel."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from penstock.engine.errors import ConfigurationError, MalformedResponseError
from penstock.engine.types import (
    Attempt,
    Choice,
    ChunkHead,
    Governance,
    LLMResponse,
    LLMResponseChunk,
    StreamSummary,
    Timeouts,
    ToolCall,
    ToolCallDelta,
    ToolCallFunction,
    UsageInfo,
)

CALL = ToolCall("call_1", ToolCallFunction("add", '{"a": 1}'))
RESPONSE = LLMResponse(
    content="text",
    reasoning="why",
    tool_calls=(CALL,),
    model="tiny",
    finish_reason="stop",
    stop_sequence="END",
    request_id="chatcmpl-1",
    usage=UsageInfo(1, 2, 3, 1, 0),
    provider_metadata={"nvext": {"timing": 5}, "response_headers": {"x-request-id": "r"}},
    refusal="no",
    logprobs={"content": [{"token": "t", "logprob": -0.5}]},
    choices=(Choice(content="text", extra={"audio": {"id": "a"}}), Choice(1)),
    created=1760000000,
    gateway_request_id="req_1",
    governance=Governance(decision="allow", redactions=("EMAIL",), budget_remaining={"daily": 1.5}),
    attempts=(Attempt(1, 0.0, 1.0, 200),),
    idempotency_key="k",
)


def test_a_response_pickles_with_all_fields() -> None:
    twin = pickle.loads(pickle.dumps(RESPONSE))
    assert all(getattr(twin, name) == getattr(RESPONSE, name) for name in LLMResponse.__slots__)
    assert twin.choices[0].extra == {"audio": {"id": "a"}}


def test_responses_that_say_the_same_are_equal() -> None:
    assert LLMResponse("a", request_id="1", created=5, idempotency_key="k") == LLMResponse("a", request_id="2")
    assert LLMResponse("a") != LLMResponse("b")
    assert LLMResponse("a", finish_reason="stop") != LLMResponse("a", finish_reason="length")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True, [1]])
@pytest.mark.parametrize("name", Timeouts.__slots__)
def test_a_clock_is_a_positive_number_of_seconds(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Timeouts\.{name} is a positive number of seconds or None"):
        Timeouts(**{name: seconds})


def test_every_clock_can_be_turned_off() -> None:
    off = Timeouts(**dict.fromkeys(Timeouts.__slots__))
    assert {getattr(off, name) for name in Timeouts.__slots__} == {None}


@pytest.mark.parametrize(
    ("text", "arguments"), [("", {}), ("{}", {}), ('{"a": [1, "ü"]}', {"a": [1, "ü"]}), (' {"a": null} ', {"a": None})]
)
def test_the_arguments_of_a_tool_call_are_its_text_decoded(text: str, arguments: dict[str, Any]) -> None:
    assert ToolCallFunction("f", text).arguments == arguments


@pytest.mark.parametrize("text", ["{", "[]", "null", "5", '"text"', "{}{}", "[" * 5000, '{"a": NaN}', "\ud800"])
def test_arguments_that_are_no_object_are_an_error_that_keeps_the_text(text: str) -> None:
    with pytest.raises(MalformedResponseError, match="arguments of tool call 'f' are not") as caught:
        _ = ToolCallFunction("f", text).arguments
    assert caught.value.body == text


def test_a_tool_call_goes_back_on_the_wire_as_it_came() -> None:
    assert CALL.to_dict() == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
    }
    assert ToolCall("call_2", ToolCallFunction("shell", "ls -l"), "custom").to_dict() == {
        "id": "call_2",
        "type": "custom",
        "custom": {"name": "shell", "input": "ls -l"},
    }


@pytest.mark.parametrize(
    ("fields", "is_meaningful"),
    [
        ({"delta_content": "a"}, True),
        ({"delta_reasoning": "a"}, True),
        ({"delta_refusal": "a"}, True),
        ({"delta_tool_calls": (ToolCallDelta(0, "a"),)}, True),
        ({"delta_tool_calls": (ToolCallDelta(0, arguments=""),)}, False),
        ({"finish_reason": "stop"}, True),
        ({"delta_content": ""}, False),
        ({"role": "assistant"}, False),
        ({"usage": UsageInfo(1, 1, 2)}, False),
        ({"extra": {"timings": {}}, "choice_extra": {"a": 1}, "logprobs": {}}, False),
        ({}, False),
    ],
)
def test_output_and_ends_are_meaningful(fields: dict[str, Any], is_meaningful: bool) -> None:
    assert LLMResponseChunk(**fields).is_meaningful is is_meaningful


def test_a_chunk_shows_what_it_has() -> None:
    chunk = LLMResponseChunk(delta_content="a", head=ChunkHead("id", "tiny"))
    assert repr(chunk) == "LLMResponseChunk(delta_content='a')"
    assert (chunk.request_id, chunk.model, chunk.finish_reason, chunk.provider_metadata) == ("id", "tiny", None, None)


def test_a_chunk_has_no_other_fields() -> None:
    with pytest.raises(TypeError, match="no field 'delta_contnet'"):
        LLMResponseChunk(delta_contnet="a")


def test_chunks_are_equal_by_what_they_say() -> None:
    assert LLMResponseChunk(delta_content="a", head=ChunkHead("1")) == LLMResponseChunk(delta_content="a")
    assert LLMResponseChunk(delta_content="a") != LLMResponseChunk(delta_content="a", index=1)
    assert LLMResponseChunk() != "LLMResponseChunk()"


def test_a_chunk_pickles() -> None:
    chunk = LLMResponseChunk(delta_content="a", extra={"x": 1}, head=ChunkHead("id", "tiny", 5, {"date": "now"}))
    twin = pickle.loads(pickle.dumps(chunk))
    assert twin == chunk
    assert (twin.request_id, twin.provider_metadata) == ("id", {"x": 1, "response_headers": {"date": "now"}})


def test_time_to_first_event_counts_from_the_call() -> None:
    nothing: dict[str, Any] = dict.fromkeys(StreamSummary.__slots__)
    assert StreamSummary(**{**nothing, "started": 1.0, "first_event": 3.5}).time_to_first_event == 2.5
    assert StreamSummary(**{**nothing, "started": 1.0}).time_to_first_event is None


@pytest.mark.parametrize(
    "timeouts, unary, streamed",
    [
        (Timeouts(), 600, 120),
        (Timeouts(first_event=5), 5, 5),
        (Timeouts(first_event=None), None, None),
        (Timeouts(answer=30), 30, 120),
        (Timeouts(first_event=5, answer=None), None, 5),
    ],
)
def test_a_unary_answer_may_take_longer_than_the_first_event(
    timeouts: Timeouts, unary: float | None, streamed: float | None
) -> None:
    assert (timeouts.until_head(stream=False), timeouts.until_head(stream=True)) == (unary, streamed)
