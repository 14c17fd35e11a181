"""Does a call through the full default stack cost at most 60 µs of CPU more than the bare aiohttp request it makes?

Both send the same bytes to the same server on another core, read the whole answer and decode it. CPU time of this
process; contestants take turns, in rounds, and the differences are taken within a round.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
from harness import Spread, fixed_server, pin, report

from penstock import ModelEngine

ROUNDS = 15
CALLS = 1500
PROMPT = "Name a prime."


async def cpu_per_call(call: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of CPU for one call."""
    gc.collect()
    started = time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.process_time() - started) / CALLS * 1e6


async def main() -> None:
    pin(0)
    with fixed_server() as url:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            ModelEngine("fixed", base_url=url, api_key="sk-benchmark") as engine,
        ):
            body = orjson.dumps({"model": "fixed", "messages": [{"role": "user", "content": PROMPT}]})
            headers = {
                "Content-Type": "application/json",
                "Authorization": "Bearer sk-benchmark",
                "Idempotency-Key": "k",
            }

            async def bare() -> object:
                async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as response:
                    return orjson.loads(await response.read())

            async def full() -> object:
                return await engine.chat_completion(PROMPT)

            bares, fulls = [], []
            for _ in range(ROUNDS + 1):
                bares.append(await cpu_per_call(bare))
                fulls.append(await cpu_per_call(full))
    bares, fulls = bares[1:], fulls[1:]  # the first round warms up
    difference = Spread.of([mine - floor for mine, floor in zip(fulls, bares)])
    ratio = Spread.of([mine / floor for mine, floor in zip(fulls, bares)])
    versions = f"python {sys.version.split()[0]}, aiohttp {aiohttp.__version__}"
    print(f"{versions}, {ROUNDS} rounds of {CALLS} calls, median (middle half)")
    print(f"bare aiohttp request  {Spread.of(bares)} µs of CPU")
    print(f"full default stack    {Spread.of(fulls)} µs of CPU")
    print(f"difference            {difference} µs")
    print(f"ratio                 {ratio}")
    report("stack", {"difference_us": difference.median, "ratio": ratio.median})


if __name__ == "__main__":
    asyncio.run(main())
