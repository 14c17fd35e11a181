"""The `ModelEngine` of NeMo Guardrails. Its pool of 100 connections cannot be set."""

from __future__ import annotations

import json
import os
from typing import Any

from nemoguardrails.guardrails import model_engine

from .base import KEY, MODEL, Parser, Peer, Take

NAME = "nemoguardrails"


async def connect(url: str) -> Peer:
    os.environ["OPENAI_API_KEY"] = KEY
    config = model_engine.Model(type="main", engine="openai", model=MODEL, parameters={"base_url": url})
    engine: Any = model_engine.ModelEngine(config)
    await engine.start()

    async def read(prompt: str, take: Take) -> None:
        async for chunk in engine.stream_call([{"role": "user", "content": prompt}]):
            if chunk.delta_content:
                take(chunk.delta_content)

    async def call(prompt: str) -> str:
        return (await engine.chat_completion([{"role": "user", "content": prompt}])).content or ""

    parser = Parser(_decode, _text, ("openai", "obfuscated", "reasoning", "varied"))
    return Peer(engine.stop, {NAME: read}, {NAME: call}, {NAME: parser})


def _decode(reads: list[bytes]) -> list[Any]:
    """What its ``stream_call`` does with each line, which cannot be had without a connection."""
    chunks = []
    tool_calls: dict[int, dict[str, Any]] = {}
    for raw_line in b"".join(reads).split(b"\n"):
        line = raw_line.decode("utf-8").strip()
        if not line.startswith("data: "):
            continue
        payload = line[len("data: ") :]
        if payload == "[DONE]":
            break
        raw_chunk = json.loads(payload)
        model_engine._accumulate_tool_call_delta(tool_calls, raw_chunk)
        chunk = model_engine._parse_chat_completion_chunk(raw_chunk)
        if chunk is not None:
            chunks.append(chunk)
    return chunks


def _text(chunks: list[Any]) -> str:
    return "".join((chunk.delta_reasoning or "") + (chunk.delta_content or "") for chunk in chunks)
