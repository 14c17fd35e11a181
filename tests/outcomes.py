"""What came of a call: its failure, or all that a stream gave until it ended."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from penstock import ChatStream, LLMResponseChunk, ModelEngineError


async def failure(awaitable: Awaitable[Any]) -> ModelEngineError:
    """The error that a call raises."""
    with pytest.raises(ModelEngineError) as raised:
        await awaitable
    return raised.value


async def drained(stream: ChatStream) -> tuple[list[LLMResponseChunk], ModelEngineError | None]:
    """The chunks of a stream, and the error that ended it."""
    chunks: list[LLMResponseChunk] = []
    while True:
        try:
            chunks.append(await anext(stream))
        except StopAsyncIteration:
            return chunks, None
        except ModelEngineError as error:
            return chunks, error


def text_of(chunks: list[LLMResponseChunk]) -> str:
    """The text of the chunks, joined."""
    return "".join(chunk.delta_content or "" for chunk in chunks)
