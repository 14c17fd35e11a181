"""LangChain's `ChatOpenAI`."""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI

from .base import KEY, MODEL, Peer, Take

NAME = "langchain-openai"


async def connect(url: str) -> Peer:
    model: Any = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=KEY, stream_usage=True, timeout=None)

    async def read(prompt: str, take: Take) -> None:
        async for chunk in model.astream(prompt):
            if chunk.content:
                take(chunk.content)

    async def call(prompt: str) -> str:
        return str((await model.ainvoke(prompt)).content)

    async def close() -> None:
        await model.root_async_client.close()

    return Peer(close, {NAME: read}, {NAME: call})
