"""The pool of an engine's own session.

A connection whose body ends a few milliseconds after the stream's terminal mark is not back in aiohttp's pool yet for
the next call, which would open another: here it is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from .connection import BufferedConnection, ConnectionProtocol
from .failures import FOREIGN
from .timers import Watch, Watchdog

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

READ_BYTES = 64 * 1024  # of one read
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

    def __init__(self, linger: Linger, watchdog: Watchdog) -> None:
        super().__init__(limit=0)
        self._factory = partial(_new_protocol, self._loop, watchdog, read_memory(self._loop))
        self._linger = linger
        self._keys: dict[URL, ConnectionKey] = {}  # of origins that there has been a connection to

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        key = self._keys[req.url.origin()] = req.connection_key
        if key not in self._conns:  # none is idle, but one may be in a moment
            await self._linger.wait_for_one()
        return await super().connect(req, traces, timeout)

    async def idle(self, url: URL) -> Connection | None:
        """Take an idle connection for a request to this address. `None` when there is none."""
        key = self._keys.get(url.origin())
        return None if key is None else await self._get(key, [])


def read_memory(loop: asyncio.AbstractEventLoop) -> memoryview | None:
    """What the connections of a pool read into. `None` on loops that have memory of their own for it, as uvloop."""
    return memoryview(bytearray(READ_BYTES)) if isinstance(loop, asyncio.SelectorEventLoop) else None


def _new_protocol(loop: asyncio.AbstractEventLoop, watchdog: Watchdog, memory: memoryview | None) -> ResponseHandler:
    return ConnectionProtocol(loop, watchdog) if memory is None else BufferedConnection(loop, watchdog, memory)
