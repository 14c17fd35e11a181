"""Penstock, as it comes, with the full stack; and with what is needed alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock import Auth, ChatStream, LLMResponseChunk, ModelEngine
from penstock.engine.decode import ChatDecoder
from penstock.engine.gateways.modelgov.stream import ModelgovStreamDecoder
from penstock.engine.verdict import Answer, judge_event

from .base import KEY, MODEL, Caller, Parser, Peer, Reader, Take


class PlainDecoder(ChatDecoder):
    """Decodes each event as any: templates are off."""

    patience = 0


async def connect(url: str) -> Peer:
    engine = ModelEngine(MODEL, base_url=url, api_key=KEY)
    core = ModelEngine(MODEL, base_url=url, api_key=KEY, middleware=[Auth()])
    await engine.start()
    await core.start()

    async def close() -> None:
        await engine.stop()
        await core.stop()

    readers: dict[str, Reader] = {
        "async for": _by_chunk(engine),
        "async for, core": _by_chunk(core),
        "batches()": _by_batch(engine),
    }
    if hasattr(ChatStream, "text"):
        readers["text()"] = _by_text(engine)
    if hasattr(ChatStream, "pump"):
        readers["pump()"] = _pumped(engine)
    callers: dict[str, Caller] = {"call()": _call(engine), "chat_completion()": _chat_completion(engine)}
    return Peer(close, readers, callers, _parsers())


def _by_chunk(engine: ModelEngine) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        async for chunk in engine.stream_call(prompt):
            if chunk.delta_content:
                take(chunk.delta_content)

    return read


def _by_batch(engine: ModelEngine) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        async for chunks in engine.stream_call(prompt).batches():
            for chunk in chunks:
                if chunk.delta_content:
                    take(chunk.delta_content)

    return read


def _by_text(engine: ModelEngine) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        stream: Any = engine.stream_call(prompt)
        async for text in stream.text():
            take(text)

    return read


def _pumped(engine: ModelEngine) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        def sink(chunks: list[LLMResponseChunk]) -> None:
            for chunk in chunks:
                if chunk.delta_content:
                    take(chunk.delta_content)

        stream: Any = engine.stream_call(prompt)
        await stream.pump(sink)

    return read


def _call(engine: ModelEngine) -> Caller:
    async def call(prompt: str) -> str:
        answer = await engine.call(prompt)
        return str(answer["choices"][0]["message"]["content"])

    return call


def _chat_completion(engine: ModelEngine) -> Caller:
    async def call(prompt: str) -> str:
        return (await engine.chat_completion(prompt)).content or ""

    return call


def _parsers() -> dict[str, Parser]:
    head = Answer(200, {"content-type": "text/event-stream"}, b"", 0.0)
    return {
        "ChatDecoder": Parser(lambda reads: _decode(ChatDecoder(head), reads), _text),
        "ChatDecoder, no templates": Parser(lambda reads: _decode(PlainDecoder(head), reads), _text),
        "ModelgovStreamDecoder": Parser(
            lambda reads: _decode(ModelgovStreamDecoder(head, judge_event), reads), _text, ("modelgov",)
        ),
    }


def _decode(decoder: ChatDecoder | ModelgovStreamDecoder, reads: list[bytes]) -> list[LLMResponseChunk]:
    chunks: list[LLMResponseChunk] = []
    feed: Callable[[bytes], list[LLMResponseChunk]] = decoder.feed
    for read in reads:
        chunks += feed(read)
    decoder.close()
    if decoder.failure is not None:
        raise decoder.failure
    return chunks


def _text(chunks: list[LLMResponseChunk]) -> str:
    return "".join(_piece(chunk) for chunk in chunks)


def _piece(chunk: LLMResponseChunk) -> str:
    arguments = [call.arguments or "" for call in chunk.delta_tool_calls or ()]
    return "".join([chunk.delta_reasoning or "", chunk.delta_content or "", *arguments])
