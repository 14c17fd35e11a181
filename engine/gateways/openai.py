"""The OpenAI family: chat completions, embeddings, models, as OpenAI documents them and others speak them."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

from ..decode import ChatDecoder, decode_completion, read_object
from ..errors import MalformedResponseError
from ..exchange import Operation
from ..types import EmbeddingResponse, LLMResponse, ModelInfo
from ..usage import read_usage
from ..verdict import Answer, plain_headers
from .base import Gateway, Request


class OpenAICompatibleGateway(Gateway):
    """A server that speaks OpenAI's chat completions at an address the user gives: vLLM, llama.cpp, LiteLLM and others.

    Args:
        name: What to call it in messages and telemetry.
    """

    name = "openai-compatible"
    chat = Operation("chat", "POST", "/v1/chat/completions")
    embeddings = Operation("embeddings", "POST", "/v1/embeddings")
    models = Operation("models", "GET", "/v1/models", repeatable=True)
    health = Operation("health", "GET", "/v1/models", repeatable=True)  # the family has no health path of its own

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            self.name = name  # type: ignore[misc]  # the one dialect that serves under many names

    def encode_chat(self, model: str, messages: list[Any], params: Mapping[str, Any], *, stream: bool) -> Request:
        body: dict[str, Any] = {"model": model, "messages": messages, **params}
        if stream:
            body["stream"] = True
            if body.get("stream_options", ...) is ...:
                body["stream_options"] = {"include_usage": True}
            elif body["stream_options"] is None:
                del body["stream_options"]  # for servers that reject the member
        else:
            body.pop("stream", None)
            body.pop("stream_options", None)  # only legal with a stream
        return Request(self.chat, body)

    def encode_embeddings(self, model: str, inputs: Any, params: Mapping[str, Any]) -> Request:
        # base64 is a quarter of the bytes and exact; servers that do not know it send plain lists
        return Request(self.embeddings, {"model": model, "input": inputs, "encoding_format": "base64", **params})

    def decode_object(self, answer: Answer) -> dict[str, Any]:
        return read_object(answer)

    def decode_chat(self, answer: Answer) -> LLMResponse:
        return decode_completion(answer)

    def decode_embeddings(self, answer: Answer) -> EmbeddingResponse:
        payload = read_object(answer)
        entries = payload.get("data")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise MalformedResponseError("the embeddings are not a list of objects", body=payload)
        ordered = sorted(enumerate(entries), key=lambda pair: _position(pair[1], pair[0]))
        return EmbeddingResponse(
            embeddings=tuple(_vector(entry.get("embedding")) for _, entry in ordered),
            model=payload["model"] if isinstance(payload.get("model"), str) else None,
            usage=read_usage(payload.get("usage")),
            provider_metadata={"response_headers": plain_headers(answer.headers)},
            gateway_request_id=answer.headers.get("x-request-id"),
        )

    def decode_models(self, answer: Answer) -> tuple[ModelInfo, ...]:
        cards = read_object(answer).get("data")
        if not isinstance(cards, list):
            raise MalformedResponseError("the models are not a list", body=cards)
        return tuple(_model(card) for card in cards)

    def stream_decoder(self, head: Answer) -> ChatDecoder:
        return ChatDecoder(head)


class OpenAIGateway(OpenAICompatibleGateway):
    """OpenAI itself, and what stands in for it at another base URL."""

    name = "openai"
    base_url = "https://api.openai.com"
    key_variables = ("OPENAI_API_KEY",)


def _position(entry: dict[str, Any], default: int) -> int:
    index = entry.get("index")
    return index if type(index) is int else default


def _vector(embedding: Any) -> list[float]:
    """The numbers of an embedding: a list, or base64 of little-endian float32 (as the openai SDK reads it)."""
    if isinstance(embedding, list) and all(type(number) in (float, int) for number in embedding):
        return [float(number) for number in embedding]
    if isinstance(embedding, str):
        try:
            packed = base64.b64decode(embedding, validate=True)
        except (binascii.Error, ValueError):
            packed = b"?"
        if len(packed) % 4 == 0:
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    raise MalformedResponseError("an embedding is neither a list of numbers nor base64 of float32")


def _model(card: Any) -> ModelInfo:
    if not isinstance(card, dict) or not isinstance(card.get("id"), str):
        raise MalformedResponseError("a model has no id", body=card)
    created, owner = card.get("created"), card.get("owned_by")
    return ModelInfo(
        id=card["id"],
        created=created if type(created) is int else None,
        owned_by=owner if isinstance(owner, str) else None,
        extra={name: value for name, value in card.items() if name not in ("id", "created", "owned_by", "object")},
    )
