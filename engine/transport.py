"""One attempt on the wire: the only module that opens connections.

It knows aiohttp, clocks and bounds. It does not know gateways: what the bytes mean is the decoder's matter, and
whether to try again is Retry's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp

from .errors import (
    DeadlineExceededError,
    DisconnectedError,
    EngineClosedError,
    FirstEventTimeoutError,
    IdleTimeoutError,
    ModelEngineError,
    ProgressTimeoutError,
    ResponseTooLargeError,
    StreamTruncatedError,
)
from .exchange import Exchange, StreamDecoder
from .failures import FOREIGN, translate
from .timers import TaskLimit, Watch, Watchdog
from .types import Attempt, LLMResponseChunk, Timeouts
from .verdict import Answer, plain_headers

MAX_BODY_BYTES = 64 * 1024 * 1024  # of a unary answer: 2,048 base64 embeddings of 4,096 numbers are 45 MB
MAX_HEADER_BYTES = 32 * 1024  # one header; aiohttp's 8,190 is too small for some gateways' policy headers
T = TypeVar("T")
LINGER = 0.05  # seconds between the terminal mark and the end of the body; 3 to 20 ms were measured


class Transport:
    """Makes attempts over one aiohttp session.

    Args:
        session: The user's session, used as it is and left open. `None` makes one of our own.
        max_body_bytes: Bound on a unary body, decompressed.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._given = session
        self._max_body_bytes = max_body_bytes
        self._session: aiohttp.ClientSession | None = None
        self._watchdog: Watchdog | None = None
        self._open: set[TransportReply] = set()
        self._lingering: set[aiohttp.ClientResponse] = set()
        self._client_timeouts: dict[float | None, aiohttp.ClientTimeout] = {}

    def start(self) -> None:
        """Open the session, on the running loop."""
        self._watchdog = Watchdog(asyncio.get_running_loop())
        self._session = self._given or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # a wait for a pool slot would be counted as connecting
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            max_field_size=MAX_HEADER_BYTES,
        )

    async def stop(self) -> None:
        """Close what is open: streams first, then the session, if it is ours."""
        for reply in tuple(self._open):
            reply.abandon(EngineClosedError("the engine was stopped while the answer was being read"))
        for response in tuple(self._lingering):
            response.close()
        self._lingering.clear()
        if self._watchdog is not None:
            self._watchdog.close()
        session, self._session = self._session, None
        if session is not None and session is not self._given:
            await session.close()

    async def __call__(self, exchange: Exchange) -> TransportReply:
        """Send the request and wait for the head of the answer, whatever its status.

        Raises:
            TransportError: No connection, or it was lost; `phase` says how far it got.
            ClockError: `Timeouts.connect`, `first_event` or `deadline` ran out.
        """
        assert self._session is not None
        assert self._watchdog is not None
        context = exchange.context
        clock = context.clock
        attempt = Attempt(len(context.attempts) + 1, clock.monotonic())
        context.attempts.append(attempt)
        limit = self._limit(exchange)
        error: ModelEngineError
        try:
            response = await self._session.request(
                exchange.method,
                exchange.url,
                data=exchange.body,
                headers=exchange.headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=self._client_timeout(context.timeouts),
            )
        except asyncio.CancelledError:
            attempt.ended = clock.monotonic()
            attempt.phase = "no_answer"
            if limit is None or not limit.absorbs_cancellation():
                attempt.error = "CancelledError"
                raise
            error = self._overdue(exchange)
        except FOREIGN as foreign:
            error = translate(foreign, "no_answer")
        else:
            attempt.status = response.status
            attempt.request_id = response.headers.get("x-request-id")
            return TransportReply(self, self._watchdog, exchange, response, attempt, self._max_body_bytes)
        finally:
            if limit is not None:
                limit.stop()
        attempt.ended = clock.monotonic()
        # Raised outside of the except block: the context would hold aiohttp's request with its headers.
        raise context.stamp(error)

    def _limit(self, exchange: Exchange) -> TaskLimit | None:
        """Bounds connecting, writing the request and waiting for the head together."""
        timeouts = exchange.context.timeouts
        bounds = [seconds for seconds in (exchange.context.time_left,) if seconds is not None]
        if timeouts.first_event is not None:
            bounds.append(timeouts.first_event + (timeouts.connect or 0.0))
        if not bounds:
            return None
        assert self._watchdog is not None
        return TaskLimit(self._watchdog, asyncio.get_running_loop().time() + min(bounds))

    def _overdue(self, exchange: Exchange) -> ModelEngineError:
        if exchange.context.time_left == 0.0:
            return DeadlineExceededError("the call took longer than its deadline allows", phase="no_answer")
        seconds = exchange.context.timeouts.first_event
        return FirstEventTimeoutError(f"the gateway sent no answer within {seconds:g} s", phase="no_answer")

    def _client_timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        timeout = self._client_timeouts.get(timeouts.connect)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect)
            self._client_timeouts[timeouts.connect] = timeout
        return timeout

    def opened(self, reply: TransportReply) -> None:
        """A reply is open and is to be closed with the engine."""
        self._open.add(reply)

    def closed(self, reply: TransportReply) -> None:
        """A reply is over."""
        self._open.discard(reply)

    def linger(self, response: aiohttp.ClientResponse) -> None:
        """Let the end of a body arrive, for which nobody waits.

        aiohttp puts the connection back into the pool when it does; a server that never ends the body loses it after
        `LINGER`.
        """
        if response.closed:
            return
        self._lingering.add(response)
        asyncio.get_running_loop().call_later(LINGER, self._end_linger, response)

    def _end_linger(self, response: aiohttp.ClientResponse) -> None:
        self._lingering.discard(response)
        response.close()


class TransportReply:
    """An answer whose head has come. A `penstock.engine.exchange.Reply`."""

    def __init__(
        self,
        transport: Transport,
        watchdog: Watchdog,
        exchange: Exchange,
        response: aiohttp.ClientResponse,
        attempt: Attempt,
        max_body_bytes: int,
    ) -> None:
        self.attempt = attempt
        self.bytes = 0
        self.reads = 0
        self._transport = transport
        self._exchange = exchange
        self._response = response
        self._content = response.content
        self._max_body_bytes = max_body_bytes
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._decoder: StreamDecoder | None = None
        self._prelude: list[LLMResponseChunk] = []
        self._failure: ModelEngineError | None = None
        self._result: Any = None
        self._is_committed = False
        self._has_output = False
        self._is_over = False
        self._close_callbacks: list[Callable[[], None]] = []
        now = self._time()
        self._waiting_since: float | None = None
        self._paused_at = now
        self._progress_mark = now  # moved on by content, and by the time the reader took between two reads
        left = exchange.context.time_left
        self._deadline = None if left is None else now + left
        self._watch: Watch = watchdog.watch(self._next_check(now), self._check)
        transport.opened(self)

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Any:
        return self._response.headers

    @property
    def content(self) -> Any:
        return self._content

    @property
    def decoder(self) -> StreamDecoder | None:
        """The decoder of the stream. `None` before the first read, and for unary answers."""
        return self._decoder

    def release(self) -> None:
        """Give the connection back, or close it when the body is not at its end."""
        if not self._is_over:
            self._end()
            self._response.release()

    def abandon_soon(self) -> None:
        """As `release`, from wherever the garbage collector runs."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.release)

    def abandon(self, error: ModelEngineError) -> None:
        """Close the connection under a reader, who then gets `error`."""
        error.phase = self._phase
        self._content.set_exception(error)
        if self._failure is None and not self._is_over:
            self._failure = self._describe(error)
        self._end(error)
        self._response.close()

    def on_close(self, callback: Callable[[], None]) -> None:
        if self._is_over:
            callback()
        else:
            self._close_callbacks.append(callback)

    async def commit(self) -> None:
        if self._is_committed:
            return
        if self._exchange.context.stream:
            await self._commit_stream()
        else:
            self._result = await self._closing(self._read_whole())
        self._is_committed = True

    async def result(self) -> Any:
        await self.commit()
        return self._result

    async def chunks(self) -> list[LLMResponseChunk]:
        if self._prelude:
            chunks, self._prelude = self._prelude, []
            return chunks
        return await self._next_chunks()

    async def _commit_stream(self) -> None:
        prelude: list[LLMResponseChunk] = []
        while not self._has_output:
            chunks = await self._next_chunks()
            if not chunks:
                break
            prelude += chunks
        self._prelude = prelude

    async def _next_chunks(self) -> list[LLMResponseChunk]:
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = self._exchange.decoder(self._answer(b""))
        while True:
            if self._failure is not None:
                raise self._failure
            if self._is_over:
                return []
            data = await self._closing(self._read())
            if data:
                self.bytes += len(data)
                chunks = decoder.feed(data)
            elif self._failure is None:
                chunks = decoder.close()
            else:
                chunks = []
            if chunks:
                self.reads += 1
                self._note_progress(chunks)
            self._settle(decoder, at_end=not data)
            if chunks:
                return chunks

    async def _closing(self, reading: Coroutine[Any, Any, T]) -> T:
        """Read; when the reader is cancelled the connection is closed at once."""
        try:
            return await reading
        except asyncio.CancelledError:
            self.attempt.error = "CancelledError"
            self.attempt.phase = self._phase
            self._end()
            self._response.close()
            raise

    async def _read(self) -> bytes:
        """The next bytes; ``b""`` at the end, and when `_failure` has been set."""
        now = self._time()
        self._progress_mark += now - self._paused_at
        self._waiting_since = now
        try:
            return bytes(await self._content.readany())
        except FOREIGN as foreign:
            failure = translate(foreign, self._phase)
        except ModelEngineError as error:
            failure = error
        finally:
            self._waiting_since = None
            self._paused_at = self._time()
        # Outside of the except block, so that aiohttp's exception is not kept as context.
        rest = _unread(self._content)
        if self._exchange.context.stream and isinstance(failure, DisconnectedError):
            lost = StreamTruncatedError("the connection was lost in the middle of the stream")
            lost.__cause__ = failure.__cause__
            failure = lost
        self._failure = self._describe(failure)
        return rest

    async def _read_whole(self) -> Any:
        parts: list[bytes] = []
        while data := await self._read():
            self.bytes += len(data)
            self._progress_mark = self._paused_at
            if self.bytes > self._max_body_bytes:
                bound = self._max_body_bytes
                self._failure = self._describe(
                    ResponseTooLargeError(f"the body is larger than the {bound} bytes that are allowed for it")
                )
            if self._failure is not None:
                break
            parts.append(data)
        if self._failure is None:
            try:
                result = self._exchange.decoder(self._answer(b"".join(parts)))
            except ModelEngineError as error:
                self._failure = self._describe(error)
            else:
                self._end()
                self._response.release()
                return result
        self._fail()
        assert self._failure is not None
        raise self._failure

    def _note_progress(self, chunks: list[LLMResponseChunk]) -> None:
        if any(chunk.is_meaningful for chunk in chunks):
            self._has_output = True
            self._progress_mark = self._paused_at

    def _settle(self, decoder: StreamDecoder, *, at_end: bool) -> None:
        """After a read: see whether the stream is over, and how."""
        if decoder.failure is not None and (self._failure is None or isinstance(self._failure, StreamTruncatedError)):
            self._failure = self._describe(
                decoder.failure
            )  # an error event says more than the lost connection after it
        if decoder.finished and decoder.failure is None:
            self._failure = None  # what happens to the connection after the terminal mark is of no interest
            self._end()
            self._transport.linger(self._response)
        elif self._failure is not None:
            self._fail()
        elif at_end:
            self._end()
            self._response.release()

    @property
    def _phase(self) -> Any:
        return "after_output" if self._has_output else "before_output"

    def _answer(self, body: bytes) -> Answer:
        return Answer(self._response.status, self._response.headers, body, self._exchange.context.clock.time())

    def _describe(self, error: ModelEngineError) -> ModelEngineError:
        error.phase = self._phase
        error.request_id = error.request_id or self._response.headers.get("x-request-id")
        error.headers = error.headers or plain_headers(self._response.headers)
        return self._exchange.context.stamp(error)

    def _fail(self) -> None:
        self._end(self._failure)
        self._response.close()

    def _end(self, error: ModelEngineError | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._watch.stop()
        self._transport.closed(self)
        self.attempt.ended = self._exchange.context.clock.monotonic()
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            callback()

    def _limits(self) -> list[tuple[float, Callable[[], ModelEngineError]]]:
        """The times at which a clock runs out, as things stand. Silence counts only while somebody waits for bytes."""
        timeouts = self._exchange.context.timeouts
        limits: list[tuple[float, Callable[[], ModelEngineError]]] = []
        if self._deadline is not None:
            limits.append((self._deadline, self._deadline_error))
        if self._waiting_since is not None:
            silence = timeouts.idle if self._has_output else timeouts.first_event
            if silence is not None:
                limits.append((self._waiting_since + silence, self._silence_error))
            if timeouts.progress is not None:
                limits.append((self._progress_mark + timeouts.progress, self._progress_error))
        return limits

    def _next_check(self, now: float) -> float:
        """When to look again. Nothing is re-armed per read, so this is the soonest that a limit set from now on can
        end.
        """
        timeouts = self._exchange.context.timeouts
        spans = [span for span in (timeouts.first_event, timeouts.idle, timeouts.progress) if span is not None]
        dues = [due for due, _ in self._limits()]
        if spans:
            dues.append(now + min(spans))
        return min(dues, default=float("inf"))

    def _check(self, now: float) -> float | None:
        for due, error in self._limits():
            if due <= now:
                self._content.set_exception(error())
                return None
        return self._next_check(now)

    def _deadline_error(self) -> ModelEngineError:
        return DeadlineExceededError("the call took longer than its deadline allows")

    def _silence_error(self) -> ModelEngineError:
        timeouts = self._exchange.context.timeouts
        if self._has_output:
            return IdleTimeoutError(f"the gateway fell silent for {timeouts.idle:g} s in the middle of the answer")
        return FirstEventTimeoutError(
            f"the gateway sent nothing for {timeouts.first_event:g} s before the first output"
        )

    def _progress_error(self) -> ModelEngineError:
        seconds = self._exchange.context.timeouts.progress
        return ProgressTimeoutError(f"the gateway sent bytes but no content for {seconds:g} s")


def _unread(content: Any) -> bytes:
    """Bytes that had arrived before the connection failed.

    aiohttp's reader raises its exception before it gives out what it holds; the method below the check is private, so
    without it those bytes count as not received.
    """
    read_nowait = getattr(content, "_read_nowait", None)
    return b"" if read_nowait is None else bytes(read_nowait(-1))
