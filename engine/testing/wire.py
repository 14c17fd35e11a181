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
from collections.abc import Callable, Sequence

from aiohttp import web

from .plan import Ending, Head, Item, Pause, Plan
from .status import reason_phrase

_LINGER_OFF = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close() then sends an RST


class Wire:
    """Plays one plan as the answer to one request.

    When the client goes away, or the plan ends the connection, the task is cancelled with its
    connection (aiohttp's `handler_cancellation`); until then a method that has nothing more to do
    waits.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        self._is_http11 = request.version >= (1, 1)
        self._keep_alive = request.keep_alive and self._is_http11

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
        is_chunked = plan.length is None and self._is_http11
        body = () if self._request.method == "HEAD" else plan.body
        last = _last_write(body)
        pending = b"" if plan.head is None else self._head(plan.head, plan.length, is_chunked)
        due = self._loop.time()
        for index, item in enumerate(body):
            if isinstance(item, Pause):
                self._write(transport, pending)
                pending, due = b"", await self._pause(transport, item, due, is_chunked)
                continue
            if index == last:
                before_end()
            pending += _chunk(item) if is_chunked else item
            if index < len(body) - 1:  # the very last write waits for the end of the body
                self._write(transport, pending)
                pending = b""
                await self._give_way()
        if last is None:
            before_end()
        if is_chunked and plan.ending is Ending.COMPLETE:
            pending += b"0\r\n\r\n"
        self._write(transport, pending)
        return await self._end(transport, plan.ending)

    def _head(self, head: Head, length: int | None, is_chunked: bool) -> bytes:
        lines = [f"HTTP/1.1 {head.status} {reason_phrase(head.status)}"]
        lines += (f"{name}: {value}" for name, value in head.headers)
        if is_chunked:
            lines.append("transfer-encoding: chunked")
        elif length is not None and head.status != 204:  # which has none, RFC 9110 section 8.6
            lines.append(f"content-length: {length}")
        if not self._keep_alive:
            lines.append("connection: close")
        return "\r\n".join((*lines, "", "")).encode()

    @staticmethod
    def _write(transport: asyncio.Transport, data: bytes) -> None:
        if data:
            transport.write(data)

    async def _give_way(self) -> None:
        """Let others run; when the client does not read, wait until it does."""
        if self._request.protocol.writing_paused:
            await self._drain()
        else:
            await asyncio.sleep(0)

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

    async def _pause(self, transport: asyncio.Transport, pause: Pause, due: float, is_chunked: bool) -> float:
        """Be silent until `due` plus the pause; returns that moment.

        Moments are counted from the first, so that late wake-ups do not add up.
        """
        end = due + pause.seconds
        ping = _chunk(pause.ping) if is_chunked else pause.ping
        while (left_s := end - self._loop.time()) > 0:
            await self.silence(min(left_s, pause.ping_every_s))
            if left_s > pause.ping_every_s:
                self._write(transport, ping)
        return end

    async def _end(self, transport: asyncio.Transport, ending: Ending) -> web.StreamResponse:
        if ending is Ending.COMPLETE:
            await self._drain()
            return _KEPT if self._keep_alive else _CLOSED
        if ending is Ending.RESET:
            transport.set_write_buffer_limits(0)
            await self._drain()  # an RST overtakes what is still in our buffer
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            transport.abort()
        else:
            transport.close()
        return await self._wait_for_cancellation()

    async def _wait_for_cancellation(self) -> web.StreamResponse:
        await self._loop.create_future()
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


def _last_write(body: Sequence[Item]) -> int | None:
    for index in range(len(body) - 1, -1, -1):
        if isinstance(body[index], bytes):
            return index
    return None


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
