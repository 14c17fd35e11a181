"""An answer whose head has come: its body read, decoded and watched by the clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import aiohttp

from .connection import Body
from .errors import (
    ClockError,
    DeadlineExceededError,
    DisconnectedError,
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
from .exchange import Exchange, StreamDecoder
from .failures import FOREIGN, translate
from .hints import retry_hints
from .lane import Lane
from .pool import Linger
from .timers import NEVER, Watch, Watchdog, weakly
from .types import Attempt, LLMResponseChunk, TextChunk, UsageInfo
from .usage import usage_of
from .verdict import Answer, plain_headers

LARGE_READ_BYTES = 64 * 1024  # a network read has no more; decoding it takes a few milliseconds

Deliver = Callable[[list[LLMResponseChunk]], bool]
"""Takes the chunks of a read. Says whether it wants more."""

_OURS = (ClockError, EngineStateError, StreamTruncatedError, TransportError)  # what the gateway has not told


class TransportReply:
    """An answer whose head has come. A `penstock.engine.exchange.Reply`.

    Args:
        exchange: What was asked.
        response: aiohttp's, with the body still on the wire.
        attempt: The ledger's entry, which is ended with the answer.
        linger: Takes over connections whose stream has had its terminal mark.
        watchdog: Looks at the clocks.
        replies: Those that are open and can be ended from outside; it stands there until it is over.
        max_body_bytes: Bound on a unary body, decompressed.
    """

    def __init__(
        self,
        exchange: Exchange,
        response: aiohttp.ClientResponse,
        attempt: Attempt,
        *,
        linger: Linger,
        watchdog: Watchdog,
        replies: WeakSet[TransportReply],
        max_body_bytes: int,
    ) -> None:
        self._loop = watchdog.loop
        self.lane = Lane(watchdog, exchange.context.clock)
        self._time = watchdog.time
        now = self._time()
        self._content = response.content
        self._decoder: StreamDecoder | None = None
        self._ready: list[LLMResponseChunk] = []  # decoded, and not given out yet
        self._failure: ModelEngineError | None = None
        self._is_over = False
        self._has_output = False
        self._deliver: Deliver | None = None  # whom what arrives is given to; `None` keeps it for `chunks`
        self._is_listening = False
        self._is_arriving = False
        self._read_size = 0  # bytes of the last read
        self.attempt = attempt
        self._linger = linger
        self._replies = replies
        self._max_body_bytes = max_body_bytes
        self._exchange = exchange
        self._response = response
        self._result: Any = None
        self._is_committed = False
        self._close_callbacks: list[Callable[[], None]] = []
        left = exchange.context.time_left
        self._deadline = NEVER if left is None else now + left
        self._pace = NEVER
        self._watch: Watch | None = None
        if not self._content.is_eof():  # else everything has come: there is nothing to wait for
            self._begin_watch(watchdog, now)
        self._is_listed = exchange.context.stream or self._watch is not None
        if self._is_listed:
            replies.add(self)

    def _begin_watch(self, watchdog: Watchdog, now: float) -> None:
        timeouts, is_stream = self._exchange.context.timeouts, self._exchange.context.stream
        spans = (timeouts.until_head(stream=is_stream), timeouts.idle, timeouts.progress)
        # Nothing is re-armed per read, so this is the soonest that a limit set from now on can end.
        self._pace = min((span for span in spans if span is not None), default=NEVER)
        self._watch = watchdog.watch(min(self._deadline, now + self._pace), weakly(self._check))

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
    def usage(self) -> UsageInfo | None:
        return usage_of(self._result) if self._decoder is None else self._decoder.usage

    @property
    def decoder(self) -> StreamDecoder | None:
        """The decoder of the stream. `None` before the first read, and for unary answers."""
        return self._decoder

    def release(self) -> None:
        """Give the connection back, or close it when the body is not at its end."""
        if self._is_over:
            return
        self._end()
        if getattr(self._response, "_writer", None) is not None:
            # It has answered before it had the whole request; aiohttp may keep such a connection.
            self._response.close()
        elif not self._response.closed:  # else aiohttp has given it back at the end of the body
            self._response.release()

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
            await self._decode_whole()
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
            if (body := self._listenable()) is None:
                await self._advance()
                continue
            self.lane.close()
            try:
                await self._listen(body, None)
            except BaseException as error:
                if not self.lost(error):
                    raise
        return self.arrived()

    def arrival(self) -> asyncio.Future[None] | None:
        if (body := self._listenable()) is None:
            return None
        self._open_lane()
        return self._listen(body, None)

    def _listenable(self) -> Body | None:
        """The body, where the next read can be decoded in the callback that brings it, and has not come yet."""
        body = self._content
        if type(body) is not Body or self._ready or self._is_over or self._failure is not None or body.has_more:
            return None
        return body if asyncio.get_running_loop() is self._loop else None

    def arrived(self) -> list[LLMResponseChunk]:
        chunks, self._ready = self._ready, []
        return chunks

    def lost(self, error: BaseException) -> bool:
        if isinstance(error, RuntimeError) and asyncio.get_running_loop() is not self._loop:
            return True
        if not isinstance(
            error, (OSError, asyncio.TimeoutError, aiohttp.ClientError)
        ):  # the decoder raises none of them
            self._break_off(error)
            return False
        if not self._is_over:
            self._lose(translate(error, self._phase))
            self._take(_unread(self._content))
        error.__traceback__ = None  # its frames would keep this reply
        return True

    def push(self, deliver: Deliver) -> asyncio.Future[None] | None:
        """From now on give the chunks of each read to `deliver`, in the turn of the loop in which they arrive.

        Returns a future that is done when that has ended: `deliver` has returned false, or there is something else
        to say than chunks, which `chunks` then says. What `deliver` raises becomes the future's. `None` where the
        connection cannot do it.
        """
        body = self._content
        if type(body) is not Body or self._ready or self._is_over or self._failure is not None:
            return None
        pushed = self._listen(body, deliver)
        pushed.add_done_callback(self._push_cancelled)
        self._arrived()
        self._open_lane()
        return pushed

    def pause(self) -> None:
        lane = self.lane
        lane.sink = lane.held = lane.raised = None
        self._stop_listening()

    def _listen(self, body: Body, deliver: Deliver | None) -> asyncio.Future[None]:
        """Decode what arrives where it arrives, until the future is done."""
        self._deliver = deliver
        self._is_listening = True
        body.listen(self._arrived)
        return self.lane.wait()

    def _open_lane(self) -> None:
        """Have the next read take the short way, where it may be like those before it."""
        lane, body, decoder = self.lane, self._content, self._decoder
        if lane.is_open or decoder is None or self._is_over or type(body) is not Body:
            return
        if body.has_more or not body.is_between_chunks or "content-encoding" in self._response.headers:
            return
        if (pattern := decoder.pattern) is not None:
            lane.open(pattern)
            body.attach(lane)

    def _arrived(self) -> None:
        """Something came while somebody waits for it: chunks are delivered, or kept for `chunks`."""
        body = self._content
        lane = self.lane
        if self._is_arriving or lane.waiter is None or not isinstance(body, Body):
            return  # taking what is there has had the parser go on; or nobody waits
        self._is_arriving = True
        try:
            data = body.take()
            if data is not None:
                lane.waiting_since = lane.paused_at = self._time()
                self._read_size = len(data)
                self._take(data)
                if self._ready and self._deliver is not None:
                    chunks, self._ready = self._ready, []
                    if not self._deliver(chunks):
                        lane.wake()
                if self._ready or self._is_over or self._failure is not None:
                    lane.wake()
                elif self._deliver is not None:
                    self._open_lane()
            elif body.exception() is not None:
                lane.wake()
        except Exception as error:
            lane.wake(error)
            self._break_off(error)
        finally:
            self._is_arriving = False
        if lane.waiter is not None and body.has_more:  # in a later turn: a read may inflate a thousandfold
            self._loop.call_soon(self._arrived)

    def _push_cancelled(self, pushed: asyncio.Future[None]) -> None:
        """The reader was cancelled: told here, before its own turn comes."""
        if pushed.cancelled():
            self._break_off(asyncio.CancelledError())

    def _stop_listening(self) -> None:
        """End the wait of whoever waits. What arrives from now on is kept."""
        body = self._content
        if self._is_listening and isinstance(body, Body):
            self._is_listening = False
            self._deliver = None
            self.lane.close()
            self.lane.wake()
            body.detach(self._arrived, self.lane)

    async def _advance(self) -> None:
        """Read once from the stream, and decode what came."""
        try:
            if asyncio.get_running_loop() is not self._loop:
                raise WrongEventLoopError("the answer is read on another event loop than the one it was asked for on")
            data = await self._read()
            if not self._is_over:  # else it was ended from outside meanwhile
                self._take(data)
        except BaseException as error:
            self._break_off(error)
            raise

    async def _decode_whole(self) -> None:
        """Read and decode a unary answer."""
        try:
            # In one expression: a variable would be in every crash report of the error below.
            self._result = self._exchange.decoder(self._answer(self._come() or await self._body()))
            self.release()
            return
        except ModelEngineError as error:
            self._failure = self._describe(error)
        except BaseException as error:
            self._break_off(error)
            raise
        self._close()
        assert self._failure is not None
        raise copied(self._failure)

    def _come(self) -> bytes | None:
        """The whole body, where it has come with the head, as most do. `None`, or nothing, where it has to be read."""
        body = self._content
        data = body.take() if type(body) is Body and body.is_eof() else None
        if data is not None:
            self._count(data)
        return data

    async def _body(self) -> bytes:
        """Read a unary answer to its end."""
        parts: list[bytes] = []
        while self._failure is None and (data := await self._read()):
            self._count(data)
            parts.append(data)
            if self._content.at_eof():
                break
        if self._failure is not None:
            raise copied(self._failure)
        return b"".join(parts)

    def _count(self, data: bytes) -> None:
        """Count bytes of a unary answer, within their bound."""
        self.lane.bytes += len(data)
        if self.lane.bytes > (bound := self._max_body_bytes):
            raise ResponseTooLargeError(f"the body is larger than the {bound} bytes that are allowed for it")

    async def _read(self) -> bytes:
        """The next bytes; ``b""`` at the end. When the connection is lost, what had arrived before, and `_failure` is
        set.
        """
        if self._read_size > LARGE_READ_BYTES:
            await asyncio.sleep(0)  # what is buffered is given out without a wait, and a read inflates a thousandfold
        lane, now = self.lane, self._time()
        lane.progress_mark += now - lane.paused_at
        lane.waiting_since = now
        try:
            data = bytes(await self._content.readany())
            self._read_size = len(data)
            return data
        except (ModelEngineError, *FOREIGN, RuntimeError) as foreign:  # aiohttp's RuntimeError: "Connection closed."
            failure = translate(foreign, self._phase)
            foreign.__traceback__ = None  # the body keeps its exception, whose frames would keep this reply
        finally:
            lane.waiting_since = None
            lane.paused_at = self._time()
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
        self.lane.close()
        decoder = self._decoder or self._new_decoder()
        if decoder is None:
            return
        if data and self._failure is None:
            self.lane.bytes += len(data)
            chunks = decoder.feed(data)
        else:
            chunks = self._last_of(decoder, data)
        if chunks:
            self.lane.reads += 1
            self._ready = self._ready + chunks if self._ready else chunks
            if type(chunks[0]) is TextChunk or any(chunk.has_content for chunk in chunks):
                self._has_output = True
                self.lane.progress_mark = self.lane.paused_at
            elif not self._has_output:
                self._has_output = any(chunk.is_meaningful for chunk in chunks)  # a finish reason is no progress
        if decoder.governance is not None:
            self._exchange.context.governance = decoder.governance
        if decoder.finished or decoder.failure is not None or self._failure is not None or not data:
            self._settle(decoder, at_end=not data)

    def _last_of(self, decoder: StreamDecoder, data: bytes) -> list[LLMResponseChunk]:
        """Decode the end of the body, or what had arrived before the stream failed."""
        chunks: list[LLMResponseChunk] = []
        if data:
            self.lane.bytes += len(data)
            chunks = decoder.feed(data)
        elif self._failure is None:
            chunks = decoder.close()
        if self._failure is not None:
            chunks += decoder.abort()
        return chunks

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
        if self._watch is not None:
            self._watch.stop()
        if self._is_listed:
            self._replies.discard(self)
        self.lane.close()
        self._stop_listening()
        self.attempt.ended = self._exchange.context.clock.monotonic()
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            callback()

    def _limits(self) -> list[tuple[float, Callable[[], ModelEngineError]]]:
        """The times at which a clock runs out, as things stand. Silence counts only while somebody waits for bytes."""
        timeouts, lane = self._exchange.context.timeouts, self.lane
        limits: list[tuple[float, Callable[[], ModelEngineError]]] = [(self._deadline, self._deadline_error)]
        if lane.waiting_since is not None:
            is_stream = self._exchange.context.stream
            # A unary answer has no output before its end: both clocks of silence run once it has begun to come.
            has_begun = self._has_output or (lane.bytes > 0 and not is_stream)
            until_head = timeouts.until_head(stream=is_stream)
            if has_begun and timeouts.idle is not None:
                limits.append((lane.waiting_since + timeouts.idle, self._idle_error))
            if not self._has_output and until_head is not None:
                limits.append((lane.waiting_since + until_head, self._first_event_error))
            if is_stream and timeouts.progress is not None:
                limits.append((lane.progress_mark + timeouts.progress, self._progress_error))
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
