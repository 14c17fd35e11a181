"""A server that plays a scenario, request by request, and keeps the books.

What a client says of itself proves nothing: who was asked how often, when, with which key and at which address stands
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import orjson

from tests.raw_server import Connection, RawServer, Request

if TYPE_CHECKING:
    from typing_extensions import Self

Act = Callable[["Visit"], Awaitable[None]]
"""One thing the server does."""


@dataclass(frozen=True)
class Play:
    """What the server does with one request.

    Args:
        acts: One after the other; bytes are sent as they are. After the last the connection stays open.
        runs: Whether the gateway carries the request out.
        keeps: Whether the connection is fit for another request afterwards.
        reads_first: Whether it reads the request before it does anything. Otherwise it begins with the connection.
    """

    acts: tuple[Act | bytes, ...]
    runs: bool = False
    keeps: bool = False
    reads_first: bool = True


@dataclass
class Books:
    """What the server has seen and done.

    Attributes:
        asked: Requests, or connections where a play does not read.
        keys: The idempotency key of each request; `None` where it had none.
        runs: How often the gateway has carried a request out. A key that it knows is answered from memory.
        elsewhere: Requests that came under another address than the server's own, with prompt and key in them.
        times: The time of each request, by the clock that was given.
    """

    asked: int = 0
    keys: list[str | None] = field(default_factory=list)
    runs: int = 0
    elsewhere: int = 0
    times: list[float] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def wants_to_run(self, key: str | None, *, honours_keys: bool) -> None:
        """A request arrives that is to be carried out: once for each key, where keys are honoured."""
        if key is None or not honours_keys or key not in self.known:
            self.runs += 1
        if key is not None:
            self.known.add(key)


class Visit:
    """One request, as acts see it.

    Attributes:
        request: `None` where the play has not read it.
    """

    def __init__(self, server: FaultServer, connection: Connection, request: Request | None) -> None:
        self.server = server
        self.connection = connection
        self.request = request

    @property
    def wants_stream(self) -> bool:
        return self.request is not None and orjson.loads(self.request.body or b"{}").get("stream") is True


class FaultServer:
    """Plays one scenario.

    Args:
        plays: What it does with the first request, the second and so on; the last one is played from then on.
        now: Gives the time that is written into the books.
        honours_keys: Whether a request with a known idempotency key is answered from memory.
    """

    def __init__(
        self, plays: Sequence[Play], *, now: Callable[[], float] = lambda: 0.0, honours_keys: bool = True
    ) -> None:
        self.books = Books()
        self.is_over = asyncio.Event()
        """Set by the test when a call is over: for acts on an idle connection."""
        self.is_there = asyncio.Event()
        """Set where the caller is to cancel."""
        self.idled = asyncio.Event()
        """Set when an act on an idle connection is done."""
        self._plays = tuple(plays)
        self._now = now
        self._honours_keys = honours_keys
        self._connections: list[Connection] = []
        self._raw = RawServer(self._talk)

    @property
    def url(self) -> str:
        return self._raw.url

    @property
    def open_connections(self) -> int:
        return self._raw.open_connections

    @property
    def sent(self) -> int:
        """Bytes, over all connections."""
        return sum(connection.sent for connection in self._connections)

    async def until_open(self, count: int, within: float = 5.0) -> None:
        """Wait until at most so many connections are open."""
        await self._raw.until_open(count, within)

    async def __aenter__(self) -> Self:
        await self._raw.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._raw.__aexit__(kind, error, traceback)

    async def _talk(self, connection: Connection) -> None:
        self._connections.append(connection)
        is_kept = True
        while is_kept:
            request = await connection.receive() if self._next.reads_first else None
            play = self._next
            self._write_down(request, play)
            visit = Visit(self, connection, request)
            for act in play.acts:
                await (connection.send(act) if isinstance(act, bytes) else act(visit))
            is_kept = play.keeps

    @property
    def _next(self) -> Play:
        return self._plays[min(self.books.asked, len(self._plays) - 1)]

    def _write_down(self, request: Request | None, play: Play) -> None:
        books = self.books
        books.asked += 1
        books.times.append(self._now())
        if request is None:
            return
        key = request.header("idempotency-key")
        books.keys.append(key)
        host = request.header("host")
        books.elsewhere += host is not None and f"http://{host}" != self.url
        if play.runs:
            books.wants_to_run(key, honours_keys=self._honours_keys)
