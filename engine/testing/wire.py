"""The end of one connection where a plan becomes bytes.

aiohttp reads the requests; answers are written past it, straight to the transport, because most of
what is played here is not allowed in HTTP. It is also the shortest way: an event costs one write.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from collections.abc import Callable
from typing import Literal

from aiohttp import web

from .pace import Wheel
from .plan import Ending, Plan
from .reel import Reel
from .sequence import sequence

_LINGER_OFF = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close() then sends an RST

AfterAnswer = Literal["keep", "close", "close_unsaid"]
"""What becomes of a connection after an answer: it is kept, or closed, with or without saying so before."""


class Wire:
    """Plays one plan as the answer to one request.

    When the client goes away, or the plan ends the connection, the task is cancelled with its
    connection (aiohttp's `handler_cancellation`); until then a method that has nothing more to do
    waits.
    """

    def __init__(self, request: web.BaseRequest, wheel: Wheel, after_answer: AfterAnswer = "keep") -> None:
        self._request = request
        self._wheel = wheel
        self._transport = request.transport
        self._is_http11 = request.version >= (1, 1)
        self._keep_alive = request.keep_alive and self._is_http11 and after_answer == "keep"
        self._says_close = not self._keep_alive and after_answer != "close_unsaid"

    async def read(self) -> bytes:
        """The body of the request."""
        if self._transport is not None and self._request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._request.content.read()

    async def play(self, plan: Plan, *, before_end: Callable[[], None]) -> web.StreamResponse:
        """Write head, body and end.

        `before_end` is called right before the last write that matters: whoever has read all of the
        answer finds what it did done.
        """
        transport = self._transport
        if transport is None:
            return await self._wait_for_cancellation()
        items = sequence(
            plan, is_http11=self._is_http11, says_close=self._says_close, has_body=self._request.method != "HEAD"
        )
        reel = Reel(items, transport, self._request.protocol, self._wheel, before_end)
        while await reel.play_on():
            await self._drain()  # the client does not read: wait until it does
        return await self._end(transport, plan.ending)

    async def _drain(self) -> None:
        try:
            await self._request.writer.drain()
        except ConnectionError:
            await self._wait_for_cancellation()

    async def silence(self, seconds: float) -> None:
        """Write nothing; `math.inf` is for ever."""
        if seconds == math.inf:
            await self._wait_for_cancellation()
        else:
            await asyncio.sleep(seconds)

    async def _end(self, transport: asyncio.Transport, ending: Ending) -> web.StreamResponse:
        if ending is Ending.COMPLETE:
            await self._drain()
            return _KEPT if self._keep_alive else _CLOSED
        if ending is Ending.RESET:
            # asyncio's TLS is paused from the limit on, plain TCP above it.
            transport.set_write_buffer_limits(0 if transport.get_extra_info("sslcontext") is None else 1)
            await self._drain()  # an RST overtakes what is still in our buffer
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            transport.abort()
        else:
            transport.close()
        return await self._wait_for_cancellation()

    @staticmethod
    async def _wait_for_cancellation() -> web.StreamResponse:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody resolves was resolved")


class _Written(web.StreamResponse):
    """Tells aiohttp that the answer is on the wire already, and whether the connection goes on."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


_KEPT, _CLOSED = _Written(True), _Written(False)
