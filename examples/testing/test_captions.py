"""A stream of llama.cpp's server, recorded once and played ever since; nobody has to run that server.

GATEWAY_URL=http://127.0.0.1:8080 pytest --penstock-record=all test_captions.py    # records it anew
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from captions import words

from penstock import ModelEngine, Record, default_stack

URL = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")


@pytest.fixture
async def engine(cassette: Record) -> AsyncIterator[ModelEngine]:
    engine = ModelEngine("tiny-model", base_url=URL, api_key="sk-example", middleware=[*default_stack(), cassette])
    async with engine:
        yield engine


async def test_words_are_whole_although_tokens_are_not(engine: ModelEngine) -> None:
    shown = [word async for word in words(engine, "say hello")]
    assert shown == ["Hello", "from", "a", "tiny", "model."]


async def test_who_has_seen_enough_leaves(engine: ModelEngine) -> None:
    async with aclosing(words(engine, "say hello")) as shown:
        assert await anext(shown) == "Hello"
