"""A proxy that any client can be pointed to: it records what a gateway answers, or plays it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..errors import CassetteError, ConfigurationError
from .deck import Deck, recorded
from .relay import HOP_BY_HOP, LOST, Relay

if TYPE_CHECKING:
    from typing_extensions import Self

_HOST = "127.0.0.1"  # what clients send here goes on with their keys
_MAX_HEADER_BYTES = 32 * 1024  # as the engine's own connections

_OURS = ("host", "content-length", "accept-encoding", "expect")  # headers that the proxy answers for

Told = Callable[[str, str, str], None]
"""Is told method, path and outcome of each request."""


class Proxy:
    """Listens on a port of this machine, and hands every request on to a gateway, or answers it from a cassette.

    Each request has a connection of its own on both sides, so that a lost one is the gateway's doing. The gateway is
    asked not to compress.

    Args:
        deck: The cassette.
        to: The root of the gateway; paths are appended to it. `None` where nothing is recorded.
        port: 0 takes a free one.
        told: Called when a request is over.

    Raises:
        ConfigurationError: `to` is not the address of an HTTP server.
    """

    def __init__(
        self, deck: Deck, to: str | None = None, *, port: int = 0, told: Told = lambda method, path, outcome: None
    ) -> None:
        self._deck = deck
        self._to = None if to is None else _checked_root(to)
        self._wanted_port = port
        self._told = told
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Proxy {self.url if self._listener is not None else 'stopped'}, {self._deck!r}>"

    @property
    def url(self) -> str:
        """The root that clients are given, without a slash at its end."""
        if self._listener is None:
            raise RuntimeError("the proxy is not running; use 'async with Proxy(...) as proxy:' or start() it")
        return f"http://{_HOST}:{self._listener.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Read the cassette if there is one to play, and listen. Twice is harmless.

        Raises:
            CassetteError: The cassette cannot be read.
            OSError: The port is taken.
        """
        if self._listener is not None:
            return
        self._deck.library  # noqa: B018 - it is read now, and not while the first client waits
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(server, _HOST, self._wanted_port)
        self._server = server
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the client's clocks decide
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_field_size=_MAX_HEADER_BYTES,
        )
        self._session._retry_connection = False  # it would send reads again by itself

    async def stop(self) -> None:
        """Drop every connection. Twice is harmless."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        assert self._server is not None
        assert self._session is not None
        listener.close()
        await self._server.shutdown(0.0)
        await self._session.close()
        await listener.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        relay, response = Relay(request), None
        outcome = "left"
        try:
            body = await relay.read()
            try:
                response = await self._response(request, body)
            except CassetteError as error:
                if error.phase != "not_sent":
                    raise
                outcome = error.message
                return await relay.refuse(error)
            outcome = f"{response.status}, left"
            answered = await relay.answer(response)
            outcome = str(response.status)
            return answered
        except LOST as error:
            outcome = f"{outcome.replace('left', 'lost')} ({type(error).__name__})"
            return await relay.lose(error)
        finally:
            if response is not None:
                response.close()
            self._told(request.method, request.path, outcome)

    async def _response(self, request: web.BaseRequest, body: bytes | None) -> aiohttp.ClientResponse:
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP and name.lower() not in _OURS
        )
        if self._deck.library is not None:
            asked = URL(self.url).join(URL(request.raw_path, encoded=True))
            return await self._deck.play(request.method, asked, headers, body)
        if self._to is None:
            raise CassetteError(f"{self._deck.path} is to be recorded, and nobody said from where", phase="not_sent")
        url = URL(f"{str(self._to).rstrip('/')}{request.raw_path}", encoded=True)
        take = self._deck.take(request.method, url, headers, body)
        assert self._session is not None
        session = self._session
        sent = CIMultiDict((*headers.items(), ("Accept-Encoding", "identity")))
        try:
            response: aiohttp.ClientResponse = await recorded(
                take, lambda: session.request(request.method, url, data=body, headers=sent, allow_redirects=False)
            )
        except BaseException:
            take.left()  # nothing when it is known already
            raise
        return response


def _checked_root(to: str) -> URL:
    try:
        url = URL(to)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"a gateway's root is an http:// or https:// address, not {to!r:.80}")
    return url
