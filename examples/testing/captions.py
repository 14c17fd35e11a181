"""Shows the words of an answer while the model still writes it, each when it is whole: tokens end where they like."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from penstock import ModelEngine


async def words(engine: ModelEngine, question: str) -> AsyncGenerator[str, None]:
    """The words of the answer, in order."""
    rest = ""
    async with engine.stream_call(question, max_tokens=24, temperature=0) as stream:
        async for piece in stream.text():
            *whole, rest = re.split(r"\s+", rest + piece)
            for word in filter(None, whole):
                yield word
    if rest:
        yield rest
