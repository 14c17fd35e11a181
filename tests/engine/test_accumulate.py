"""Chunks in, the whole answer out."""

from __future__ import annotations

from penstock.engine.accumulate import Accumulator
from penstock.engine.tool_calls import ToolCallAssembler
from penstock.engine.types import (
    ChunkHead,
    LLMResponse,
    LLMResponseChunk,
    ToolCall,
    ToolCallDelta,
    ToolCallFunction,
    UsageInfo,
)


def accumulated(*chunks: LLMResponseChunk) -> Accumulator:
    accumulator = Accumulator()
    accumulator.add(chunks)
    return accumulator


def test_nothing_is_an_empty_answer() -> None:
    accumulator = Accumulator()
    assert accumulator.response() == LLMResponse()
    assert (accumulator.is_empty, accumulator.was_filtered, accumulator.finish_reason) == (True, False, None)


def test_a_role_a_count_and_other_members_are_no_output() -> None:
    accumulator = accumulated(
        LLMResponseChunk(role="assistant"),
        LLMResponseChunk(usage=UsageInfo(1, 0, 1)),
        LLMResponseChunk(extra={"a": 1}, choice_extra={"b": 2}),
    )
    assert accumulator.is_empty
    assert accumulator.response().usage == UsageInfo(1, 0, 1)
    accumulator.add([LLMResponseChunk(delta_content="a")])
    assert not accumulator.is_empty


def test_a_partial_answer_can_be_had_at_any_time() -> None:
    accumulator = accumulated(LLMResponseChunk(delta_content="a", logprobs={"content": [1]}))
    early = accumulator.response()
    accumulator.add([LLMResponseChunk(delta_content="b", logprobs={"content": [2]}, finish_reason="stop")])

    assert (early.content, early.logprobs, early.finish_reason) == ("a", {"content": [1]}, None)
    assert (accumulator.response().content, accumulator.response().logprobs) == ("ab", {"content": [1, 2]})


def test_chunks_are_not_changed_by_joining_them() -> None:
    chunks = [LLMResponseChunk(logprobs={"content": [1]}, choice_extra={"a": [1]}) for _ in range(2)]
    accumulated(*chunks)
    assert [(each.logprobs, each.choice_extra) for each in chunks] == [({"content": [1]}, {"a": [1]})] * 2


def test_the_first_choice_is_the_answer() -> None:
    accumulator = accumulated(
        LLMResponseChunk(delta_content="b", index=1, finish_reason="content_filter"),
        LLMResponseChunk(delta_content="a", finish_reason="stop"),
    )
    response = accumulator.response()

    assert (response.content, response.finish_reason, accumulator.finish_reason) == ("a", "stop", "stop")
    assert [each.content for each in response.choices] == ["a", "b"]
    assert accumulator.was_filtered


def test_the_last_of_several_values_counts_and_null_is_none() -> None:
    accumulator = accumulated(
        LLMResponseChunk(extra={"nvext": 1, "tier": "a"}, head=ChunkHead("1", "m", 5)),
        LLMResponseChunk(extra={"nvext": None, "tier": "b"}, head=ChunkHead("2", "m", 5, {"date": "now"})),
    )
    response = accumulator.response(idempotency_key="k")

    assert response.provider_metadata == {"nvext": 1, "tier": "b", "response_headers": {"date": "now"}}
    assert (response.request_id, response.model, response.created, response.idempotency_key) == ("2", "m", 5, "k")


def test_fragments_of_calls_are_joined_by_index() -> None:
    assembler = ToolCallAssembler()
    assert assembler.finish() is None
    assembler.add([ToolCallDelta(1, "b", "g"), ToolCallDelta(0, "a", "f", '{"x"'), ToolCallDelta(0, None, None, ":1}")])
    assembler.add([ToolCallDelta(0, "z", "z", None, "custom")])
    assert assembler.finish() == (
        ToolCall("a", ToolCallFunction("f", '{"x":1}'), "custom"),
        ToolCall("b", ToolCallFunction("g", "{}")),
    )
