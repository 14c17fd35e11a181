"""Bodies that are recorded while they are read, and answers that come from a cassette.

Both bodies are aiohttp's `StreamReader` with another source: whoever reads, in whatever way, ends in `_wait` when
nothing is there. No task stands behind them, and they hold one read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import TimerNoop
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import CassetteMismatchError, ClockError
from .library import Interaction
from .lines import Answered, Ended, Left, Lost, Read
from .losses import exception_of
from .take import Take

_UNBOUNDED = 2**62  # bytes to buffer: one read is held, and whoever sent it is slowed down elsewhere


class RecordedBody(aiohttp.StreamReader):
    """Gives out what another reader has, read by read, and writes it down.

    Args:
        source: The body as the connection delivers it.
        take: Where it is written.
    """

    def __init__(self, source: aiohttp.StreamReader, take: Take) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(_NoConnection(loop), _UNBOUNDED, loop=loop)
        self._source = source
        self._take = take
        source.on_eof(self._source_ended)

    def set_exception(self, exc: BaseException, exc_cause: Any = None) -> None:
        """Ends it from outside: the reader leaves, or a clock has run out."""
        if isinstance(exc, ClockError):
            self._take.lost(exc)
        else:
            self._take.left()
        cause = () if exc_cause is None else (exc_cause,)
        super().set_exception(exc, *cause)
        if self._source.exception() is None:
            self._source.set_exception(exc, *cause)

    async def _wait(self, func_name: str) -> None:
        try:
            data = await self._source.readany()
        except Exception as error:
            self._failed(error)
            raise
        self._arrived(data)

    def _arrived(self, data: bytes) -> None:
        if data:
            self._take.read(data)
            self.feed_data(data)
        if self._source.at_eof() and not self._eof:
            self._take.ended()
            self.feed_eof()

    def _source_ended(self) -> None:
        """The end has come: also when nobody reads any more, as behind the terminal mark of a stream."""
        if not self._eof and self._exception is None:
            self._arrived(self._source.read_nowait(-1) if self._source.exception() is None else b"")

    def _failed(self, error: BaseException) -> None:
        if self._exception is None:
            if rest := _unread(self._source):  # aiohttp's reader raises before it gives out what it holds
                self._take.read(rest)
                self.feed_data(rest)
            self._take.lost(error)
            super().set_exception(error)


class ReplayedBody(aiohttp.StreamReader):
    """Gives out recorded reads, each by itself and not before its time.

    Args:
        events: What came after the head.
        due: When an event is due, in seconds of the loop's clock.
        fail: Makes the exception for a loss.
    """

    def __init__(
        self, events: list[Any], due: Callable[[Any], float], fail: Callable[[Lost | Left], BaseException]
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(_NoConnection(loop), _UNBOUNDED, loop=loop)
        self._events = events[::-1]
        self._due = due
        self._fail = fail

    async def _wait(self, func_name: str) -> None:
        due = self._due(self._events[-1])
        if due > self._loop.time():
            timer = self._loop.call_at(due, self._play)
            try:
                await super()._wait(func_name)
            finally:
                timer.cancel()
            return
        await asyncio.sleep(0)  # it may be long, and others have to run
        if self._exception is None:
            self._play()
        if self._exception is not None:
            raise self._exception

    def _play(self) -> None:
        """Let the next event happen; the end comes with the last read, if it did."""
        event = self._events.pop()
        if isinstance(event, Read):
            self.feed_data(event.data)
            if isinstance(self._events[-1], Ended) and self._due(self._events[-1]) <= self._loop.time():
                self.feed_eof()
        elif isinstance(event, Ended):
            self.feed_eof()
        else:
            self.set_exception(self._fail(event))


class ReplayedResponse(aiohttp.ClientResponse):
    """An answer without a connection."""

    def __init__(self, url: URL, request_info: aiohttp.RequestInfo, head: Answered, body: ReplayedBody) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            request_info.method,
            url,
            writer=None,
            continue100=None,
            timer=TimerNoop(),
            request_info=request_info,
            traces=[],
            loop=loop,
            session=cast(Any, None),
            stream_writer=cast(Any, _NoUpload()),
        )
        headers = CIMultiDict(head.headers)
        self.version = aiohttp.HttpVersion11
        self.status = head.status
        self.reason = head.reason
        self._headers = CIMultiDictProxy(headers)
        self._raw_headers = tuple(
            (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in head.headers
        )
        self._raw_cookie_headers = tuple(headers.getall("Set-Cookie", ())) or None
        self._closed = False
        self.content = body
        body.on_eof(self._response_eof)


async def replayed(interaction: Interaction, url: URL, started: float, speed: float) -> ReplayedResponse:
    """The recorded answer to a request made at `started` of the loop's clock, when its head is due. At a speed of 0
    that is at once.

    Raises:
        CassetteMismatchError: Whoever recorded it did not wait for an answer.
        Exception: aiohttp's, for an answer that never came.
    """
    asked, head, events = interaction.asked, interaction.head, interaction.body

    def due(event: Any) -> float:
        return started + event.at / speed if speed else 0.0

    request_info = aiohttp.RequestInfo(url, asked.method, CIMultiDictProxy(CIMultiDict(asked.headers)), url)

    def fail(event: Lost | Left) -> BaseException:
        if isinstance(event, Lost):
            return exception_of(event.how, event.why, url, request_info)
        where = f"the recording of {asked.method} {asked.url} (line {interaction.line})"
        text = f"{where} ends here: who made it left, and more is asked for now"
        return CassetteMismatchError(text, phase="no_answer")

    first = head if head is not None else events[0]
    await asyncio.sleep(max(0.0, due(first) - asyncio.get_running_loop().time()))
    if head is None:
        assert isinstance(first, (Lost, Left))
        raise fail(first)
    return ReplayedResponse(url, request_info, head, ReplayedBody(events, due, fail))


class _NoConnection(BaseProtocol):
    """What stands where a connection would be paused and resumed."""

    @property
    def connected(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, resume_parser: bool = True) -> None:
        pass


class _NoUpload:
    output_size = 0


def _unread(content: Any) -> bytes:
    """Bytes that had arrived before the connection failed."""
    read_nowait = getattr(content, "_read_nowait", None)
    return b"" if read_nowait is None or content.at_eof() else bytes(read_nowait(-1))
