"""A TCP server that says what a test writes, byte by byte: for answers that no HTTP server would give."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from typing_extensions import Self

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
"""The last chunk of a body."""


def event(data: object) -> bytes:
    """An event of a stream, as a chunk of its own; what is not bytes is sent as JSON."""
    return chunk(b"data: %b\n\n" % (data if isinstance(data, bytes) else orjson.dumps(data)))


def text(content: str, finish_reason: str | None = None) -> bytes:
    """An event with a piece of text."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def chunk(data: bytes) -> bytes:
    """A chunk of a body (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE = event(b"[DONE]")


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the first header line of this name. `None` when there is none."""
        line = re.search(rf"^{re.escape(name)}:[ \t]*(.*?)[ \t]*\r$", self.head.decode("latin-1"), re.I | re.M)
        return line[1] if line else None


class Connection:
    """The server's end of one connection.

    Attributes:
        sent: Bytes that the system has taken, or that wait for it.
    """

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.sent = 0
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Read one request and return its head."""
        return (await self.receive()).head

    async def receive(self) -> Request:
        """Read one request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
        return Request(head, await self._reader.readexactly(int(length[1]) if length else 0))

    async def read(self, count: int) -> None:
        """Read so many bytes of whatever comes."""
        await self._reader.readexactly(count)

    async def send(self, *data: bytes) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        joined = b"".join(data)
        self._writer.write(joined)
        self.sent += len(joined)
        await self._writer.drain()

    def pause_reading(self) -> None:
        """Take nothing more of what the client sends, and do not notice that it goes."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_reading(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def until_gone(self) -> None:
        """Read until the client is gone."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(1 << 16):
                pass

    def close(self) -> None:
        """End it after what has been sent."""
        self._writer.close()

    def reset(self) -> None:
        """End it with what has been sent delivered, without a goodbye: the client gets a TCP reset."""
        if (connection := self._writer.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Talk = Callable[[Connection], Awaitable[None]]
"""What the server does on a connection; after it the connection stays open until the client closes it."""


class RawServer:
    """The server, on a free port of loopback.

    Args:
        talk: What it does on each connection.
        tls: Speaks TLS with this context.
    """

    def __init__(self, talk: Talk, *, tls: ssl.SSLContext | None = None) -> None:
        self._talk = talk
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.connections = 0

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def until_closed(self, within: float = 5.0) -> None:
        """Wait until the client has closed every connection."""
        await self.until_open(0, within)

    async def until_open(self, count: int, within: float = 5.0) -> None:
        """Wait until at most so many connections are open."""
        end = asyncio.get_running_loop().time() + within
        while len(self._tasks) > count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), end - asyncio.get_running_loop().time())

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connection = Connection(number, reader, writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._talk(connection)
            await connection.until_gone()
        finally:
            writer.close()
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
            self._changed.set()
