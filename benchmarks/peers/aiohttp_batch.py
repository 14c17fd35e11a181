"""A batch as people write it by hand: a task for each row, a semaphore, an aiohttp session. It keeps nothing."""

from __future__ import annotations

import asyncio

import aiohttp
import orjson

from .base import ANSWER, KEY, PATH, Batcher, Peer, Work, body

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}


async def connect(url: str) -> Peer:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), headers=HEADERS
    )

    async def run(work: Work) -> int:
        semaphore = asyncio.Semaphore(work.concurrency)

        async def row(prompt: str) -> bool:
            async with semaphore, session.post(url + PATH, data=orjson.dumps(body(prompt, stream=False))) as response:
                answer = orjson.loads(await response.read())
                return bool(answer["choices"][0]["message"]["content"] == ANSWER)

        return sum(await asyncio.gather(*(row(prompt) for prompt in work.prompts())))

    return Peer(session.close, batchers={"aiohttp, Semaphore": Batcher(run)})
