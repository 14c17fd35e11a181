"""An answer handed on to the client of a proxy: each read as one write, and what was lost is lost there, too.

Answers are written past aiohttp's server, straight to the transport: it would add headers, and cannot break off.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import struct
import sys
from http import HTTPStatus

import aiohttp
from aiohttp import web

from ..errors import CassetteError, ClockError
from ..failures import FOREIGN

_LINGER_OFF = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close() then sends an RST
# Of one connection each (RFC 9110 7.6.1); bodies are handed on decompressed
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-encoding",
    )
)


class Relay:
    """The answer to one request of a client.

    Args:
        request: The request; its handler is cancelled when the client goes away.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._transport = request.transport
        self._is_chunked = False

    async def read(self) -> bytes | None:
        """The body of the request. A client that asks whether to send it is told to: the gateway is not asked."""
        if self._transport is not None and self._request.headers.get("Expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._request.content.read() or None

    async def answer(self, response: aiohttp.ClientResponse) -> web.StreamResponse:
        """Hand on an answer: its head at once, its body as it comes.

        Raises:
            Exception: aiohttp's, when the body is lost; `lose` then says so to the client.
        """
        await self._write(self._head(response))
        has_body = self._request.method != "HEAD" and response.status not in (204, 304)
        while has_body and (data := await response.content.readany()):
            await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        if self._is_chunked:
            await self._write(b"0\r\n\r\n")
        return _CLOSED

    async def refuse(self, error: CassetteError) -> web.StreamResponse:
        """Answer that the cassette has nothing; a client that retries is told not to."""
        complaint = {"message": error.message, "type": "cassette_error", "code": type(error).__name__}
        body = json.dumps({"error": complaint}).encode()
        head = (
            f"HTTP/1.1 {HTTPStatus.NOT_IMPLEMENTED.value} {HTTPStatus.NOT_IMPLEMENTED.phrase}\r\n"
            "Content-Type: application/json\r\nX-Should-Retry: false\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        await self._write(head.encode() + body)
        return _CLOSED

    async def lose(self, error: BaseException) -> web.StreamResponse:
        """End the connection as the one behind it has ended.

        Where the client left when it was recorded, as after a timeout of its own, stay silent until it leaves again.
        """
        transport = self._transport
        if transport is not None and not isinstance(error, (ClockError, CassetteError)):
            if isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET:
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
                transport.abort()
            else:
                transport.close()
        await asyncio.get_running_loop().create_future()  # cancelled with the connection
        raise AssertionError("a future that nobody resolves was resolved")

    def _head(self, response: aiohttp.ClientResponse) -> bytes:
        is_encoded = "Content-Encoding" in response.headers
        dropped = HOP_BY_HOP | ({"content-length"} if is_encoded else set())
        kept = [(name, value) for name, value in response.headers.items() if name.lower() not in dropped]
        lines = [f"HTTP/1.1 {response.status} {response.reason or ''}", *(f"{name}: {value}" for name, value in kept)]
        has_length = "Content-Length" in response.headers and not is_encoded
        has_body = self._request.method != "HEAD" and response.status not in (204, 304)
        self._is_chunked = has_body and not has_length and self._request.version >= (1, 1)
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        return "\r\n".join((*lines, "Connection: close", "", "")).encode("utf-8", "surrogateescape")

    async def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            await asyncio.get_running_loop().create_future()  # the client has gone, and cancels this
        assert self._transport is not None
        self._transport.write(data)
        if self._request.protocol.writing_paused:
            await self._request.writer.drain()


class _Written(web.StreamResponse):
    """Tells aiohttp that the answer is on the wire already, and that the connection ends with it."""

    @property
    def keep_alive(self) -> bool:
        return False

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


_CLOSED = _Written()


LOST = (CassetteError, ClockError, RuntimeError, *FOREIGN)
"""What an answer can be lost by."""
