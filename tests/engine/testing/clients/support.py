"""Calling clients, and keeping what came before an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

MESSAGES = [{"role": "user", "content": "Hi"}]


async def attempt(call: Callable[..., Any], **arguments: Any) -> Any:
    """What a blocking call returns, or the error it raises. It runs in a thread of its own."""
    try:
        return await asyncio.to_thread(call, **arguments)
    except Exception as error:
        return error


async def read(stream: Iterable[Any]) -> tuple[list[Any], Any]:
    """The pieces of a blocking stream, and the error that ended it; `None` for none."""
    seen: list[Any] = []
    return seen, await attempt(_drain, stream=stream, seen=seen)


def _drain(stream: Iterable[Any], seen: list[Any]) -> None:
    for piece in stream:
        seen.append(piece)  # noqa: PERF402 - one by one, because an error may come


async def read_async(stream: AsyncIterable[Any]) -> tuple[list[Any], Any]:
    """As `read`, of a stream that does not block."""
    seen: list[Any] = []
    try:
        async for piece in stream:
            seen.append(piece)  # noqa: PERF401 - one by one, because an error may come
    except Exception as error:
        return seen, error
    return seen, None
