"""Embeddings: small vectors that follow from the text alone."""

from __future__ import annotations

import hashlib
import struct
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ..words import count_words
from .problem import InvalidBodyError

DIMENSIONS = 8
_MAX_DIMENSIONS = 4096

Input = str | list[int]


def embedding_list(body: Any) -> dict[str, object]:
    """The answer to an embeddings request.

    Raises:
        InvalidBodyError: with the member that is wrong as `param`.
    """
    if not isinstance(body, Mapping):
        raise InvalidBodyError("The body is not a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidBodyError("You must provide a model parameter.", param="model")
    inputs = _inputs(body.get("input"))
    dimensions = _dimensions(body.get("dimensions"))
    as_base64 = body.get("encoding_format") == "base64"
    tokens = sum(len(one) if isinstance(one, list) else count_words(one) for one in inputs)
    data = [_entry(index, embed(one, dimensions), as_base64) for index, one in enumerate(inputs)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def embed(text: Input, dimensions: int = DIMENSIONS) -> list[float]:
    """A vector in [-1, 1) made from the SHA-256 of `text`, in steps that a 32-bit float holds exactly."""
    stream = bytearray()
    while len(stream) < dimensions:
        stream += hashlib.sha256(f"{len(stream)}:{text}".encode()).digest()
    return [(byte - 128) / 128 for byte in stream[:dimensions]]


def _entry(index: int, vector: list[float], as_base64: bool) -> dict[str, object]:
    embedding: object = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if as_base64 else vector
    return {"object": "embedding", "index": index, "embedding": embedding}


def _inputs(value: Any) -> list[Input]:
    """One text, texts, one list of tokens, or lists of tokens."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return [value]
        if all(isinstance(item, str) or _is_tokens(item) for item in value):
            return value
    raise InvalidBodyError("input must be a text, tokens, or a list of either.", param="input")


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _dimensions(value: Any) -> int:
    if value is None:
        return DIMENSIONS
    if type(value) is not int or not 1 <= value <= _MAX_DIMENSIONS:
        raise InvalidBodyError(f"dimensions must be an integer from 1 to {_MAX_DIMENSIONS}.", param="dimensions")
    return value
