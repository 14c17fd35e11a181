"""A bench client of nothing but aiohttp and orjson: about what can be reached on one core.

    python bench_loop.py URL PROMPT REQUESTS (--concurrency N | --rate R) --json FILE

It times requests and keeps no more than the moments of it; a rate is constant, without a cap.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import time
from dataclasses import asdict
from pathlib import Path

import aiohttp
import orjson
from peers.aiohttp_loops import HEADERS, NO_LIMIT
from peers.base import PATH, Timed, body


class Loop:
    """The requests of one run."""

    def __init__(self, session: aiohttp.ClientSession, url: str, prompt: str) -> None:
        self._session = session
        self._url = url + PATH
        self._body = orjson.dumps(body(prompt, stream=True))
        self.timed: list[Timed] = []

    async def closed(self, requests: int, concurrency: int) -> None:
        turns = iter(range(requests))

        async def lane() -> None:
            for _ in turns:
                await self._request(time.perf_counter())

        await asyncio.gather(*(lane() for _ in range(concurrency)))

    async def open(self, requests: int, rate: float) -> None:
        began = time.perf_counter()
        running: list[asyncio.Task[None]] = []
        for number in range(requests):
            due = began + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            running.append(asyncio.ensure_future(self._request(due)))
        await asyncio.gather(*running)

    async def _request(self, due: float) -> None:
        events, rest = 0, b""
        first = last = due
        async with self._session.post(self._url, data=self._body) as response:
            async for data in response.content.iter_any():
                now = time.perf_counter()
                *blocks, rest = (rest + data).split(b"\n\n")
                for block in blocks:
                    if block == b"data: [DONE]":
                        continue
                    choices = orjson.loads(block[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        events += 1
                        last = now
                        if events == 1:
                            first = now
            name = response.headers.get("x-request-id", "")
        gap_ms = (last - first) / (events - 1) * 1e3 if events > 1 else None
        self.timed.append(Timed(name, due, last, (first - due) * 1e3, gap_ms, events))


async def measure(options: argparse.Namespace) -> list[Timed]:
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, timeout=NO_LIMIT, headers=HEADERS, read_bufsize=2**18
    ) as session:
        loop = Loop(session, options.url, options.prompt)
        if options.rate:
            await loop.open(options.requests, options.rate)
        else:
            await loop.closed(options.requests, options.concurrency)
    return loop.timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("prompt")
    parser.add_argument("requests", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    timed = loop.run_until_complete(measure(options))
    options.json.write_bytes(orjson.dumps([asdict(each) for each in timed]))


if __name__ == "__main__":
    main()
