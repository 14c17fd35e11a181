"""Nothing extends the deadline, whoever it is that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp_retry import ExponentialRetry

from penstock import ModelEngine, Retry, default_stack
from penstock.engine.errors import DeadlineExceededError
from penstock.testing import Gateway, fail
from tests.conftest import API_KEY
from tests.outcomes import failure


async def never(*_: Any) -> Any:
    await asyncio.Event().wait()


class Before:
    """Waits before it goes on."""

    async def __call__(self, request: Any, handler: Any) -> Any:
        await never()
        return await handler(request)


class After:
    """Waits when it has a reply."""

    async def __call__(self, request: Any, handler: Any) -> Any:
        reply = await handler(request)
        try:
            await never()
        finally:
            reply.release()


def evaluated() -> list[Any]:
    return default_stack(retry=Retry(ExponentialRetry(attempts=2, evaluate_response_callback=never)))


STACKS: dict[str, Callable[[], list[Any]]] = {
    "a middleware, before": lambda: [Before(), *default_stack()],
    "a middleware, after": lambda: [After(), *default_stack()],
    "before_sleep": lambda: default_stack(retry=Retry(before_sleep=never, random=lambda: 0.0)),
    "retry": lambda: default_stack(retry=Retry(retry=never)),
    "evaluate_response_callback": evaluated,
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_what_waits_in_the_stack_ends_by_the_deadline(
    gateway: Gateway, stack: Callable[[], list[Any]], streamed: bool
) -> None:
    gateway.script(fail(503)) if stack in (STACKS["before_sleep"], STACKS["retry"]) else None
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, middleware=stack()) as engine:
        call = engine.stream_call("Hi", timeout=0.1).response() if streamed else engine.call("Hi", timeout=0.1)
        error = await failure(call)
        assert isinstance(error, DeadlineExceededError)
        assert error.phase is not None
        await gateway.until(lambda: gateway.open_streams == 0)
