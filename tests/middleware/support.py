"""The two carriers of a middleware: an engine with a stack, and a plain aiohttp session."""

from __future__ import annotations

import traceback
from typing import Any

import aiohttp

from penstock import ModelEngine
from penstock.engine.clock import SYSTEM_CLOCK, Clock
from penstock.middleware import Auth, Backoff, Classify, Idempotency, Retry
from penstock.testing import Gateway

CHAT = "/v1/chat/completions"
KEY = "sk-test-9f8e7d6c5b4a39281706"
AT_ONCE = Backoff(initial=0, throttled=0)


def engine_at(at: Gateway, *stack: Any, clock: Clock = SYSTEM_CLOCK, **options: Any) -> ModelEngine:
    """An engine for a gateway. Without a stack, with the default one."""
    setup = {"base_url": at.url, "api_key": KEY, "middleware": list(stack) or None, "clock": clock, **options}
    return ModelEngine("tiny-mock", **setup)


def session_at(gateway: Gateway, *stack: Any) -> aiohttp.ClientSession:
    """A plain session for a gateway. Without a stack, with all four middlewares, and without waits of our own."""
    return aiohttp.ClientSession(gateway.url, middlewares=stack or plain_stack())


def plain_stack() -> tuple[Any, ...]:
    return Idempotency(), Retry(backoff=AT_ONCE), Auth(KEY), Classify()


def chat(text: str = "Hi", **members: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "tiny-mock", "messages": [{"role": "user", "content": text}], **members}


async def post(session: aiohttp.ClientSession, path: str = CHAT, **options: Any) -> tuple[int, Any]:
    """Send a chat request: its status and decoded answer."""
    async with session.post(path, **{"json": chat(), **options}) as response:
        return response.status, await response.json()


def everything_shown(error: BaseException) -> str:
    """All texts in which an error can show up: of itself, of its fields, of its chain, in a traceback."""
    texts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    chain: BaseException | None = error
    while chain is not None:
        texts += [str(chain), repr(chain), repr(vars(chain)), repr(chain.args)]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(texts)
