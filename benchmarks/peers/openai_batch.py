"""OpenAI's own client with a semaphore, as its users take many rows through it. It keeps nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from .base import ANSWER, KEY, MODEL, Batcher, Peer, Work

NO_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


async def connect(url: str) -> Peer:
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=DefaultAsyncHttpxClient(limits=NO_LIMITS))

    async def run(work: Work) -> int:
        semaphore = asyncio.Semaphore(work.concurrency)

        async def row(prompt: str) -> bool:
            async with semaphore:
                messages: Any = [{"role": "user", "content": prompt}]
                answer = await client.chat.completions.create(model=MODEL, messages=messages)
                return bool(answer.choices[0].message.content == ANSWER)

        return sum(await asyncio.gather(*(row(prompt) for prompt in work.prompts())))

    return Peer(client.close, batchers={"openai, Semaphore": Batcher(run)})
