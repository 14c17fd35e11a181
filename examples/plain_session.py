"""The engine's middlewares in a plain aiohttp session: one key for all attempts, retries that wait as told, a fresh
credential, typed errors. The session stays yours.

    python examples/plain_session.py
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from penstock import Auth, Backoff, Classify, Idempotency, Retry, errors
from penstock.testing import Gateway, answer, fail

KEY = "sk-example-0123456789"
RETRY = Retry(backoff=Backoff(throttled=0.1))  # short waits of its own, so that those it is told show
MIDDLEWARES = (Idempotency(), RETRY, Auth(KEY), Classify())


async def ask(session: aiohttp.ClientSession, text: str) -> str:
    body: dict[str, Any] = {"model": "tiny-mock", "messages": [{"role": "user", "content": text}]}
    async with session.post("/v1/chat/completions", json=body) as response:
        completion = await response.json()
    return str(completion["choices"][0]["message"]["content"])


async def main() -> None:
    async with Gateway(api_key=KEY) as gateway, aiohttp.ClientSession(gateway.url, middlewares=MIDDLEWARES) as session:
        gateway.script(fail(429, retry_after=0.2), answer("Hello from the gateway."))
        print(await ask(session, "Hello"))
        gateway.assert_waited(at_least=0.2)
        print(f"{gateway.requests} requests, at least 0.2 s apart, with {len(gateway.keys)} idempotency key")

        gateway.script(fail(400, code="context_length_exceeded", message="That is too long."))
        try:
            await ask(session, "Hello " * 1000)
        except errors.ContextWindowExceededError as error:
            print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
