"""omnigate's `Client` against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    answer,
    block,
    fail,
    provider_error,
    reset,
)

from .support import attempt, read

omnigate = pytest.importorskip("omnigate")


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(dialect="omnigate", api_key="llmg_1") as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Any]:
    with omnigate.Client("llmg_1", base_url=gateway.url, retries=0, user_id="u-9") as client:
        yield client


async def test_a_chat_of_both_kinds(gateway: Gateway, client: Any) -> None:
    gateway.script(answer("Salut !", governance={"provider": "gemini", "cached": True, "cost": 0.0}), answer("Yes."))
    own = await attempt(client.chat, model="m", messages="Hi")
    twin = await attempt(client.completions, model="m", messages="Hi")
    assert (own.content, own.provider, own.cached, own.usage.total_tokens) == ("Salut !", "gemini", True, 3)
    assert twin["choices"][0]["message"]["content"] == "Yes."
    assert gateway.calls[0].headers["x-user-id"] == "u-9"


async def test_a_stream_of_text(gateway: Gateway, client: Any) -> None:
    gateway.script(answer("Old pond — a frog\njumps in.", chunking=1))
    seen, error = await read(client.chat_stream(model="m", messages="Hi", as_chunks=True))
    assert ("".join(chunk.text for chunk in seen), error) == ("Old pond — a frog\njumps in.", None)
    assert {chunk.request_id for chunk in seen} == {"00000000-0000-4000-8000-000000000001"}


@pytest.mark.parametrize("chunking", ["event", "whole", 1, 4])
async def test_the_error_mark_cut_anywhere(gateway: Gateway, client: Any, chunking: Any) -> None:
    of = answer(pieces=["Par", "tial", " text"], chunking=chunking)
    gateway.script(provider_error(500, message="exploded", when="in_stream", of=of))
    seen, error = await read(client.chat_stream(model="m", messages="Hi"))
    assert ("".join(seen), type(error)) == ("Partial", omnigate.ProviderError)
    assert str(error) == "[502] OpenAI error 500: exploded"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (fail(401), "AuthError"),
        (provider_error(401, message="Incorrect API key provided"), "ProviderError"),
        (block("budget"), "BudgetExceededError"),
        (fail(429, retry_after=7), "RateLimitError"),
        (provider_error(429), "RateLimitError"),
        (provider_error(None, provider="Gemini"), "ProviderError"),
        (fail(502), "ProviderError"),
        (fail(500), "APIError"),
        (reset(), "ConnectionError"),
    ],
)
async def test_errors(gateway: Gateway, client: Any, step: Any, error: str) -> None:
    gateway.script(step, step)
    for call in (client.chat, client.completions):
        got = await attempt(call, model="m", messages="Hi")
        assert type(got) is getattr(omnigate, error)
    if error == "RateLimitError":
        assert got.retry_after == getattr(step, "retry_after", None)


async def test_what_is_refused(client: Any) -> None:
    metrics = await attempt(client.metrics, range="1y")
    stored = await attempt(client.set_provider_key, provider="acme", api_key="1")
    assert (metrics.status_code, stored.status_code) == (422, 422)
    assert "body.api_key: String should have at least 8 characters" in str(stored)


async def test_the_other_operations(gateway: Gateway, client: Any) -> None:
    (model,) = await attempt(client.models)
    metrics = await attempt(client.metrics, range="7d")
    stored = await attempt(client.set_provider_key, provider="openai", api_key="12345678")
    minted = await attempt(client.create_api_key, name="ci")
    project, health = await attempt(client.me), await attempt(client.health)
    assert (model.id, model.pricing.input_per_1k_usd, metrics.totals.requests) == ("tiny-mock", 0.001, 4)
    assert (stored, minted.name, project.configured_providers) == (None, "ci", ["openai"])
    assert health["version"] == "0.2.0"
    with omnigate.Client(base_url=gateway.url) as keyless:
        signed_up = await attempt(keyless.signup, email="a@b.example")
    assert signed_up.api_key.startswith("llmg_")
