"""LiteLLM's ``acompletion``, to an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches the prices of models when it is imported

import httpx
import litellm
from openai import AsyncOpenAI

from .base import KEY, MODEL, Caller, Parser, Peer, Reader, Take, text_of_objects

NAME = "litellm"


async def connect(url: str) -> Peer:
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    options = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": KEY}

    async def close() -> None:
        await litellm.close_litellm_async_clients()

    return Peer(close, {NAME: _reader(options)}, {NAME: _caller(options)}, {NAME: Parser(_decode, _text)})


def _reader(options: dict[str, Any]) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        stream: Any = await litellm.acompletion(
            **options,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and (piece := chunk.choices[0].delta.content):
                take(piece)

    return read


def _caller(options: dict[str, Any]) -> Caller:
    async def call(prompt: str) -> str:
        answer: Any = await litellm.acompletion(**options, messages=[{"role": "user", "content": prompt}])
        return answer.choices[0].message.content or ""

    return call


def _decode(reads: list[bytes]) -> list[Any]:
    return asyncio.run(_chunks(reads))


async def _chunks(reads: list[bytes]) -> list[Any]:
    """Over a client that has the reads already: its decoder is not to be had alone."""

    async def content() -> AsyncIterator[bytes]:
        for read in reads:
            yield read

    def answer(request: Any) -> Any:
        return httpx.Response(200, content=content(), headers={"content-type": "text/event-stream"})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with AsyncOpenAI(api_key=KEY, http_client=http) as client:
        stream: Any = await litellm.acompletion(
            model=f"openai/{MODEL}", messages=[{"role": "user", "content": "-"}], stream=True, client=client
        )
        return [chunk async for chunk in stream]


def _text(chunks: list[Any]) -> str:
    return text_of_objects(chunk.model_dump(exclude_unset=True) for chunk in chunks)
