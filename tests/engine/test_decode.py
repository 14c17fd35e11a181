"""Streams and whole answers of the OpenAI family, as servers send them and as nobody should."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.engine.body import read_object
from penstock.engine.decode import ChatDecoder, decode_completion, stream_decoder
from penstock.engine.errors import (
    EmptyResponseError,
    EventTooLargeError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamTruncatedError,
)
from penstock.engine.types import LLMResponse, LLMResponseChunk

from .streams import COUNTS, DONE, USAGE, choice, chunk, completion, cut, fragment, head, only, run, sse, text, unary

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


LITELLM = [
    chunk(choice(role="assistant", content="4")),
    chunk({"index": 0, "delta": {}, "finish_reason": "stop"}),
    chunk({"index": 0, "delta": {}}, usage={**USAGE, "cost": 0.0}),
]
ENDS: list[tuple[str, bytes, type[ModelEngineError] | None, str]] = [
    ("finish reason and [DONE]", sse(text("4"), text("", "stop"), DONE), None, "4"),
    ("finish reason and a clean end: transformers serve", sse(text("4"), text("", "stop", usage=USAGE)), None, "4"),
    ("[DONE] alone after output: NeMo Guardrails", sse(text(""), text("4"), DONE), None, "4"),
    ("[DONE] without its blank line", sse(text("4"), b"data: [DONE]"), None, "4"),
    ("[DONE] with white space", sse(text("4"), b"data:   [DONE] \n\n"), None, "4"),
    ("usage frame with a choice: LiteLLM", sse(*LITELLM, DONE), None, "4"),
    ("usage frame, then a clean end", sse(text("4", "stop"), chunk(usage=USAGE)), None, "4"),
    ("a finish reason and no text at all", sse(text("", "stop"), DONE), None, ""),
    ("pings and comments between", sse(b": ping\n\n", text("4"), b"data:\n\n", b"data: \n\n", DONE), None, "4"),
    ("after [DONE] nothing counts", sse(text("4"), DONE, {"error": "late"}, b"data: {\n\n"), None, "4"),
    ("clean end without either", sse(text("4"), text("2")), StreamTruncatedError, "42"),
    ("clean end after a role frame", sse(chunk(choice(role="assistant", content=None))), StreamTruncatedError, ""),
    ("clean end after usage only", sse(chunk(usage=USAGE)), StreamTruncatedError, ""),
    (
        "clean end with one of two choices open",
        sse(text("4", "stop"), chunk(choice(1, content="2"))),
        StreamTruncatedError,
        "4",
    ),
    ("cut in the middle of an event", sse(text("4"), b'data: {"choices":[{"de'), StreamTruncatedError, "4"),
    ("cut before the blank line", sse(text("4"), text("2", "stop"))[:-1], StreamTruncatedError, "4"),
    ("cut after the finish reason", sse(text("4", "stop"), b'data: {"usa'), StreamTruncatedError, "4"),
    ("error, then a clean end: LiteLLM", sse(text("4"), {"error": {"message": "died"}}), ProviderError, "4"),
    ("error, then [DONE]: OmniGate, NeMo", sse(text("4"), {"error": {"message": "no"}}, DONE), ProviderError, "4"),
    ("error after the finish reason", sse(text("4", "stop"), {"error": {"type": "server_error"}}), ServerError, "4"),
    ("error without its blank line", sse(text("4"), b'data: {"error": {"code": 429}}'), RateLimitError, "4"),
    ("error as a text: transformers serve", sse(text("4"), {"error": "died"}), ProviderError, "4"),
    ("an error object: vLLM", sse({"object": "error", "message": "long", "code": 400}), InvalidRequestError, ""),
    (
        "event: error without an error member: Modelgov",
        sse(text("4"), b'event: error\ndata: {"code": "x", "message": "m"}\n\n'),
        ProviderError,
        "4",
    ),
    ("event: error with a text", sse(text("4"), b"event: error\ndata: it died\n\n"), ProviderError, "4"),
    ("event: error with nothing", sse(text("4"), b"event: error\ndata:\n\n"), ProviderError, "4"),
    ("event: error with [DONE]", sse(text("4"), b"event: error\ndata: [DONE]\n\n"), ProviderError, "4"),
    ("event: error with a list", sse(b'event: error\ndata: ["a"]\n\n'), ProviderError, ""),
    (
        "error with an empty message: OmniGate",
        sse({"error": {"message": "", "type": "overloaded_error"}}),
        OverloadedError,
        "",
    ),
    ("no body: Modelgov 1.7.2", b"", EmptyResponseError, ""),
    ("white space only", b"\r\n\r\n \n", EmptyResponseError, ""),
    ("comments only", b": ping\n\n: ping\n\n", EmptyResponseError, ""),
    ("pings, then a clean end", sse(b"data:\n\n"), StreamTruncatedError, ""),
    ("[DONE] alone", DONE, EmptyResponseError, ""),
    ("[DONE] alone, cut", b"data: [DONE]", EmptyResponseError, ""),
    ("[DONE] after a role", sse(chunk(choice(role="assistant")), DONE), EmptyResponseError, ""),
    ("[DONE] after usage", sse(chunk(usage=USAGE), DONE), EmptyResponseError, ""),
    ("an event that is not JSON", sse(text("4"), b"data: {oops\n\n", DONE), MalformedResponseError, "4"),
    ("an event that is text", sse(text("4"), b"data: hello\n\n", DONE), MalformedResponseError, "4"),
    ("an event that is a list", sse(text("4"), [1], DONE), MalformedResponseError, "4"),
    ("an event that is a number", sse(text("4"), b"data: 5\n\n", DONE), MalformedResponseError, "4"),
    ("NaN", sse(b'data: {"choices": [], "x": NaN}\n\n'), MalformedResponseError, ""),
    ("a number beyond all bounds", sse(b'data: {"choices": [], "x": 1e400}\n\n'), MalformedResponseError, ""),
    ("nested without end", sse(b'data: {"choices": ' + b"[" * 5000 + b"\n\n"), MalformedResponseError, ""),
]


@pytest.mark.parametrize(("data", "failure", "content"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_ends(data: bytes, failure: type[ModelEngineError] | None, content: str) -> None:
    result = run(data)

    assert type(result.failure) is (failure or type(None))
    assert result.response.content == content
    assert not (result.finished and result.failure)


@pytest.mark.parametrize("data", [end[1] for end in ENDS], ids=[end[0] for end in ENDS])
def test_every_end_is_the_same_byte_by_byte(data: bytes) -> None:
    assert run(data[place : place + 1] for place in range(len(data))).outcome == run(data).outcome


def test_only_the_terminal_mark_finishes_a_stream() -> None:
    decoder = stream_decoder(head())
    assert decoder.feed(sse(text("4", "stop"))) == [LLMResponseChunk(delta_content="4", finish_reason="stop")]
    assert not decoder.finished
    assert decoder.feed(DONE) == []
    assert decoder.finished
    assert (decoder.feed(sse(text("more"))), decoder.close(), decoder.failure) == ([], [], None)


def test_chunks_before_a_failure_in_the_same_read_are_kept() -> None:
    decoder = stream_decoder(head())
    chunks = decoder.feed(sse(text("4"), text("2"), {"error": "died"}, text("lost")))

    assert [each.delta_content for each in chunks] == ["4", "2"]
    assert isinstance(decoder.failure, ProviderError)
    assert decoder.feed(sse(text("late"))) == []


def test_an_error_event_tells_what_it_can() -> None:
    failure = run(sse({"error": {"message": "busy", "type": "BadGateway", "param": "p", "code": 429}})).failure
    assert failure is not None
    assert (failure.message, failure.type, failure.param, failure.code, failure.status) == (
        "busy",
        "BadGateway",
        "p",
        "429",
        429,
    )
    assert failure.body == {"error": {"message": "busy", "type": "BadGateway", "param": "p", "code": 429}}


def test_the_error_about_an_event_keeps_the_start_of_it() -> None:
    failure = run(sse(b"data: {" + b"x" * 5000 + b"\n\n")).failure
    assert failure is not None
    assert failure.body == "{" + "x" * 999
    failure = run(sse(text("4", padding="x" * 5000) | {"choices": 5})).failure
    assert failure is not None
    assert isinstance(failure.body, str)
    assert len(failure.body) == 1000


def test_a_large_error_event_is_not_kept_whole() -> None:
    failure = run(sse({"error": {"message": "m" * 100_000, "code": 429}})).failure
    assert isinstance(failure, RateLimitError)
    assert (len(failure.message), len(failure.body)) == (300, 1000)


def test_an_event_beyond_the_bound_is_an_error_after_the_chunks_before_it() -> None:
    decoder = ChatDecoder(head(), max_event_bytes=1000)
    result = run([sse(text("4")) + b"data: " + b"x" * 2000], decoder)
    assert [each.delta_content for each in result.chunks] == ["4"]
    assert isinstance(result.failure, EventTooLargeError)


HTML = b"<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body>hi</body></html>"
FOREIGN: list[tuple[str, str | None, bytes, type[ModelEngineError], str]] = [
    (
        "HTML",
        "text/html; charset=utf-8",
        HTML,
        MalformedResponseError,
        "the answer is not an event stream (text/html; charset=utf-8): 'HTML page: Welcome to nginx!'",
    ),
    (
        "HTML without a type",
        None,
        HTML,
        MalformedResponseError,
        "the answer is not an event stream (no content type): 'HTML page: Welcome to nginx!'",
    ),
    (
        "HTML as an event stream",
        "text/event-stream",
        HTML,
        MalformedResponseError,
        "the answer is not an event stream (text/event-stream): 'HTML page: Welcome to nginx!'",
    ),
    (
        "JSON with an error",
        "application/json",
        b'{"error": {"type": "overloaded_error"}}',
        OverloadedError,
        "the gateway sent an error without saying why",
    ),
    (
        "JSON with an error, as text",
        "text/plain",
        b'{"error": {"message": "busy", "code": 429}}\n',
        RateLimitError,
        "busy",
    ),
    ("JSON with an error, no type", None, b'{"error": "busy"}', ProviderError, "busy"),
    (
        "a whole completion",
        "application/json",
        orjson.dumps(completion({"content": "4"})),
        MalformedResponseError,
        "the answer is not an event stream (application/json)",
    ),
    (
        "JSON that is a list",
        "application/json",
        b"[1]",
        MalformedResponseError,
        "the answer is not an event stream (application/json): '[1]'",
    ),
    ("broken JSON", "application/json", b'{"error":', MalformedResponseError, "the answer is not an event stream"),
    (
        "garbage as text",
        "text/plain",
        b"upstream timeout\n",
        MalformedResponseError,
        "the answer is not an event stream (text/plain): 'upstream timeout'",
    ),
    (
        "garbage as an event stream",
        "text/event-stream",
        b"\x00\xff\xfe\n\n\n",
        MalformedResponseError,
        "the answer is not an event stream",
    ),
    (
        "fields without data",
        "text/event-stream",
        b"event: error\nid: 5\n\n",
        MalformedResponseError,
        "the answer is not an event stream",
    ),
    (
        "XML",
        "application/xml",
        b"<error>no</error>",
        MalformedResponseError,
        "the answer is not an event stream (application/xml): '<error>no</error>'",
    ),
    ("an empty HTML page", "text/html", b"", EmptyResponseError, "the gateway answered HTTP 200 with an empty body"),
    ("nothing at all", None, b"", EmptyResponseError, "the gateway answered HTTP 200 with an empty body"),
]


@pytest.mark.parametrize(
    ("content_type", "data", "failure", "message"), [body[1:] for body in FOREIGN], ids=[body[0] for body in FOREIGN]
)
def test_bodies_that_are_no_stream(
    content_type: str | None, data: bytes, failure: type[ModelEngineError], message: str
) -> None:
    for pieces in ([data], cut(data, range(len(data)))):
        result = run(pieces, stream_decoder(head(content_type)))
        assert result.failure is not None
        assert type(result.failure) is failure
        assert result.failure.message.startswith(message)
        assert result.chunks == []


@pytest.mark.parametrize(
    "content_type",
    [None, "text/event-stream", "Text/Event-Stream ; charset=UTF-8", "text/plain", "application/octet-stream", ""],
)
def test_streams_come_under_many_names(content_type: str | None) -> None:
    result = run(sse(text("4"), DONE), stream_decoder(head(content_type)))
    assert (result.response.content, result.failure) == ("4", None)


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
def test_the_error_about_a_foreign_body_keeps_the_start_of_it(content_type: str) -> None:
    result = run([b"<p>" + b"x" * 100_000] * 3, stream_decoder(head(content_type)))
    assert isinstance(result.failure, MalformedResponseError)
    assert len(result.failure.body) == 1000
    assert len(result.failure.message) < 400


def test_an_endless_page_fails_before_its_end() -> None:
    decoder = stream_decoder(head("text/html"))
    fed = 0
    while decoder.failure is None:
        assert decoder.feed(b"<p>more</p>" * 100) == []
        fed += 1100
    assert 64 * 1024 <= fed < 66 * 1024
    assert not decoder.finished


def test_azures_first_frame_has_no_choices_and_no_ids() -> None:
    first = {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    chunks = only(first, text("4", created=5))

    assert chunks[0] == LLMResponseChunk(extra={"prompt_filter_results": [{"prompt_index": 0}]})
    assert [(each.request_id, each.model) for each in chunks] == [(None, None), ("c1", "tiny")]


def test_the_head_lasts_until_a_frame_says_something_else() -> None:
    chunks = only(text("a", created=5), {"choices": [choice(content="b")]}, text("c", id="", model=None, created="x"))
    assert {id(each.head) for each in chunks} == {id(chunks[0].head)}
    assert (chunks[2].request_id, chunks[2].model, chunks[2].head.created) == ("c1", "tiny", 5)


def test_mockllm_has_another_id_on_each_frame() -> None:
    chunks = only(
        chunk(choice(role="assistant", content=None), id="1"),
        chunk(choice(role=None, content="4"), id="2"),
        chunk(choice(role=None, content=None, finish="stop"), id="3"),
    )
    assert [each.request_id for each in chunks] == ["1", "2", "3"]
    assert [repr(each) for each in chunks] == [
        "LLMResponseChunk(role='assistant')",
        "LLMResponseChunk(delta_content='4')",
        "LLMResponseChunk(finish_reason='stop')",
    ]


@pytest.mark.parametrize(
    "frame", [{"choices": None}, {"choices": []}, {}, {"choices": [{}]}, {"choices": [{"delta": None}]}]
)
def test_frames_that_say_nothing_give_no_chunk(frame: dict[str, Any]) -> None:
    assert only(frame, text("4")) == [LLMResponseChunk(delta_content="4")]


def test_null_members_are_missing_members() -> None:
    nulls: dict[str, Any] = dict.fromkeys(
        ["role", "content", "refusal", "tool_calls", "function_call", "reasoning", "x"]
    )
    frame = {
        "choices": [{"index": None, "delta": nulls, "finish_reason": None, "logprobs": None}],
        "usage": None,
        "error": None,
    }
    assert only(frame, text("4")) == [LLMResponseChunk(delta_content="4")]


@pytest.mark.parametrize(
    "delta", [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"reasoning": "hm", "reasoning_content": "hm"}]
)
def test_reasoning_has_two_names(delta: dict[str, Any]) -> None:
    assert only(chunk(choice(**delta))) == [LLMResponseChunk(delta_reasoning="hm")]


def test_reasoning_and_text_come_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
    parts = [thinking, {"type": "text", "text": "4"}, {"type": "image"}]
    assert only(chunk(choice(content=parts))) == [LLMResponseChunk(delta_content="4", delta_reasoning="hm")]


def test_a_refusal_is_output() -> None:
    response = run(sse(chunk(choice(refusal="I ")), chunk(choice(refusal="can't")), DONE)).response
    assert (response.refusal, response.content) == ("I can't", "")


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([text("4", "stop"), chunk(usage=USAGE)], id="own frame"),
        pytest.param([text("4"), text("", "stop", usage=USAGE)], id="finish frame"),
        pytest.param(
            [text("4", usage={**USAGE, "completion_tokens": 1}), text("", "stop", usage=USAGE)], id="every frame"
        ),
        pytest.param(LITELLM, id="own frame with a choice"),
        pytest.param([text("4", "stop", usage=USAGE), chunk(usage=None)], id="null after it"),
    ],
)
def test_usage_is_absolute_wherever_it_stands(frames: list[dict[str, Any]]) -> None:
    assert run(sse(*frames, DONE)).response.usage == COUNTS


def test_choices_interleave_in_any_order() -> None:
    response = run(
        sse(
            chunk(choice(1, content="b")),
            chunk(choice(0, content="a"), choice(2, content="c")),
            chunk(choice(2, content="C", finish="stop"), choice(1, content="B")),
            chunk(choice(1, finish="length")),
            chunk(choice(0, content="A", finish="stop")),
        )
    ).response
    assert [(each.index, each.content, each.finish_reason) for each in response.choices] == [
        (0, "aA", "stop"),
        (1, "bB", "length"),
        (2, "cC", "stop"),
    ]
    assert (response.content, response.finish_reason) == ("aA", "stop")


def test_a_choice_without_an_index_is_where_it_stands() -> None:
    chunks = only(chunk(choice(None, content="a"), choice(None, content="b")))
    assert [(each.index, each.delta_content) for each in chunks] == [(0, "a"), (1, "b")]


def test_logprobs_are_joined() -> None:
    first, second = {"token": "4", "logprob": -0.1}, {"token": "2", "logprob": -0.2}
    frames = [
        chunk({**choice(content="4"), "logprobs": {"content": [first], "refusal": None}}),
        chunk({**choice(content="2"), "logprobs": {"content": [second]}}),
        chunk({**choice(finish="stop"), "logprobs": None}),
    ]
    assert run(sse(*frames)).response.logprobs == {"content": [first, second], "refusal": None}


def test_members_without_a_name_are_kept() -> None:
    frames = [
        chunk({**choice(content="4", annotations=[1]), "token_ids": [7]}, nvext={"timing": 5}, service_tier=None),
        chunk({**choice(annotations=[2], finish="stop"), "stop_reason": "END"}, timings={"ms": 1}, obfuscation="xx"),
    ]
    result = run(sse(*frames), stream_decoder(head(**{"X-Request-Id": "r"})))

    assert result.chunks[0].choice_extra == {"annotations": [1], "token_ids": [7]}
    assert result.chunks[0].extra == {"nvext": {"timing": 5}}
    assert result.response.choices[0].extra == {"annotations": [1, 2], "token_ids": [7], "stop_reason": "END"}
    assert result.response.stop_sequence == "END"
    assert result.response.provider_metadata == {
        "nvext": {"timing": 5},
        "timings": {"ms": 1},
        "response_headers": {"x-request-id": "r", "content-type": "text/event-stream"},
    }


def test_a_stop_token_is_no_stop_sequence() -> None:
    assert run(sse(chunk({**choice(content="4", finish="stop"), "stop_reason": 128001}))).response.stop_sequence is None


MALFORMED: list[tuple[str, Any]] = [
    ("choices", 5),
    ("choices", {}),
    ("choices", "text"),
    ("choices", [5]),
    ("choices", [None]),
    ("choices", [[]]),
    ("choices.0.index", "0"),
    ("choices.0.index", 0.0),
    ("choices.0.index", True),
    ("choices.0.index", 1e30),
    ("choices.0.delta", []),
    ("choices.0.delta", "4"),
    ("choices.0.finish_reason", 1),
    ("choices.0.finish_reason", {}),
    ("choices.0.logprobs", [1]),
    ("choices.0.delta.content", 5),
    ("choices.0.delta.content", {"text": "4"}),
    ("choices.0.delta.content", [5]),
    ("choices.0.delta.content", [{"text": 5}]),
    ("choices.0.delta.content", [{"thinking": "hm"}]),
    ("choices.0.delta.content", [{"thinking": ["hm"]}]),
    ("choices.0.delta.reasoning", {}),
    ("choices.0.delta.reasoning_content", []),
    ("choices.0.delta.refusal", False),
    ("choices.0.delta.role", 5),
    ("choices.0.delta.tool_calls", {}),
    ("choices.0.delta.tool_calls", [5]),
    ("choices.0.delta.tool_calls", [{"index": "0"}]),
    ("choices.0.delta.tool_calls", [{"index": 18446744073709551616.0}]),
    ("choices.0.delta.tool_calls", [{"id": 5}]),
    ("choices.0.delta.tool_calls", [{"type": 5}]),
    ("choices.0.delta.tool_calls", [{"function": []}]),
    ("choices.0.delta.tool_calls", [{"function": {"name": 5}}]),
    ("choices.0.delta.tool_calls", [{"function": {"arguments": 5}}]),
    ("choices.0.delta.tool_calls", [{"function": {"arguments": []}}]),
    ("choices.0.delta.function_call", "f"),
]


def replaced(value: Any, path: str, by: Any) -> Any:
    """A copy of a JSON value with the member at a path, ``choices.0.index``, replaced."""
    value = copy.deepcopy(value)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    target = value
    for step in way:
        target = target[step]
    target[last] = by
    return value


@pytest.mark.parametrize(("path", "value"), MALFORMED)
def test_members_of_the_wrong_type_are_malformed(path: str, value: Any) -> None:
    frame = text("4", "stop")
    result = run(sse(replaced(frame, path, value), DONE))
    assert type(result.failure) is MalformedResponseError
    assert (result.chunks, result.failure.body) == ([], orjson.dumps(replaced(frame, path, value)).decode())

    whole = completion({"content": "4"})
    with pytest.raises(MalformedResponseError) as caught:
        decode_completion(unary(replaced(whole, path.replace("delta", "message"), value)))
    assert isinstance(caught.value.body, str)


@pytest.mark.parametrize(
    ("message", "finish", "content"),
    [
        ({"content": "4"}, "stop", "4"),
        ({"content": ""}, "stop", ""),
        ({"content": ""}, None, ""),
        ({"content": None, "refusal": "no"}, "content_filter", ""),
        ({"content": None}, "content_filter", ""),
        (None, "content_filter", ""),
        ({"content": None, "tool_calls": [fragment(None, "a", "f")]}, "tool_calls", ""),
        ({"content": None, "reasoning": "hm"}, "length", ""),
        ({"content": None, "audio": {"id": "x"}}, "stop", ""),
        ({"content": [{"type": "text", "text": "4"}]}, "stop", "4"),
    ],
)
def test_whole_answers(message: dict[str, Any] | None, finish: str | None, content: str) -> None:
    response = decode_completion(unary(completion(message, finish)))
    assert (response.content, response.finish_reason) == (content, finish)


@pytest.mark.parametrize("message", [{"content": None}, {}, None, {"role": "assistant", "tool_calls": None}])
def test_a_message_that_says_nothing_is_malformed(message: dict[str, Any] | None) -> None:
    with pytest.raises(MalformedResponseError, match="neither content nor reasoning nor tool calls"):
        decode_completion(unary(completion(message)))


def test_a_whole_answer_has_all_that_the_body_says() -> None:
    body = completion(
        {"role": "assistant", "content": "4", "reasoning_content": "hm", "annotations": [1]},
        created=5,
        model="tiny",
        usage=USAGE,
        system_fingerprint="fp",
    )
    response = decode_completion(unary(body, **{"X-Request-Id": "r", "Set-Cookie": "secret"}))

    assert response == LLMResponse(
        "4", "hm", model="tiny", finish_reason="stop", usage=COUNTS, choices=response.choices
    )
    assert (response.request_id, response.created, response.gateway_request_id) == ("c1", 5, "r")
    assert response.choices[0].extra == {"annotations": [1]}
    assert response.provider_metadata == {
        "system_fingerprint": "fp",
        "response_headers": {"content-type": "application/json", "x-request-id": "r"},
    }


WHOLE_FAILURES: list[tuple[str, str, bytes, type[ModelEngineError], str]] = [
    ("empty", "application/json", b"", EmptyResponseError, "the gateway answered HTTP 200 with an empty body"),
    ("white space", "application/json", b" \n", EmptyResponseError, "the gateway answered"),
    (
        "HTML",
        "text/html",
        HTML,
        MalformedResponseError,
        "the answer is not JSON (text/html): 'HTML page: Welcome to nginx!'",
    ),
    ("text", "text/plain", b"hello", MalformedResponseError, "the answer is not JSON (text/plain): 'hello'"),
    (
        "a stream",
        "text/event-stream",
        sse(text("4"), DONE),
        MalformedResponseError,
        "the answer is not JSON (text/event-stream): 'data: {",
    ),
    ("a list", "application/json", b"[]", MalformedResponseError, "the answer is a list, not an object"),
    ("null", "application/json", b"null", MalformedResponseError, "the answer is null, not an object"),
    ("no choices", "application/json", b"{}", MalformedResponseError, "the completion has no choices"),
    ("empty choices", "application/json", b'{"choices": []}', MalformedResponseError, "the completion has no choices"),
    (
        "an error",
        "application/json",
        b'{"error": {"message": "capacity", "type": "server_error", "code": 503}}',
        ServerError,
        "capacity",
    ),
    ("an error as a text", "text/plain", b'{"error": "no"}', ProviderError, "no"),
    ("an error object", "application/json", b'{"object": "error", "message": "no", "code": 429}', RateLimitError, "no"),
    ("NaN", "application/json", b'{"choices": [NaN]}', MalformedResponseError, "the answer is not JSON"),
    ("nested without end", "application/json", b"[" * 100_000, MalformedResponseError, "the answer is not JSON"),
]


@pytest.mark.parametrize(
    ("content_type", "body", "failure", "message"),
    [each[1:] for each in WHOLE_FAILURES],
    ids=[each[0] for each in WHOLE_FAILURES],
)
def test_whole_answers_that_are_none(
    content_type: str, body: bytes, failure: type[ModelEngineError], message: str
) -> None:
    with pytest.raises(ModelEngineError) as caught:
        decode_completion(unary(body, content_type))
    assert type(caught.value) is failure
    assert caught.value.message.startswith(message)


def test_json_is_read_whatever_its_label() -> None:
    assert decode_completion(unary(completion({"content": "4"}), "text/plain")).content == "4"
    assert read_object(unary({"a": 1}, "text/html")) == {"a": 1}


def test_the_error_about_a_large_answer_keeps_the_start_of_it() -> None:
    for body in (completion({"content": "é" * 100_000}) | {"choices": []}, {"error": {"message": "é" * 100_000}}):
        with pytest.raises(ModelEngineError) as caught:
            decode_completion(unary({**body, "padding": "x" * 100_000}))
        assert len(caught.value.body) == 1000
        assert len(caught.value.message) <= 300


@dataclass
class Written:
    """One choice of an answer, in the pieces in which a stream sends it."""

    content: list[str]
    reasoning: list[str]
    refusal: list[str]
    calls: list[tuple[str, str, list[str]]]
    """Id, name, pieces of the arguments."""
    logprobs: list[int]
    finish: str


@dataclass
class Style:
    """How a server writes."""

    role: str
    reasoning: str
    calls: str
    usage: str
    nulls: bool
    done: bool


PIECES = st.lists(st.text(min_size=1, max_size=5), max_size=3)
WRITTEN = st.builds(
    Written,
    content=PIECES,
    reasoning=PIECES,
    refusal=PIECES,
    calls=st.lists(
        st.tuples(
            st.uuids().map(str), st.sampled_from(["f", "g"]), st.lists(st.text(min_size=1, max_size=4), max_size=3)
        ),
        max_size=3,
        unique_by=lambda each: each[0],
    ),
    logprobs=st.lists(st.integers(0, 9), max_size=3),
    finish=st.sampled_from(["stop", "length", "tool_calls", "content_filter", "something new"]),
)
STYLES = st.builds(
    Style,
    role=st.sampled_from(["never", "first", "always"]),
    reasoning=st.sampled_from(["reasoning", "reasoning_content"]),
    calls=st.sampled_from(["indexed", "index 0", "no index", "whole", "repeated"]),
    usage=st.sampled_from(["never", "own frame", "finish frame", "every frame"]),
    nulls=st.booleans(),
    done=st.booleans(),
)


def message_of(written: Written, style: Style) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(written.content)}
    if written.reasoning:
        message[style.reasoning] = "".join(written.reasoning)
    if written.refusal:
        message["refusal"] = "".join(written.refusal)
    if written.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": "".join(pieces)}}
            for id, name, pieces in written.calls
        ]
    return message


def deltas_of(written: Written, style: Style) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{style.reasoning: piece} for piece in written.reasoning]
    deltas += [{"content": piece} for piece in written.content]
    deltas += [{"refusal": piece} for piece in written.refusal]
    for position, (id, name, pieces) in enumerate(written.calls):
        index = {"indexed": position, "index 0": 0, "repeated": position}.get(style.calls)
        if style.calls == "whole":
            deltas.append({"tool_calls": [fragment(None, id, name, "".join(pieces))]})
            continue
        deltas.append({"tool_calls": [fragment(index, id, name, "")]})
        for piece in pieces:
            again = style.calls == "repeated"
            deltas.append({"tool_calls": [fragment(index, id if again else None, name if again else None, piece)]})
    if style.role == "first":
        deltas.insert(0, {"role": "assistant", "content": ""})
    if style.role == "always":
        deltas = [{"role": "assistant", **delta} for delta in deltas]
    if style.nulls:
        deltas = [{"content": None, "tool_calls": None, "refusal": None, **delta} for delta in deltas]
    return deltas


def logprobs_of(tokens: list[int]) -> dict[str, Any]:
    return {"content": [{"token": str(token), "logprob": -0.5} for token in tokens], "refusal": None}


def frames_of(choices: list[Written], style: Style, order: Any) -> list[dict[str, Any]]:
    """The frames of all choices, each in its order, interleaved at random."""
    queues: list[list[dict[str, Any]]] = []
    for index, written in enumerate(choices):
        queue = [choice(index, **delta) for delta in deltas_of(written, style)]
        queue += [{**choice(index), "logprobs": logprobs_of([token])} for token in written.logprobs]
        queues.append([*queue, choice(index, written.finish)])
    frames = []
    while any(queues):
        queue = order.choice([queue for queue in queues if queue])
        frames.append(chunk(queue.pop(0)))
    if style.usage == "every frame":
        frames = [{**frame, "usage": {**USAGE, "completion_tokens": 1}} for frame in frames]
    if style.usage in ("every frame", "finish frame"):
        frames[-1]["usage"] = USAGE
    if style.usage == "own frame":
        frames.append(chunk(usage=USAGE))
    return frames


@given(choices=st.lists(WRITTEN, min_size=1, max_size=3), style=STYLES, order=st.randoms(use_true_random=False))
def test_a_whole_answer_equals_its_stream(choices: list[Written], style: Style, order: Any) -> None:
    body = {
        "id": "other",
        "model": "tiny",
        "choices": [
            {
                "index": index,
                "message": message_of(written, style),
                "finish_reason": written.finish,
                "logprobs": logprobs_of(written.logprobs) if written.logprobs else None,
            }
            for index, written in enumerate(choices)
        ],
        "usage": None if style.usage == "never" else USAGE,
    }
    streamed = run(sse(*frames_of(choices, style, order), *([DONE] if style.done else [])))

    assert streamed.failure is None
    assert streamed.response == decode_completion(unary(body))


FRAME = chunk(
    {
        "index": 0,
        "delta": {
            "role": "assistant",
            "content": "4",
            "reasoning": "hm",
            "refusal": "no",
            "tool_calls": [fragment(0, "a", "f", "{}")],
            "function_call": None,
        },
        "message": {
            "content": [{"type": "thinking", "thinking": [{"text": "hm"}]}],
            "tool_calls": [fragment(0, "a", "f")],
        },
        "finish_reason": "stop",
        "logprobs": {"content": [{"token": "4"}]},
    },
    created=5,
    usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 1}},
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for name, member in members for below in paths(member, (*path, name)))]


@st.composite
def mutated_frames(draw: st.DrawFn) -> Any:
    """A frame with some of its members replaced by something else, or left out."""
    frame: Any = copy.deepcopy(FRAME)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(frame)))
        if not path:
            return draw(JSON)
        target = frame
        for step in path[:-1]:
            target = target[step]
        if draw(st.booleans()):
            target[path[-1]] = draw(JSON)
        else:
            del target[path[-1]]
    return frame


@given(st.lists(mutated_frames(), max_size=4))
@example([{"choices": [{"delta": {"tool_calls": [{"function": None}]}}]}])
def test_of_any_frames_only_typed_errors_come_out(frames: list[Any]) -> None:
    result = run(sse(*frames, DONE))
    assert result.failure is None or isinstance(result.failure, ModelEngineError)
    assert isinstance(result.response, LLMResponse)
    for frame in frames:
        with contextlib.suppress(ModelEngineError):
            decode_completion(unary(frame))


@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"data: ", b"\n", b"\n\n", b"event: error\n", b'{"error"', b"{}", b"[DONE]"])
    )
)
def test_of_any_bytes_only_typed_errors_come_out(pieces: list[bytes]) -> None:
    for content_type in ("text/event-stream", "text/html"):
        result = run(pieces, stream_decoder(head(content_type)))
        assert result.finished or isinstance(result.failure, ModelEngineError) or result.chunks
    with contextlib.suppress(ModelEngineError):
        decode_completion(unary(b"".join(pieces)))


EVENTS = st.sampled_from(
    [
        sse(text("4")),
        sse(text("é\u2028\r")),
        sse(chunk(choice(role="assistant", content=None))),
        sse(chunk(choice(1, reasoning="hm"))),
        sse(chunk(choice(tool_calls=[fragment(0, "a", "f", "{}")]))),
        sse(text("", "stop")),
        sse(chunk(usage=USAGE)),
        sse({"error": {"type": "server_error"}}),
        b"event: error\ndata: {}\n\n",
        b"data: {\ndata: }\n\n",
        b"data: oops\n\n",
        b"data:\n\n",
        b"data: " + b"x" * 300 + b"\n\n",
        b": ping\n\n",
        b"id: 1\nretry: 5\n\n",
        b"garbage\n",
        DONE,
    ]
)


@given(
    events=st.lists(EVENTS, max_size=6),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    length=st.none() | st.integers(0, 400),
    places=st.lists(st.integers(0, 4000), max_size=12),
)
def test_reads_may_be_cut_anywhere(
    events: list[bytes], line_end: bytes, start: bytes, length: int | None, places: list[int]
) -> None:
    data = (start + b"".join(events).replace(b"\n", line_end))[:length]

    def outcome(pieces: Iterable[bytes]) -> tuple[Any, ...]:
        return run(pieces, ChatDecoder(head(), max_event_bytes=250)).outcome

    assert outcome(cut(data, places)) == outcome([data])
    assert outcome(cut(data, range(len(data)))) == outcome([data])
