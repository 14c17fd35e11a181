"""aiohttp-retry's `RetryClient` as you have it, with options that wait as long as the server asks.

python examples/keep_your_retry_client.py
"""

from __future__ import annotations

import asyncio
import uuid

import aiohttp
from aiohttp_retry import RetryClient

from penstock import Backoff, RetryAfterOptions
from penstock.testing import Gateway, answer, fail, hang_up

BODY = {"model": "tiny-mock", "messages": [{"role": "user", "content": "Hello"}]}


async def main() -> None:
    # An answer that was lost may have been paid for: with a key in the header it can be asked for again.
    options = RetryAfterOptions(exceptions=[aiohttp.ClientConnectionError], backoff=Backoff(0.1, 0.1))
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    async with Gateway() as gateway, RetryClient(retry_options=options) as client:
        gateway.script(fail(429, retry_after=0.2), hang_up(executed=True, of=answer("Hello from the gateway.")))
        async with client.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers) as response:
            completion = await response.json()
        print(completion["choices"][0]["message"]["content"])
        gateway.assert_executed_once()
        print(f"{gateway.requests} requests, executed once; waited as told: {gateway.waits()[0] >= 0.2}")


if __name__ == "__main__":
    asyncio.run(main())
