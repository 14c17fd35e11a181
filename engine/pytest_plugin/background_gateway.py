"""A gateway that serves from a thread of its own, so that a test may block while it talks to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..testing import Gateway

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class BackgroundGateway(Gateway):
    """A `Gateway` on an event loop in a thread of its own, for clients of every kind: asynchronous on any loop,
    blocking in the same test, another process.

    Use it as ``with``. Its books may be read and its script replaced from any thread. What is awaited on a `Gateway` is
    awaited here on the loop of whoever asks; a plain test calls `run`.

    Args:
        options: As for `Gateway`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-gateway", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(super().start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(super().stop())
        finally:
            self._end()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the gateway's loop and wait for it: ``gateway.run(gateway.assert_no_open_streams())``."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def start(self) -> None:
        await self._awaited(super().start())

    async def stop(self) -> None:
        await self._awaited(super().stop())

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        await self._awaited(super().until(condition, within_s))

    async def assert_no_open_connections(self, within_s: float = 1.0) -> None:
        await self._awaited(super().assert_no_open_connections(within_s))

    async def assert_no_open_streams(self, within_s: float = 1.0) -> None:
        await self._awaited(super().assert_no_open_streams(within_s))

    async def _awaited(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
