"""Who makes requests for the transport: a session of our own, or the user's.

aiohttp's session does much for each request that a gateway's client has no use for: cookies, redirects, proxies,
traces, payloads of every kind, a task that writes the body. It is a third of what a request costs. So on an idle
connection of our own a request is written as it is; what needs a new connection, or has anything but a short body,
takes aiohttp's whole way. Both write the same bytes. Where this aiohttp is not made as the one that was read,
everything takes the whole way, see `is_known_aiohttp`.
"""

from __future__ import annotations

import functools
import inspect
import io
from typing import Protocol

import aiohttp
from aiohttp import ClientResponse, ClientTimeout, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import SERVER_SOFTWARE, StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy

from .exchange import Exchange
from .pool import Connector, Linger
from .timers import Watchdog

MAX_HEADER_BYTES = 32 * 1024  # one header; aiohttp's 8,190 is too small for some gateways' policy headers
LARGE_BODY_BYTES = 1024 * 1024  # from here on aiohttp wants a file: it writes in pieces, and lets the loop run between
AT_ONCE_BYTES = (
    64 * 1024
)  # a larger body may have to wait for the peer to read; up to here aiohttp does not wait either

# Headers that change how the body is written, and so are for aiohttp to understand
_FRAMING = (hdrs.HOST, hdrs.EXPECT, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_ENCODING, hdrs.CONTENT_LENGTH)
_ACCEPT_ENCODING = aiohttp.ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING]
_NO_TIMER = TimerNoop()


class Session(Protocol):
    """Makes requests."""

    @property
    def closed(self) -> bool: ...

    async def send(self, exchange: Exchange) -> ClientResponse:
        """Send the request, and wait for the head of the answer. Raises what aiohttp raises."""
        ...

    async def close(self) -> None: ...


class GivenSession:
    """A user's session, used as it is and left open."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def send(self, exchange: Exchange) -> ClientResponse:
        return await _whole_way(self._session, exchange, _given_timeout(exchange.context.timeouts.connect))

    async def close(self) -> None:
        """It is not ours."""


class OwnSession:
    """A session of our own.

    Args:
        linger: Has connections that are about to be idle.
        watchdog: Looks at the clocks of its connections.

    Attributes:
        connector: Its pool.
    """

    def __init__(self, linger: Linger, watchdog: Watchdog) -> None:
        self.connector = Connector(linger, watchdog)
        self._session = aiohttp.ClientSession(
            connector=self.connector, cookie_jar=aiohttp.DummyCookieJar(), max_field_size=MAX_HEADER_BYTES
        )
        self._session._retry_connection = False  # it would send reads again by itself, and no ledger would know
        self._loop = self.connector._loop
        self._is_known = is_known_aiohttp()

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def send(self, exchange: Exchange) -> ClientResponse:
        timeouts, body, headers = exchange.context.timeouts, exchange.body, exchange.headers
        timeout = _own_timeout(timeouts.connect, timeouts.write)
        is_plain = self._is_known and body is not None and len(body) <= AT_ONCE_BYTES
        for name in _FRAMING:
            if name in headers:
                is_plain = False
        if is_plain and (connection := await self.connector.idle(exchange.url)) is not None:
            return await self._straight_on(connection, exchange, timeout)
        return await _whole_way(self._session, exchange, timeout)

    async def close(self) -> None:
        await self._session.close()

    async def _straight_on(self, connection: Connection, exchange: Exchange, timeout: ClientTimeout) -> ClientResponse:
        protocol, loop, method, url, body = (
            connection.protocol,
            self._loop,
            exchange.method,
            exchange.url,
            exchange.body,
        )
        assert protocol is not None
        assert body is not None
        try:
            headers = CIMultiDict({hdrs.HOST: url.host_port_subcomponent or ""})
            headers.extend(exchange.headers)
            headers.setdefault(hdrs.ACCEPT_ENCODING, _ACCEPT_ENCODING)
            headers.setdefault(hdrs.USER_AGENT, SERVER_SOFTWARE)
            headers[hdrs.CONTENT_LENGTH] = str(len(body))
            protocol.set_response_params(
                timer=_NO_TIMER,
                read_until_eof=True,
                read_timeout=timeout.sock_read,
                max_field_size=MAX_HEADER_BYTES,
            )
            writer = StreamWriter(protocol, loop)
            await writer.write_headers(f"{method} {url.raw_path_qs} HTTP/1.1", headers)
            await writer.write_eof(body)
            response = ClientResponse(
                method,
                url,
                writer=None,
                continue100=None,
                timer=_NO_TIMER,
                request_info=aiohttp.RequestInfo(url, method, CIMultiDictProxy(headers), url),
                traces=[],
                loop=loop,
                session=self._session,
                stream_writer=writer,
            )
            try:
                return await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise


@functools.lru_cache(maxsize=1)
def is_known_aiohttp() -> bool:
    """Whether what `OwnSession` takes from inside of aiohttp is as it was in 3.14."""
    made_with = ("method", "url", "writer", "continue100", "timer", "request_info", "traces", "loop", "session")
    taken = (
        (ClientResponse.__init__, ("self", *made_with, "stream_writer")),
        (ClientResponse.start, ("self", "connection")),
        (StreamWriter.write_headers, ("self", "status_line", "headers")),
        (StreamWriter.write_eof, ("self", "chunk")),
        (BaseConnector._get, ("self", "key", "traces")),
    )
    params = inspect.signature(ResponseHandler.set_response_params).parameters
    return {"timer", "read_until_eof", "read_timeout", "max_field_size"} <= params.keys() and all(
        tuple(inspect.signature(method).parameters) == names for method, names in taken
    )


async def _whole_way(session: aiohttp.ClientSession, exchange: Exchange, timeout: ClientTimeout) -> ClientResponse:
    body = exchange.body
    return await session.request(
        exchange.method,
        exchange.url,
        data=io.BytesIO(body) if body is not None and len(body) > LARGE_BODY_BYTES else body,
        headers=exchange.headers,
        allow_redirects=False,
        raise_for_status=False,
        timeout=timeout,
    )


@functools.lru_cache(maxsize=64)
def _own_timeout(connect: float | None, write: float | None) -> ClientTimeout:
    """The clocks that are left to aiohttp: connecting; and writing, for which it has none. Our own connections get that
    in the place of the clock for reading, which is off.
    """
    return ClientTimeout(total=None, connect=connect, sock_connect=connect, sock_read=write)


@functools.lru_cache(maxsize=64)
def _given_timeout(connect: float | None) -> ClientTimeout:
    """In a user's session the clock for connecting may count the wait for a slot of the pool as well, so there each
    address has the time for itself.
    """
    return ClientTimeout(total=None, sock_connect=connect)
