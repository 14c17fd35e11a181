"""One attempt on the wire: the only module that makes requests.

It knows aiohttp, clocks and bounds. It does not know gateways: what the bytes mean is the decoder's matter, and
whether to try again is Retry's.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

import aiohttp

from .errors import (
    ClockError,
    ConfigurationError,
    DeadlineExceededError,
    DisconnectedError,
    EngineClosedError,
    EngineStateError,
    FirstEventTimeoutError,
    IdleTimeoutError,
    ModelEngineError,
    ProgressTimeoutError,
    ResponseTooLargeError,
    StreamTruncatedError,
    TransportError,
    WrongEventLoopError,
    copied,
    type_name,
)
from .exchange import CallContext, Exchange, StreamDecoder
from .failures import FOREIGN, translate
from .hints import retry_hints
from .pool import Body, Connector, Linger, client_timeout
from .timers import NEVER, TaskLimit, Watchdog, weakly
from .types import Attempt, LLMResponseChunk, UsageInfo
from .usage import usage_of
from .verdict import Answer, plain_headers

MAX_BODY_BYTES = 64 * 1024 * 1024  # of a unary answer: 2,048 base64 embeddings of 4,096 numbers are 45 MB
MAX_HEADER_BYTES = 32 * 1024  # one header; aiohttp's 8,190 is too small for some gateways' policy headers
LARGE_READ_BYTES = 64 * 1024  # a network read has no more; decoding it takes a few milliseconds
_LAST_WORD = 0.01  # seconds for who waits at the deadline to say for what, before the call is ended over its head
LARGE_BODY_BYTES = 1024 * 1024  # from here on aiohttp wants a file: it writes in pieces, and lets the loop run between


@dataclass(frozen=True)
class _Opened:
    """What exists while the engine runs."""

    session: aiohttp.ClientSession
    watchdog: Watchdog
    linger: Linger


class Transport:
    """Makes attempts over one aiohttp session.

    Args:
        session: The user's session, used as it is and left open. `None` makes one of our own.
        max_body_bytes: Bound on a unary body, decompressed.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_body_bytes = max_body_bytes
        self._given = session
        self._opened: _Opened | None = None
        self._sending: set[TaskLimit] = set()
        self._replies: WeakSet[TransportReply] = WeakSet()  # a reply that everybody has lost is closed by its `__del__`

    def start(self) -> None:
        """Open the session, on the running loop.

        Raises:
            ConfigurationError: The given session is closed.
            WrongEventLoopError: The given session belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        watchdog = Watchdog(loop)
        linger = Linger(watchdog)
        self._opened = _Opened(self._checked(loop) or _new_session(linger, watchdog), watchdog, linger)

    async def stop(self) -> None:
        """End what is under way, then close the session, if it is ours."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        for limit in tuple(self._sending):
            limit.interrupt(EngineClosedError("the engine was stopped before an answer came", phase="no_answer"))
        for reply in tuple(self._replies):
            reply.abandon(EngineClosedError("the engine was stopped while the answer was being read"))
        opened.linger.close()
        opened.watchdog.close()
        if opened.session is not self._given:
            await opened.session.close()

    async def __call__(self, exchange: Exchange) -> TransportReply:
        """Send the request and wait for the head of the answer, whatever its status.

        Raises:
            TransportError: No connection, or it was lost; `phase` says how far it got.
            ClockError: `Timeouts.connect`, `write`, `first_event`, `answer` or `deadline` ran out.
            EngineClosedError: The engine was stopped, before or meanwhile.
        """
        context = exchange.context
        opened = self._opened
        if opened is None:
            raise context.stamp(EngineClosedError("the engine has been stopped", phase="not_sent"))
        if opened.session.closed:
            raise context.stamp(EngineClosedError("the session the engine was given has been closed", phase="not_sent"))
        clock, timeouts = context.clock, context.timeouts
        attempt = Attempt(len(context.attempts) + 1, clock.monotonic())
        context.attempts.append(attempt)
        limit = _limit(exchange, opened.watchdog)
        self._sending.add(limit)
        error: ModelEngineError | None = None
        try:
            with limit:
                send = partial(
                    opened.session.request,
                    exchange.method,
                    exchange.url,
                    data=_data(exchange.body),
                    headers=exchange.headers,
                    allow_redirects=False,
                    raise_for_status=False,
                    timeout=client_timeout(timeouts.connect, timeouts.write, opened.session is not self._given),
                )
                response = await (send() if context.wire is None else context.wire(send))
                attempt.status = response.status
                attempt.request_id = context.shown_id(response.headers.get("x-request-id"))
                return TransportReply(self, opened, exchange, response, attempt)
        except ModelEngineError as ours:
            error = ours  # of a middleware in the user's session
        except FOREIGN as foreign:
            error = translate(foreign, "no_answer")
        except BaseException as other:
            attempt.error, attempt.phase = type_name(other), "no_answer"
            raise
        finally:
            self._sending.discard(limit)
            if attempt.status is None:
                attempt.ended = clock.monotonic()
        error = limit.error or error
        assert error is not None
        # Raised outside of the except block: the context would hold aiohttp's request with its headers.
        try:
            raise context.stamp(error)
        finally:
            del error, limit  # they hold this frame, and with it the request

    def limited(self, context: CallContext) -> TaskLimit:
        """A limit at the deadline of a call, whatever it waits for; it can be interrupted before."""
        assert self._opened is not None
        watchdog, left = self._opened.watchdog, context.time_left
        due = NEVER if left is None else watchdog.time() + left + _LAST_WORD
        return TaskLimit(watchdog, due, _too_late)

    def opened(self, reply: TransportReply) -> None:
        """A reply is open and is to be closed with the engine."""
        self._replies.add(reply)

    def closed(self, reply: TransportReply) -> None:
        """A reply is over."""
        self._replies.discard(reply)

    def _checked(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession | None:
        """The session we were given, if it can be used on this loop."""
        if self._given is not None:
            if self._given.closed:
                raise ConfigurationError("the session given as session= is closed")
            if getattr(self._given, "_loop", loop) is not loop:
                raise WrongEventLoopError("the session given as session= belongs to another event loop")
        return self._given


def _new_session(linger: Linger, watchdog: Watchdog) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=Connector(linger, watchdog),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=MAX_HEADER_BYTES,
    )
    session._retry_connection = False  # it would send reads again by itself, and no ledger would know
    return session


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY_BYTES else body


_OURS = (ClockError, EngineStateError, StreamTruncatedError, TransportError)  # what the gateway has not told


def _too_late() -> ModelEngineError:
    return DeadlineExceededError("the call took longer than its deadline allows")


def _limit(exchange: Exchange, watchdog: Watchdog) -> TaskLimit:
    """Bounds connecting, writing the request and waiting for the head together."""
    context = exchange.context
    now = watchdog.time()
    left = context.time_left
    deadline = NEVER if left is None else now + left
    seconds = context.timeouts.until_head(stream=context.stream)
    silence = NEVER if seconds is None else now + seconds

    def make_error() -> ModelEngineError:
        if deadline <= silence:
            return DeadlineExceededError("the call took longer than its deadline allows", phase="no_answer")
        return FirstEventTimeoutError(f"the gateway sent no answer within {seconds:g} s", phase="no_answer")

    return TaskLimit(watchdog, min(deadline, silence), make_error)


class TransportReply:
    """An answer whose head has come. A `penstock.engine.exchange.Reply`."""

    def __init__(
        self,
        transport: Transport,
        opened: _Opened,
        exchange: Exchange,
        response: aiohttp.ClientResponse,
        attempt: Attempt,
    ) -> None:
        self.attempt = attempt
        self.bytes = 0
        self.reads = 0
        self.usage: UsageInfo | None = None
        self._transport = transport
        self._linger = opened.linger
        self._exchange = exchange
        self._response = response
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._decoder: StreamDecoder | None = None
        self._ready: list[LLMResponseChunk] = []  # decoded, and not given out yet
        self._failure: ModelEngineError | None = None
        self._result: Any = None
        self._is_committed = False
        self._has_output = False
        self._is_over = False
        self._read_size = 0  # bytes of the last read
        self._close_callbacks: list[Callable[[], None]] = []
        self._pushed: asyncio.Future[None] | None = None  # while what arrives is decoded where it arrives
        self._is_arriving = False
        now = self._time()
        self._waiting_since: float | None = None
        self._paused_at = now
        self._progress_mark = now  # moved on by content, and by the time the reader took between two reads
        left = exchange.context.time_left
        self._deadline = NEVER if left is None else now + left
        timeouts = exchange.context.timeouts
        spans = (timeouts.until_head(stream=exchange.context.stream), timeouts.idle, timeouts.progress)
        # Nothing is re-armed per read, so this is the soonest that a limit set from now on can end.
        self._pace = min((span for span in spans if span is not None), default=NEVER)
        self._watch = opened.watchdog.watch(min(self._deadline, now + self._pace), weakly(self._check))
        transport.opened(self)

    def __del__(self) -> None:
        if not self._is_over:
            self.abandon_soon()

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
    def failure(self) -> ModelEngineError | None:
        return self._failure

    @property
    def decoder(self) -> StreamDecoder | None:
        """The decoder of the stream. `None` before the first read, and for unary answers."""
        return self._decoder

    def release(self) -> None:
        """Give the connection back, or close it when the body is not at its end."""
        if not self._is_over:
            self._end()
            if getattr(self._response, "_writer", None) is None:
                self._response.release()
            else:  # it has answered before it had the whole request; aiohttp may keep such a connection
                self._response.close()

    def abandon_soon(self) -> None:
        """As `release`, from wherever the garbage collector runs."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.release)

    def abandon(self, error: ModelEngineError) -> None:
        """Close the connection from outside: a clock ran out, or the engine stops. The reader gets what had arrived,
        then `error`.
        """
        if self._is_over:
            return
        self._content.set_exception(error)  # wakes the reader, if one waits
        self._response.close()
        self._failure = self._describe(error)
        rest = _unread(self._content) if self._exchange.context.stream else b""
        if rest or self._decoder is not None:
            self._take(rest)
        self._end()

    def on_close(self, callback: Callable[[], None]) -> None:
        if self._is_over:
            callback()
        else:
            self._close_callbacks.append(callback)

    async def commit(self) -> None:
        if self._is_committed:
            return
        if self._exchange.context.stream:
            while not (self._has_output or self._is_over):
                await self._advance()
            if self._failure is not None and not self._has_output:
                raise copied(self._failure)
        else:
            self._result = await self._whole()
        self._is_committed = True

    async def result(self) -> Any:
        await self.commit()
        return self._result

    async def chunks(self) -> list[LLMResponseChunk]:
        while not self._ready:
            if self._failure is not None:
                raise copied(self._failure)
            if self._is_over:
                return []
            arrival = self._arrival()
            if arrival is None:
                await self._advance()
                continue
            lost: ModelEngineError | None = None
            try:
                await arrival
            except (OSError, asyncio.TimeoutError, aiohttp.ClientError) as foreign:
                lost = translate(foreign, self._phase)
            except BaseException as error:
                self._break_off(error)
                raise
            if lost is not None and not self._is_over:
                self._lose(lost)
                self._take(_unread(self._content))
        chunks, self._ready = self._ready, []
        return chunks

    def _arrival(self) -> asyncio.Future[None] | None:
        """Done when there is something to say. What arrives is decoded where it arrives, so that a read costs one
        change of tasks and no chain of coroutines. `None` where that cannot be, or where something has arrived
        already.
        """
        body = self._content
        if type(body) is not Body or body.has_more or asyncio.get_running_loop() is not self._loop:
            return None
        self._pushed = arrival = self._loop.create_future()
        self._waiting_since = now = self._time()
        self._progress_mark += now - self._paused_at
        body.listen(self._note_arrival)
        return arrival

    def _note_arrival(self) -> None:
        if isinstance(self._content, Body):
            self._arrived(self._content, None)

    def push(self, deliver: Callable[[list[LLMResponseChunk]], bool]) -> asyncio.Future[None] | None:
        """From now on give the chunks of each read to `deliver`, in the turn of the loop in which they arrive.

        Returns a future that is done when that has ended: `deliver` has returned false, or there is something else
        to say than chunks, which `chunks` then says. What `deliver` raises becomes the future's. `None` where the
        connection cannot do it.
        """
        body = self._content
        if type(body) is not Body or self._ready or self._is_over or self._failure is not None:
            return None
        self._pushed = pushed = self._loop.create_future()
        pushed.add_done_callback(self._push_cancelled)
        self._waiting_since = now = self._time()
        self._progress_mark += now - self._paused_at
        body.listen(lambda: self._arrived(body, deliver))
        self._arrived(body, deliver)
        return pushed

    def _arrived(self, body: Body, deliver: Callable[[list[LLMResponseChunk]], bool] | None) -> None:
        """Something came while somebody waits for it: chunks are given to `deliver`, or kept for `chunks`."""
        if self._is_arriving or self._pushed is None:
            return  # taking what is there has had the parser go on; or it came after the end
        self._is_arriving = True
        try:
            data = body.take()
            if data is not None:
                self._waiting_since = self._paused_at = self._time()
                self._read_size = len(data)
                self._take(data)
                if (self._ready and not self._delivered(deliver)) or self._is_over or self._failure is not None:
                    self._stop_push()
            elif body.exception() is not None:
                self._stop_push()
        except Exception as error:
            self._stop_push(error)
            self._break_off(error)
        finally:
            self._is_arriving = False
        if self._pushed is not None and body.has_more:  # in a later turn: a read may inflate a thousandfold
            self._loop.call_soon(self._arrived, body, deliver)

    def _delivered(self, deliver: Callable[[list[LLMResponseChunk]], bool] | None) -> bool:
        """Whether more is wanted after the chunks that are ready."""
        if deliver is None:
            return False
        chunks, self._ready = self._ready, []
        return deliver(chunks)

    def _push_cancelled(self, pushed: asyncio.Future[None]) -> None:
        """The reader was cancelled: told here, before its own turn comes."""
        if pushed.cancelled():
            self._break_off(asyncio.CancelledError())

    def _stop_push(self, error: Exception | None = None) -> None:
        pushed, self._pushed = self._pushed, None
        if pushed is None:
            return
        self._waiting_since = None
        if isinstance(self._content, Body):
            self._content.listen(None)
        if pushed.done():
            return
        if error is None:
            pushed.set_result(None)
        else:
            pushed.set_exception(error)

    async def _advance(self) -> None:
        """Read once from the stream, and decode what came."""
        try:
            data = await self._read()
            if not self._is_over:  # else it was ended from outside meanwhile
                self._take(data)
        except BaseException as error:
            self._break_off(error)
            raise

    async def _whole(self) -> Any:
        """Read and decode a unary answer."""
        try:
            # In one expression: a variable would be in every crash report of the error below.
            result = self._exchange.decoder(self._answer(await self._body()))
            self.usage = usage_of(result)
            self.release()
            return result
        except ModelEngineError as error:
            self._failure = self._describe(error)
        except BaseException as error:
            self._break_off(error)
            raise
        self._close()
        assert self._failure is not None
        raise copied(self._failure)

    async def _body(self) -> bytes:
        """Read a unary answer to its end."""
        parts: list[bytes] = []
        while self._failure is None and (data := await self._read()):
            self.bytes += len(data)
            parts.append(data)
            if self.bytes > (bound := self._transport.max_body_bytes):
                raise ResponseTooLargeError(f"the body is larger than the {bound} bytes that are allowed for it")
            if self._content.at_eof():
                break  # the usual case: the whole body came with the head
        if self._failure is not None:
            raise copied(self._failure)
        return b"".join(parts)

    async def _read(self) -> bytes:
        """The next bytes; ``b""`` at the end. When the connection is lost, what had arrived before, and `_failure` is
        set.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError("the answer is read on another event loop than the one it was asked for on")
        if self._read_size > LARGE_READ_BYTES:
            await asyncio.sleep(0)  # what is buffered is given out without a wait, and a read inflates a thousandfold
        now = self._time()
        self._progress_mark += now - self._paused_at
        self._waiting_since = now
        try:
            data = bytes(await self._content.readany())
            self._read_size = len(data)
            return data
        except (ModelEngineError, *FOREIGN, RuntimeError) as foreign:  # aiohttp's RuntimeError: "Connection closed."
            failure = translate(foreign, self._phase)
            foreign.__traceback__ = None  # the body keeps its exception, whose frames would keep this reply
        finally:
            self._waiting_since = None
            self._paused_at = self._time()
        if self._is_over:
            return b""  # ended from outside
        # Outside of the except block, so that aiohttp's exception is not kept as context.
        self._lose(failure)
        return _unread(self._content)

    def _lose(self, failure: ModelEngineError) -> None:
        """The connection was lost, or what came is no HTTP."""
        if self._exchange.context.stream and isinstance(failure, DisconnectedError):
            lost = StreamTruncatedError("the connection was lost in the middle of the stream")
            lost.__cause__ = failure.__cause__
            failure = lost
        self._failure = self._describe(failure)

    def _take(self, data: bytes) -> None:
        """Decode a read of the stream; ``b""`` is its end."""
        decoder = self._decoder or self._new_decoder()
        if decoder is None:
            return
        chunks: list[LLMResponseChunk] = []
        if data:
            self.bytes += len(data)
            chunks = decoder.feed(data)
        elif self._failure is None:
            chunks = decoder.close()
        if self._failure is not None:
            chunks += decoder.abort()
        if chunks:
            self.reads += 1
            self._ready += chunks
            if any(chunk.has_content for chunk in chunks):
                self._has_output = True
                self._progress_mark = self._paused_at
            elif not self._has_output:
                self._has_output = any(chunk.is_meaningful for chunk in chunks)  # a finish reason is no progress
        self.usage = decoder.usage
        if decoder.governance is not None:
            self._exchange.context.governance = decoder.governance
        self._settle(decoder, at_end=not data)

    def _new_decoder(self) -> StreamDecoder | None:
        """The decoder for this answer. `None`, with `_failure` set, when the head alone tells that it is no stream."""
        try:
            decoder: StreamDecoder = self._exchange.decoder(self._answer(b""))
        except ModelEngineError as error:
            self._failure = self._describe(error)
            self._close()
            return None
        self._decoder = decoder
        return decoder

    def _settle(self, decoder: StreamDecoder, *, at_end: bool) -> None:
        """After a read: see whether the stream is over, and how."""
        if decoder.failure is not None and (self._failure is None or isinstance(self._failure, StreamTruncatedError)):
            # An error event says more than the lost connection after it.
            self._failure = self._describe(decoder.failure)
        if decoder.finished and decoder.failure is None:
            self._failure = None  # what happens to the connection after the terminal mark is of no interest
            self._end()
            self._linger.add(self._response)
        elif self._failure is not None:
            # What had arrived before the failure may have been the first output.
            self._failure.phase = self.attempt.phase = self._phase
            self._close()
        elif at_end:
            self.release()

    @property
    def _phase(self) -> Any:
        return "after_output" if self._has_output else "before_output"

    def _answer(self, body: bytes) -> Answer:
        return Answer(self._response.status, self._response.headers, body, self._exchange.context.clock.time())

    def _describe(self, error: ModelEngineError) -> ModelEngineError:
        # The frames of decoders, and JSON errors, hold what the gateway sent: it may have sent the key back.
        error.__traceback__ = error.__context__ = None
        error.phase = self._phase
        error.request_id = error.request_id or self._response.headers.get("x-request-id")
        error.headers = error.headers or plain_headers(self._response.headers)
        if error.retry_after is None and not isinstance(error, _OURS):
            error.retry_after = retry_hints(self._response.headers, self._exchange.context.clock.time()).after
        if error.governance is None and self._decoder is not None:
            error.governance = self._decoder.governance
        return self._exchange.context.stamp(error)

    def _break_off(self, error: BaseException) -> None:
        """The reader was cancelled, or the decoder has a bug: nothing more is read."""
        if not self._is_over:
            self.attempt.error, self.attempt.phase = type_name(error), self._phase
            self._close()

    def _close(self) -> None:
        self._end()
        self._response.close()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._watch.stop()
        self._stop_push()
        self._transport.closed(self)
        self.attempt.ended = self._exchange.context.clock.monotonic()
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            callback()

    def _limits(self) -> list[tuple[float, Callable[[], ModelEngineError]]]:
        """The times at which a clock runs out, as things stand. Silence counts only while somebody waits for bytes."""
        timeouts = self._exchange.context.timeouts
        limits: list[tuple[float, Callable[[], ModelEngineError]]] = [(self._deadline, self._deadline_error)]
        if self._waiting_since is not None:
            is_stream = self._exchange.context.stream
            # A unary answer has no output before its end: both clocks of silence run once it has begun to come.
            has_begun = self._has_output or (self.bytes > 0 and not is_stream)
            until_head = timeouts.until_head(stream=is_stream)
            if has_begun and timeouts.idle is not None:
                limits.append((self._waiting_since + timeouts.idle, self._idle_error))
            if not self._has_output and until_head is not None:
                limits.append((self._waiting_since + until_head, self._first_event_error))
            if is_stream and timeouts.progress is not None:
                limits.append((self._progress_mark + timeouts.progress, self._progress_error))
        return limits

    def _check(self, now: float) -> float | None:
        limits = self._limits()
        for due, error in limits:
            if due <= now:
                self.abandon(error())
                return None
        return min(now + self._pace, *(due for due, _ in limits))

    def _deadline_error(self) -> ModelEngineError:
        return DeadlineExceededError("the call took longer than its deadline allows")

    def _idle_error(self) -> ModelEngineError:
        seconds = self._exchange.context.timeouts.idle
        return IdleTimeoutError(f"the gateway fell silent for {seconds:g} s in the middle of the answer")

    def _first_event_error(self) -> ModelEngineError:
        context = self._exchange.context
        seconds = context.timeouts.until_head(stream=context.stream)
        return FirstEventTimeoutError(f"the gateway sent nothing for {seconds:g} s before the first output")

    def _progress_error(self) -> ModelEngineError:
        seconds = self._exchange.context.timeouts.progress
        return ProgressTimeoutError(f"the gateway sent bytes but no content for {seconds:g} s")


def _unread(content: Any) -> bytes:
    """Bytes that had arrived before the connection failed.

    aiohttp's reader raises its exception before it gives out what it holds; the method below the check is private, so
    without it those bytes count as not received.
    """
    read_nowait = getattr(content, "_read_nowait", None)
    return b"" if read_nowait is None or content.at_eof() else bytes(read_nowait(-1))
