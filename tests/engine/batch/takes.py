"""Taking results to the end, whatever that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable

from penstock.engine.batch.results import BatchResult


async def take_all(
    results: AsyncIterable[BatchResult], then: Callable[[], Awaitable[None]] | None = None
) -> tuple[list[BatchResult], Exception | None]:
    """The results that came, and what was raised after them. `then` is called after each result."""
    taken: list[BatchResult] = []
    try:
        async for result in results:
            taken.append(result)
            if then is not None:
                await then()
    except Exception as error:
        return taken, error
    return taken, None


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")
