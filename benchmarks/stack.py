"""Does a call through the full default stack cost at most 60 µs of CPU more than the bare aiohttp request it makes?

`call()` gives what the bare request gives, the decoded JSON. `chat_completion()` reads it into an `LLMResponse`
besides.

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
from harness import Spread, load_server, pin, report

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
    with load_server() as url:
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

            contestants: dict[str, Callable[[], Awaitable[object]]] = {
                "bare aiohttp request": bare,
                "call()": lambda: engine.call(PROMPT),
                "chat_completion()": lambda: engine.chat_completion(PROMPT),
            }
            rounds = [[await cpu_per_call(each) for each in contestants.values()] for _ in range(ROUNDS + 1)]
    del rounds[0]  # it warms up
    versions = f"python {sys.version.split()[0]}, aiohttp {aiohttp.__version__}"
    print(f"{versions}, {ROUNDS} rounds of {CALLS} calls, median (middle half), µs of CPU")
    figures: dict[str, float] = {}
    for place, name in enumerate(contestants):
        print(f"{name:22}{Spread.of([each[place] for each in rounds])}")
        if place > 0:
            difference = Spread.of([each[place] - each[0] for each in rounds])
            ratio = Spread.of([each[place] / each[0] for each in rounds])
            print(f"  more than the bare  {difference}, {ratio} times")
            key = name.removesuffix("()")
            figures |= {f"{key}_difference_us": difference.median, f"{key}_ratio": ratio.median}
    report("stack", figures)


if __name__ == "__main__":
    asyncio.run(main())
