"""The connections of an engine's own session: what aiohttp 3.14 does with them that a gateway's client must not do.

* A connection that the server has closed, or on which something came that nobody asked for, is used again as long as
  the loop has not seen it: the next request is lost, or gets the stray bytes as its answer. llama.cpp's server, for
  one, closes after each stream while it promises to keep alive.
* A connection closed over an unfinished upload stays open until the peer reads, which may be never.
* A connection whose body ends a few milliseconds after the stream's terminal mark is not there yet for the next call,
  which opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from .failures import FOREIGN, KeptConnectionLostError
from .timers import Watch, Watchdog

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.tracing import Trace

LINGER = 0.05  # seconds between the terminal mark and the end of the body; 3 to 20 ms were measured


class Linger:
    """Bodies whose stream has had its terminal mark, and whose end nobody waits for.

    aiohttp puts the connection back into the pool when the end arrives; a server that never ends the body loses the
    connection after `LINGER`.
    """

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._time = watchdog.time
        self._watches: dict[aiohttp.ClientResponse, Watch] = {}
        self._unclaimed: dict[aiohttp.ClientResponse, None] = {}  # a set that keeps the order
        self._is_worth_waiting = True  # False after a body that did not end in time, until one does

    def add(self, response: aiohttp.ClientResponse) -> None:
        """Let the end of this body arrive."""
        if not response.closed:  # else it came with the mark
            self._watches[response] = self._watchdog.watch(self._time() + LINGER, partial(self._overdue, response))
            self._unclaimed[response] = None
            response.content.on_eof(partial(self._ended, response))

    async def wait_for_one(self) -> None:
        """Wait until a body ends or is given up, unless others wait for all that there are."""
        # aiohttp wakes nobody who comes after the connection was lost.
        response = next((each for each in self._unclaimed if each.content.exception() is None), None)
        if response is not None and self._is_worth_waiting:
            del self._unclaimed[response]
            with contextlib.suppress(*FOREIGN):
                await response.content.wait_eof()

    def close(self) -> None:
        """Wait for none of them any longer."""
        for response in tuple(self._watches):
            self._forget(response)
            response.close()

    def _ended(self, response: aiohttp.ClientResponse) -> None:
        self._forget(response)
        self._is_worth_waiting = True

    def _overdue(self, response: aiohttp.ClientResponse, now: float) -> None:
        self._forget(response)
        self._is_worth_waiting = False
        response.close()

    def _forget(self, response: aiohttp.ClientResponse) -> None:
        self._watches.pop(response).stop()
        self._unclaimed.pop(response, None)


class Connector(aiohttp.TCPConnector):
    """Makes connections and keeps idle ones, without a limit: a wait for a slot would be counted as connecting."""

    def __init__(self, linger: Linger) -> None:
        super().__init__(limit=0)
        self._factory = partial(_new_protocol, self._loop)
        self._linger = linger

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        if req.connection_key not in self._conns:  # none is idle, but one may be in a moment
            await self._linger.wait_for_one()
        return await super().connect(req, traces, timeout)


class _Protocol(ResponseHandler):
    """One connection."""

    _requests = 0

    def set_response_params(self, **params: Any) -> None:
        self._requests += 1
        super().set_response_params(**params)

    async def read(self) -> tuple[RawResponseMessage, StreamReader]:
        """Wait for the head of an answer."""
        try:
            return await super().read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if self._requests > 1:
                raise KeptConnectionLostError from None
            raise

    def is_connected(self) -> bool:
        """Whether it can be used for a request: the pool asks before it gives one out."""
        return super().is_connected() and not self.should_close and not _is_readable(self.transport)

    def close(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()


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


def _new_protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Protocol(loop)
