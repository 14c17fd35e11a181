"""One connection of our own, and the body that is read from it: what aiohttp 3.14 does there that a gateway's client
must not do.

* A connection that the server has closed, or on which something came that nobody asked for, is used again as long as
  the loop has not seen it: the next request is lost, or gets the stray bytes as its answer. llama.cpp's server, for
  one, closes after each stream while it promises to keep alive.
* A connection closed over an unfinished upload stays open until the peer reads, which may be never.
* A request that the peer does not read waits for ever.
* Where the chunks of a body lie is written down for each chunk, for `readchunk()`, which nobody here calls.
* Bytes that arrive can wake a task, and nothing cheaper than a task.
* Each read takes 256 KiB from the system, for the hundred bytes of a token.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from .errors import WriteTimeoutError
from .failures import KeptConnectionLostError
from .timers import Watch, Watchdog

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.http import RawResponseMessage

    from .lane import Lane

_MOST_PIECES = 32 * 1024  # of a body, before reading pauses: each is an object, however few bytes it has


class Body(aiohttp.StreamReader):
    """The body of an answer on one of our connections.

    An instance is made by aiohttp's parser and turned into one of this class: it has no fields of its own.
    """

    __slots__ = ()

    @classmethod
    def adopt(cls, reader: aiohttp.StreamReader) -> None:
        """Turn a reader that has just been made into one of this class, where aiohttp allows it."""
        if type(reader) is aiohttp.StreamReader:
            reader.__class__ = cls

    @property
    def is_between_chunks(self) -> bool:
        """Whether what comes next is a transfer chunk, for certain: aiohttp's parser has told of the end of one and of
        nothing since, and what came last is no size of a further one, of which it would not have told.
        """
        protocol = self._own_protocol
        is_at_end = protocol.ends_event and protocol.chunks_end == self._cursor + self._size
        return is_at_end and not self._eof and not protocol._reading_paused

    @property
    def _own_protocol(self) -> ConnectionProtocol:
        protocol = self._protocol
        assert isinstance(protocol, ConnectionProtocol)
        return protocol

    @property
    def has_more(self) -> bool:
        """Whether there is something to read, its end and an exception among it."""
        return bool(self._buffer) or self._eof or self._exception is not None

    def take(self) -> bytes | None:
        """What has arrived; ``b""`` at the end of the body. `None` when there is nothing, or only an exception.

        Unlike aiohttp's own ways to read it does not run the parser on nothing, to see whether it was paused.
        """
        if self._exception is not None:
            return None
        buffer = self._buffer
        if not buffer:
            return b"" if self._eof else None
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._size = 0
        self._cursor += len(data)
        if self._protocol._reading_paused:
            self._protocol.resume_reading()
        return data

    async def readany(self) -> bytes:
        while (data := self.take()) is None:
            if self._exception is not None:  # it may have come after what has woken this task
                raise self._exception
            await self._wait("readany")
        return data

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back in the turn of the loop in which bytes or the end of the body arrive."""
        if not self._eof:  # else nothing comes any more, and the connection may serve another request
            self._own_protocol.on_arrival = callback

    def attach(self, lane: Lane) -> None:
        """Offer what comes from now on to a lane first."""
        self._own_protocol.lane = lane

    def detach(self, callback: Callable[[], None], lane: Lane) -> None:
        """Neither any more. The connection may serve another request meanwhile, and keeps what that has set."""
        protocol = self._own_protocol
        if protocol.on_arrival == callback:
            protocol.on_arrival = None
        if protocol.lane is lane:
            protocol.lane = None

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        if data:
            self._buffer.append(data)
            self._size += len(data)
            if (waiter := self._waiter) is not None:
                self._waiter = None
                if not waiter.done():
                    waiter.set_result(None)
            if self._size > self._high_water:
                self._protocol.pause_reading()
        return False

    begin_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]  # does nothing, and is no Python

    def end_http_chunk_receiving(self) -> None:
        self._protocol.chunks_end = self._cursor + self._size  # type: ignore[attr-defined]
        if len(self._buffer) > _MOST_PIECES:
            self._protocol.pause_reading()


class ConnectionProtocol(ResponseHandler):
    """One connection."""

    on_arrival: Callable[[], None] | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop, watchdog: Watchdog) -> None:
        super().__init__(loop)
        self._watchdog = watchdog
        self._requests = 0
        self._write_timeout: float | None = None
        self._write_watch: Watch | None = None
        self._write_failure: WriteTimeoutError | None = None
        self._unwritten = 0  # bytes, when the watch was last asked
        self.chunks_end = -1  # where in the body the last transfer chunk ended with an event, in the last read
        self.ends_event = False  # the last read ended with an event, and the end of a transfer chunk
        self.lane: Lane | None = None  # is asked first

    def set_response_params(self, *, read_timeout: float | None = None, **params: Any) -> None:
        """Prepare for a request. Its `read_timeout` is `Timeouts.write`: see `penstock.engine.session`."""
        self._requests += 1
        self._write_timeout = read_timeout
        self.chunks_end, self.ends_event, self.lane = -1, False, None
        super().set_response_params(**params)

    async def read(self) -> tuple[RawResponseMessage, StreamReader]:
        """Wait for the head of an answer."""
        try:
            head, body = await super().read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if self._write_failure is not None:
                raise self._write_failure from None
            if self._requests > 1:
                raise KeptConnectionLostError from None
            raise
        Body.adopt(body)
        return head, body

    def data_received(self, data: bytes) -> None:
        if (lane := self.lane) is not None and lane.take(data):
            return
        self.chunks_end = -1  # the parser may keep all of it, after it was paused
        super().data_received(data)
        self.ends_event = data.endswith(b"\n\n\r\n") and self._holds_event()
        if self.on_arrival is not None:
            self.on_arrival()

    def _holds_event(self) -> bool:
        """Whether the last piece of the body is the end of an event, and no line end after it.

        aiohttp's parser in Python tells of the end of a chunk before the line end of the chunk has come.
        """
        body = self._payload
        return type(body) is Body and bool(body._buffer) and body._buffer[-1].endswith(b"\n\n")

    def pause_writing(self) -> None:
        """More waits to be sent than the transport likes to hold."""
        super().pause_writing()
        if self._write_timeout is not None and self.transport is not None:
            self._unwritten = self.transport.get_write_buffer_size()
            self._write_watch = self._watchdog.watch(self._watchdog.time() + self._write_timeout, self._check_writing)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_watch()

    def connection_lost(self, exc: BaseException | None) -> None:
        body = self._payload
        self._stop_write_watch()
        if self.lane is not None:
            self.lane.close()
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            # After a malformed chunk size the parser is gone, and nobody tells the reader.
            body.set_exception(aiohttp.ClientPayloadError("the connection was lost in the middle of the body"))
        if self.on_arrival is not None:
            self.on_arrival()

    def is_connected(self) -> bool:
        """Whether it can be used for a request: the pool asks before it gives one out."""
        return super().is_connected() and not self.should_close and not _is_readable(self.transport)

    def close(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()

    def _check_writing(self, now: float) -> float | None:
        """Whether the peer has read anything since it was last asked."""
        if self.transport is None or self._write_timeout is None or self._payload is not None:
            return None  # it has answered without reading all of the request
        unwritten = self.transport.get_write_buffer_size()
        if unwritten < self._unwritten:
            self._unwritten = unwritten
            return now + self._write_timeout
        text = f"the gateway has read nothing of the request for {self._write_timeout:g} s"
        self._write_failure = WriteTimeoutError(text, phase="no_answer")
        self.transport.abort()
        return None

    def _stop_write_watch(self) -> None:
        if self._write_watch is not None:
            self._write_watch.stop()
            self._write_watch = None


class BufferedConnection(ConnectionProtocol, asyncio.BufferedProtocol):
    """A connection of asyncio's own loops, which read into memory that all connections of a pool share.

    Without it they take 256 KiB from the system for each read and give back what was not needed: three system calls a
    token, in most processes.

    Args:
        memory: Where reads go. What is in it is copied before the loop goes on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, watchdog: Watchdog, memory: memoryview) -> None:
        super().__init__(loop, watchdog)
        self._memory = memory

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._memory[:nbytes])
        if (lane := self.lane) is None or not lane.take(data):
            self.data_received(data)


def _is_readable(transport: asyncio.Transport | None) -> bool:
    """Whether an idle connection has something to say, which the loop has not come to yet: its end, or stray bytes."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        return False
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
