"""The listening socket and its connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from itertools import count

from aiohttp import web

from .books import Books

Serve = Callable[[web.BaseRequest, int], Awaitable[web.StreamResponse]]
"""Answers a request that came on the connection of this number."""

_KEEPALIVE_S = 3630.0  # aiohttp's default: longer than any client keeps one


class Listener(web.Server):
    """aiohttp's low-level server, with numbered connections that can be dropped at once.

    A handler is cancelled when its connection is lost, so that no answer outlives its client.

    Args:
        idle_close_s: See `Gateway`.
    """

    def __init__(self, serve: Serve, books: Books, *, idle_close_s: float | None = None) -> None:
        keepalive_s = _KEEPALIVE_S if idle_close_s is None else idle_close_s
        super().__init__(self._handle, handler_cancellation=True, access_log=None, keepalive_timeout=keepalive_s)
        self._serve = serve
        self._books = books
        self._numbers = count(1)
        self._open: dict[web.RequestHandler, tuple[int, asyncio.Transport]] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Accept connections; returns the port."""
        self._server = await asyncio.get_running_loop().create_server(self, host, port, backlog=4096, ssl=tls)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop accepting, drop every connection, and wait until no handler is left."""
        if self._server is None:
            return
        self._server.close()
        for _, transport in self._open.values():
            transport.abort()
        # Lost, cancelled, done: a few turns of the loop, and aiohttp tells nobody when it is over.
        while self.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await self._server.wait_closed()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        number = next(self._numbers)
        self._open[handler] = number, transport
        self._books.connected(number)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        number, _ = self._open.pop(handler)
        self._books.disconnected(number)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, self._open[request.protocol][0])
