"""The OpenAI family: requests as they go out, answers as they come in."""

from __future__ import annotations

import base64
import contextlib
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock.engine.errors import (
    EmptyResponseError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    RateLimitError,
)
from penstock.engine.gateways import OpenAICompatibleGateway, OpenAIGateway, find_gateway, gateway_names
from penstock.engine.types import EmbeddingResponse, ModelInfo, UsageInfo
from penstock.engine.verdict import Answer

GATEWAY = OpenAIGateway()
MESSAGES = [{"role": "user", "content": "Hi"}]


def answer(body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(200, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), raw, 0.0)


def chat_body(*, stream: bool, **params: Any) -> dict[str, Any]:
    request = GATEWAY.encode_chat("tiny", MESSAGES, params, stream=stream)
    assert request.operation.path == "/v1/chat/completions"
    assert request.body is not None
    return dict(request.body)


CHAT = {"model": "tiny", "messages": MESSAGES}
STREAM = {**CHAT, "stream": True}


@pytest.mark.parametrize(
    ("params", "unary", "streamed"),
    [
        ({}, CHAT, {**STREAM, "stream_options": {"include_usage": True}}),
        ({"stream_options": None}, CHAT, STREAM),
        ({"stream_options": {"include_usage": False}}, CHAT, {**STREAM, "stream_options": {"include_usage": False}}),
        (
            {"temperature": 0, "stop": None, "nvext": {"a": 1}},
            {**CHAT, "temperature": 0, "stop": None, "nvext": {"a": 1}},
            {
                **STREAM,
                "temperature": 0,
                "stop": None,
                "nvext": {"a": 1},
                "stream_options": {"include_usage": True},
            },
        ),
    ],
)
def test_the_body_of_a_chat(params: dict[str, Any], unary: dict[str, Any], streamed: dict[str, Any]) -> None:
    assert chat_body(stream=False, **params) == unary
    assert chat_body(stream=True, **params) == streamed


def test_stream_is_what_the_method_says() -> None:
    assert (GATEWAY.encode_chat("tiny", MESSAGES, {"stream": True}, stream=True).body or {})["stream"] is True
    assert GATEWAY.encode_chat("tiny", MESSAGES, {"stream": False}, stream=False).body == CHAT
    with pytest.raises(
        InvalidRequestError, match=r"stream is always False in chat_completion\(\) or call\(\)"
    ) as caught:
        GATEWAY.encode_chat("tiny", MESSAGES, {"stream": True}, stream=False)
    assert (caught.value.param, caught.value.phase) == ("stream", "not_sent")
    with pytest.raises(InvalidRequestError, match=r"stream is always True in stream_call\(\)"):
        GATEWAY.encode_chat("tiny", MESSAGES, {"stream": False}, stream=True)


def test_the_body_of_an_embedding() -> None:
    request = GATEWAY.encode_embeddings("tiny", ["a", "b"], {"dimensions": 2})
    assert request.body == {"model": "tiny", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2}
    assert GATEWAY.encode_embeddings("tiny", "a", {"encoding_format": "float"}).body == {
        "model": "tiny",
        "input": "a",
        "encoding_format": "float",
    }


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.mark.parametrize(
    ("data", "vectors"),
    [
        ([{"index": 0, "embedding": [1.0, -2]}, {"index": 1, "embedding": [0.5, 0]}], ([1.0, -2.0], [0.5, 0.0])),
        (
            [{"index": 0, "embedding": packed(1, -2)}, {"index": 1, "embedding": packed(0.5, 0)}],
            ([1.0, -2.0], [0.5, 0.0]),
        ),
        ([{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}], ([1.0], [2.0])),
        ([{"embedding": [1.0]}, {"embedding": [2.0], "index": None}], ([1.0], [2.0])),
        ([], ()),
    ],
)
def test_embeddings_come_in_the_order_of_the_input(data: Any, vectors: Any) -> None:
    assert GATEWAY.decode_embeddings(answer({"object": "list", "data": data})).embeddings == vectors


def test_embeddings_have_all_that_the_answer_says() -> None:
    body = {"data": [{"embedding": [1.0]}], "model": "tiny", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    response = GATEWAY.decode_embeddings(answer(body, X_Request_Id="r"))

    assert response == EmbeddingResponse(([1.0],), "tiny", UsageInfo(2, 0, 2))
    assert (response.gateway_request_id, response.provider_metadata) == (
        "r",
        {"response_headers": {"x-request-id": "r"}},
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": [5]},
        {"data": [None]},
        {"data": [{}]},
        {"data": [{"embedding": None}]},
        {"data": [{"embedding": {}}]},
        {"data": [{"embedding": ["1"]}]},
        {"data": [{"embedding": [True]}]},
        {"data": [{"embedding": [[1.0]]}]},
        {"data": [{"embedding": "AAA"}]},
        {"data": [{"embedding": "AAAA"}]},
        {"data": [{"embedding": "é"}]},
        {"data": [{"embedding": "!!!!"}]},
        {"data": [{"embedding": [1.0], "index": "0"}]},
        {"data": [{"embedding": [1.0]}], "model": 5},
        b"[]",
        b"<html>",
    ],
)
def test_embeddings_of_the_wrong_shape_are_malformed(body: Any) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        GATEWAY.decode_embeddings(answer(body))
    assert caught.value.body == answer(body).body.decode()


def test_models() -> None:
    cards = [{"id": "a", "object": "model", "created": 5, "owned_by": "me", "root": "b"}, {"id": "c", "created": "now"}]
    assert GATEWAY.decode_models(answer({"data": cards, "models": []})) == (
        ModelInfo("a", 5, "me", {"root": "b"}),
        ModelInfo("c"),
    )


@pytest.mark.parametrize(
    "body", [{}, {"data": "a"}, {"data": ["a"]}, {"data": [{}]}, {"data": [{"id": 5}]}, {"data": [{"id": ""}]}]
)
def test_models_of_the_wrong_shape_are_malformed(body: Any) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        GATEWAY.decode_models(answer(body))
    assert caught.value.body == orjson.dumps(body).decode()


DECODERS = [GATEWAY.decode_object, GATEWAY.decode_chat, GATEWAY.decode_embeddings, GATEWAY.decode_models]


@pytest.mark.parametrize("decode", DECODERS)
def test_an_error_in_a_success_is_an_error(decode: Any) -> None:
    with pytest.raises(RateLimitError, match="slow down"):
        decode(answer({"error": {"message": "slow down", "code": 429}, "data": [], "choices": []}))
    with pytest.raises(EmptyResponseError):
        decode(answer(b""))


def test_a_malformed_answer_is_kept_in_part() -> None:
    with pytest.raises(MalformedResponseError) as caught:
        GATEWAY.decode_embeddings(answer({"data": ["x" * 100_000]}))
    assert len(caught.value.body) == 1000


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
)
NAMES = st.sampled_from(
    ["data", "embedding", "index", "id", "model", "usage", "created", "owned_by", "object", "choices"]
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)


@given(ANYTHING | st.builds(lambda entries: {"data": entries}, st.lists(st.dictionaries(NAMES, ANYTHING))))
def test_of_any_json_only_typed_errors_come_out(body: Any) -> None:
    for decode in DECODERS:
        with contextlib.suppress(ModelEngineError):
            decode(answer(body))


def test_gateways_are_found_by_name() -> None:
    assert gateway_names() == ("openai", "openai-compatible", "nim", "modelgov", "atrium", "omnigate", "keeptrusts")
    for name in gateway_names():
        gateway = find_gateway(name)
        assert gateway is not None
        assert gateway.name == name
    assert find_gateway("acme") is None


def test_a_compatible_server_has_the_name_it_is_given() -> None:
    assert (OpenAICompatibleGateway("vllm").name, OpenAICompatibleGateway().name) == ("vllm", "openai-compatible")
    assert OpenAICompatibleGateway.base_url is None
