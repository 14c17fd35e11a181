"""OpenAI's own client, over httpx, as it comes; and over aiohttp, which it offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient, DefaultAsyncHttpxClient
from openai.types.chat import ChatCompletionChunk

from .base import KEY, MODEL, Caller, Parser, Peer, Reader, Take, text_of_objects

NO_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


async def connect(url: str) -> Peer:
    clients: dict[str, Any] = {
        "openai": AsyncOpenAI(
            base_url=f"{url}/v1", api_key=KEY, http_client=DefaultAsyncHttpxClient(limits=NO_LIMITS, timeout=None)
        ),
        "openai, aiohttp": AsyncOpenAI(
            base_url=f"{url}/v1", api_key=KEY, http_client=DefaultAioHttpClient(limits=NO_LIMITS, timeout=None)
        ),
    }

    async def close() -> None:
        for client in clients.values():
            await client.close()

    return Peer(
        close,
        {name: _reader(client) for name, client in clients.items()},
        {name: _caller(client) for name, client in clients.items()},
        {"openai": Parser(_decode, _text)},
    )


def _reader(client: Any) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and (piece := chunk.choices[0].delta.content):
                take(piece)

    return read


def _caller(client: Any) -> Caller:
    async def call(prompt: str) -> str:
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
        return answer.choices[0].message.content or ""

    return call


def _decode(reads: list[bytes]) -> list[Any]:
    return asyncio.run(_chunks(reads))


async def _chunks(reads: list[bytes]) -> list[Any]:
    async def content() -> AsyncIterator[bytes]:
        for read in reads:
            yield read

    request = httpx2.Request("POST", "http://127.0.0.1")
    response = httpx2.Response(200, content=content(), request=request)
    async with AsyncOpenAI(api_key=KEY) as client:
        stream = AsyncStream(cast_to=ChatCompletionChunk, response=response, client=client)
        return [chunk async for chunk in stream]


def _text(chunks: list[Any]) -> str:
    return text_of_objects(chunk.model_dump(exclude_unset=True) for chunk in chunks)
