"""What a type checker sees of the public names. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from penstock import (
    NIM,
    ChatStream,
    EmbeddingResponse,
    Health,
    LLMResponse,
    LLMResponseChunk,
    ModelConfig,
    ModelEngine,
    ModelInfo,
    OpenAI,
    Retry,
    ServerSentEvent,
    SSEDecoder,
    StreamSummary,
    StreamTruncatedError,
    Timeouts,
    UsageInfo,
    default_stack,
)
from penstock.testing import Gateway, answer, fail


async def calls(engine: ModelEngine) -> None:
    assert_type(await engine.call("Hi", temperature=0), dict[str, Any])
    assert_type(await engine.chat_completion([{"role": "user", "content": "Hi"}]), LLMResponse)
    assert_type(engine.stream_call({"role": "user", "content": "Hi"}), ChatStream)
    assert_type(engine.stream_chat_completion("Hi", idempotency_key="k"), ChatStream)
    assert_type(await engine.embed(["one", "two"]), EmbeddingResponse)
    assert_type(await engine.models(), tuple[ModelInfo, ...])
    assert_type(await engine.health(), Health)


async def engines() -> None:
    async with ModelEngine(ModelConfig("m"), timeouts=Timeouts(idle=None), middleware=default_stack()) as engine:
        assert_type(engine, ModelEngine)
    async with OpenAI("m", api_key=lambda: "sk-test") as openai, NIM("m") as nim:
        assert_type(openai, OpenAI)
        assert_type(nim, NIM)
    async with Gateway(script=[fail(503), answer("Hi")]) as gateway:
        assert_type(gateway.url, str)


async def streams(stream: ChatStream) -> None:
    async with stream as opened:
        assert_type(opened, ChatStream)
    async for chunk in stream:
        assert_type(chunk, LLMResponseChunk)
        assert_type(chunk.delta_content, str | None)
    async for chunks in stream.batches():
        assert_type(chunks, list[LLMResponseChunk])
    assert_type(await stream.response(), LLMResponse)
    assert_type(stream.summary, StreamSummary)
    assert_type(stream.summary.usage, UsageInfo | None)


def values(error: StreamTruncatedError) -> None:
    assert_type(error.partial, LLMResponse | None)
    assert_type(SSEDecoder().feed(b""), list[ServerSentEvent])
    Retry(max_attempts=5, ambiguous="never")
    Retry(ambiguous="perhaps")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
