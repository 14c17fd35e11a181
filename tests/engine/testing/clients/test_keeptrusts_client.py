"""The openai SDK with Keeptrusts behind another base URL, as its vendor wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    answer,
    block,
)

from .support import MESSAGES, read_async

openai = pytest.importorskip("openai")


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(dialect="keeptrusts", api_key="kt_gk_1") as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="kt_gk_1", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("input", "input_blocked"),
        ("output", "output_blocked"),
        ("budget", "budget_exceeded"),
        ("escalation", "escalation_required"),
    ],
)
async def test_blocks(gateway: Gateway, client: Any, cause: Any, code: str) -> None:
    gateway.script(block(cause))
    with pytest.raises(openai.ConflictError) as caught:
        await client.chat.completions.create(model="m", messages=MESSAGES)
    assert (caught.value.body["type"], caught.value.code) == ("policy_violation", code)


async def test_it_sends_a_blocked_request_again_unless_told_not_to(gateway: Gateway, client: Any) -> None:
    eager = client.with_options(max_retries=2)
    gateway.script(block(headers={"retry-after-ms": "1"}), block(headers={"x-should-retry": "false"}))
    with pytest.raises(openai.ConflictError):
        await eager.chat.completions.create(model="m", messages=MESSAGES)
    assert gateway.requests == 2


async def test_a_late_block_ends_a_stream(gateway: Gateway, client: Any) -> None:
    gateway.script(block("output", when="in_stream", of=answer(pieces=["The SSN is ", "1"])))
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    chunks, error = await read_async(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "The SSN is "
    assert (type(error), error.body["code"]) == (openai.APIError, "output_blocked")


async def test_answers_and_models(client: Any) -> None:
    completion = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert completion.choices[0].message.content.startswith("You said")
    assert [model.id async for model in client.models.list()] == ["tiny-mock"]
