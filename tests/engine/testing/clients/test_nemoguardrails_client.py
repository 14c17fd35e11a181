"""NeMo Guardrails' `ModelEngine` against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    answer,
    cut,
    error_event,
    fail,
)

from .support import MESSAGES, read_async

model_engine = pytest.importorskip("nemoguardrails.guardrails.model_engine")


@pytest.fixture(params=["openai", "nim"])
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(variable, "sk-1")
    return str(request.param)


@pytest.fixture
async def gateway(dialect: str) -> AsyncIterator[Gateway]:
    async with Gateway(dialect=dialect, api_key="sk-1") as running:
        yield running


@pytest.fixture
async def engine(dialect: str, gateway: Gateway) -> AsyncIterator[Any]:
    parameters = {"base_url": gateway.url, "max_attempts": 1}
    config = model_engine.Model(type="main", engine=dialect, model="tiny", parameters=parameters)
    engine = model_engine.ModelEngine(config)
    await engine.start()
    yield engine
    await engine.stop()


async def test_a_chat_and_a_stream(gateway: Gateway, engine: Any) -> None:
    gateway.script(answer("Yes.", reasoning="Hm."), answer("Yes indeed.", reasoning="Hm."))
    whole = await engine.chat_completion(MESSAGES)
    chunks = [chunk async for chunk in engine.stream_chat_completion(MESSAGES)]
    assert (whole.content, whole.reasoning, whole.usage.total_tokens) == ("Yes.", "Hm.", 3)
    assert "".join(chunk.delta_content or "" for chunk in chunks) == "Yes indeed."
    assert "".join(chunk.delta_reasoning or "" for chunk in chunks) == "Hm."
    assert chunks[-1].usage.total_tokens == 4


@pytest.mark.parametrize("status", [400, 401, 429, 503])
async def test_errors(gateway: Gateway, engine: Any, status: int) -> None:
    gateway.script(fail(status))
    with pytest.raises(model_engine.ModelEngineError) as caught:
        await engine.chat_completion(MESSAGES)
    assert (caught.value.status, caught.value.model_name) == (status, "tiny")


@pytest.mark.parametrize("step", [cut(after_events=3), error_event(after_events=3)])
async def test_a_stream_that_fails(gateway: Gateway, engine: Any, step: Any) -> None:
    gateway.script(step)
    chunks, error = await read_async(engine.stream_chat_completion(MESSAGES))
    assert "".join(chunk.delta_content or "" for chunk in chunks) == "You said:"
    assert type(error) is model_engine.ModelEngineError
