"""The OpenAI family: chat completions, embeddings, models, as OpenAI documents them and others speak them."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

from ..body import excerpt, read_object
from ..decode import decode_completion, stream_decoder
from ..errors import InvalidRequestError, MalformedResponseError
from ..exchange import Operation, StreamDecoder
from ..members import list_of, text_of, whole_of
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
            self.name = name

    def encode_chat(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        body: dict[str, Any] = {"model": model, "messages": messages, **params}
        if body.pop("stream", stream) not in (stream, None):
            asked, other = ("stream_call()", "True") if stream else ("chat_completion() or call()", "False")
            raise InvalidRequestError(
                f"stream is always {other} in {asked}: leave it out", param="stream", phase="not_sent"
            )
        options = body.pop("stream_options", {"include_usage": True})
        if stream:
            body["stream"] = True
            if options is not None:  # None is for servers that reject the member
                body["stream_options"] = options
        return Request(self.chat, body)

    def encode_embeddings(self, model: str | None, inputs: Any, params: Mapping[str, Any]) -> Request:
        # base64 is a quarter of the bytes and exact; servers that do not know it send plain lists
        return Request(self.embeddings, {"model": model, "input": inputs, "encoding_format": "base64", **params})

    def decode_object(self, answer: Answer) -> dict[str, Any]:
        return read_object(answer, self.judge_event)

    def decode_chat(self, answer: Answer) -> LLMResponse:
        return decode_completion(answer, judge=self.judge_event)

    def decode_embeddings(self, answer: Answer) -> EmbeddingResponse:
        payload = read_object(answer, self.judge_event)
        try:
            ordered = sorted(enumerate(_objects(payload)), key=_place)
            vectors = tuple(_vector(entry.get("embedding")) for _, entry in ordered)
            model = text_of(payload, "model")
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise
        return EmbeddingResponse(
            embeddings=vectors,
            model=model,
            usage=read_usage(payload.get("usage")),
            provider_metadata={"response_headers": plain_headers(answer.headers)},
            gateway_request_id=answer.headers.get("x-request-id"),
        )

    def decode_models(self, answer: Answer) -> tuple[ModelInfo, ...]:
        payload = read_object(answer, self.judge_event)
        try:
            return tuple(_model(card) for card in _objects(payload))
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        return stream_decoder(head, judge=self.judge_event)


class OpenAIGateway(OpenAICompatibleGateway):
    """OpenAI itself, and what stands in for it at another base URL."""

    name = "openai"
    base_url = "https://api.openai.com"
    key_variables = ("OPENAI_API_KEY",)


def _objects(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The ``data`` of a list answer."""
    if payload.get("data") is None:
        raise MalformedResponseError("the answer has no data")
    entries = list_of(payload, "data")
    if not all(isinstance(entry, dict) for entry in entries):
        raise MalformedResponseError("data has something in it that is not an object")
    return entries


def _place(numbered: tuple[int, dict[str, Any]]) -> int:
    """Where an embedding belongs: by its index, else where it stands."""
    position, entry = numbered
    index = whole_of(entry, "index")
    return position if index is None else index


def _vector(embedding: Any) -> list[float]:
    """The numbers of an embedding: a list, or base64 of little-endian float32 (as the openai SDK reads it)."""
    if isinstance(embedding, list) and all(type(number) in (float, int) for number in embedding):
        return [float(number) for number in embedding]
    if isinstance(embedding, str):
        try:
            packed = base64.b64decode(embedding, validate=True)
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        except (binascii.Error, ValueError, struct.error):
            pass
    raise MalformedResponseError("an embedding is neither a list of numbers nor base64 of float32")


def _model(card: dict[str, Any]) -> ModelInfo:
    model_id = text_of(card, "id")
    if not model_id:
        raise MalformedResponseError("a model has no id")
    created, owner = card.get("created"), card.get("owned_by")
    return ModelInfo(
        id=model_id,
        created=created if type(created) is int else None,
        owned_by=owner if isinstance(owner, str) else None,
        extra={name: value for name, value in card.items() if name not in ("id", "created", "owned_by", "object")},
    )
