"""What a type checker sees of the blocking twins. Checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
from typing_extensions import assert_type

from penstock import EmbeddingResponse, Health, LLMResponse, LLMResponseChunk, ModelConfig, ModelInfo, StreamSummary
from penstock.engine.gateways import Request
from penstock.engine.gateways.modelgov.shapes import Explanation
from penstock.engine.gateways.omnigate import OmniGateProject
from penstock.engine.verdict import Answer
from penstock.sync import NIM, Atrium, BatchResults, ChatStream, Keeptrusts, ModelEngine, Modelgov, OmniGate, OpenAI


def calls(engine: ModelEngine, request: Request) -> None:
    assert_type(engine.call("Hi", temperature=0), dict[str, Any])
    assert_type(engine.chat_completion([{"role": "user", "content": "Hi"}]), LLMResponse)
    assert_type(engine.stream_call({"role": "user", "content": "Hi"}), ChatStream)
    assert_type(engine.stream_chat_completion("Hi", idempotency_key="k"), ChatStream)
    assert_type(engine.embed(["one", "two"]), EmbeddingResponse)
    assert_type(engine.batch(["Hi"]), BatchResults)
    assert_type(engine.models(), tuple[ModelInfo, ...])
    assert_type(engine.health(), Health)
    assert_type(engine.probe(request.operation), Health)
    assert_type(engine.request(request, body), bytes)
    assert_type(engine.stream_request(request), ChatStream)
    assert_type(engine.model_name, str | None)
    assert_type(engine.base_url, str)


def body(answer: Answer) -> bytes:
    return answer.body


def engines() -> None:
    with ModelEngine(ModelConfig("m")) as engine:
        assert_type(engine, ModelEngine)
        assert_type(engine.is_running, bool)
    with OpenAI("m", api_key=lambda: "sk-test") as openai, NIM("m") as nim:
        assert_type(openai, OpenAI)
        assert_type(nim, NIM)
        assert_type(nim.chat_completion("Hi"), LLMResponse)
    ModelEngine("m", max_attempts=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def operations(modelgov: Modelgov, omnigate: OmniGate) -> None:
    assert_type(modelgov.chat("Hi", user_id="u", user_type="employee", feature="f"), LLMResponse)
    assert_type(modelgov.chat_stream("Hi", user_id="u", user_type="employee", feature="f"), ChatStream)
    assert_type(modelgov.explain(user_id="u", user_type="employee", feature="f"), Explanation)
    assert_type(modelgov.ready(), Health)
    modelgov.chat("Hi", user_id="u", user_type="employee")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(omnigate.chat("Hi", model="m"), LLMResponse)
    assert_type(omnigate.completions_stream("Hi"), ChatStream)
    assert_type(omnigate.me(), OmniGateProject)
    assert_type(omnigate.set_provider_key("openai", "sk-provider"), None)
    omnigate.metrics("1y")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def constructors() -> None:
    with Modelgov("http://localhost", model_class="fast") as modelgov, OmniGate(user_id="u") as omnigate:
        assert_type(modelgov, Modelgov)
        assert_type(omnigate, OmniGate)
    Atrium("m", api_key="k", session=aiohttp.ClientSession)
    Keeptrusts("m", timeouts=None, loop_factory=asyncio.new_event_loop)
    Keeptrusts("m", retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def streams(stream: ChatStream) -> None:
    with stream as opened:
        assert_type(opened, ChatStream)
    for chunk in stream:
        assert_type(chunk, LLMResponseChunk)
        assert_type(chunk.delta_content, str | None)
    assert_type(next(stream), LLMResponseChunk)
    assert_type(stream.batches(), Iterator[list[LLMResponseChunk]])
    assert_type(stream.response(), LLMResponse)
    assert_type(stream.partial, LLMResponse)
    assert_type(stream.summary, StreamSummary)
