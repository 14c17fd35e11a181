"""A streamed answer, as the caller holds it."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from .accumulate import Accumulator
from .errors import (
    ConfigurationError,
    EngineStateError,
    ModelEngineError,
    PolicyBlockedError,
    StreamConsumedError,
    StreamTruncatedError,
    copied,
)
from .exchange import CallContext, Reply
from .lane import Sink
from .types import LLMResponse, LLMResponseChunk, OnBreak, StreamSummary, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self


_SHOWN_WITH_ERRORS = ("request_id", "gateway_request_id", "model", "provider_metadata", "governance", "attempts")


class ChatStream:
    """A streamed answer. Nothing is sent before it is first asked for something.

    Iterate it once: ``async for chunk in stream``, or ``async for chunks in stream.batches()`` for one list per
    socket read. Or ask for the whole: ``await stream.response()``. Use it as ``async with`` when it may be left
    early, so that the connection is given back at once.

    A stream that breaks off after output has come raises the error, with what had arrived in ``error.partial``. With
    ``on_break="keep_partial"`` it ends there instead; `summary` has the error. With ``on_break="restart"`` the request
    is sent again, within the attempts, waits and budget of `Retry`, and a chunk that has nothing but `restart` says
    that all text before it does not count. What a policy has blocked is always raised.

    Cancelling the task that waits for a chunk closes the connection. One task reads; `aclose` may come from another,
    and the reader then gets a `StreamConsumedError`.
    """

    def __init__(
        self,
        context: CallContext,
        open_reply: Callable[[], Awaitable[Reply]],
        interrupt: Callable[[CallContext, ModelEngineError], None],
        on_break: OnBreak = "raise",
    ) -> None:
        # What a read touches comes first, so that it lies together.
        self._ready: list[LLMResponseChunk] = []  # in reverse: popped from the end
        self._reply: Reply | None = None
        self._accumulator = Accumulator()
        self._now = context.clock.monotonic
        self._last_event: float | None = None
        self._first_content: float | None = None
        self._chunks = 0
        self._failure: ModelEngineError | None = None
        self._verdict: Verdict | None = None
        self._is_closed = False
        self._is_reading = False
        self._is_claimed = False
        self._is_bridged = False  # the failure is not raised: the partial answer is kept
        self._first_event: float | None = None
        self._context = context
        self._on_break = on_break
        self._open_reply = open_reply
        self._interrupt = interrupt
        self._restarts = 0
        self._was_sent = False

    def __repr__(self) -> str:
        state = self._verdict or ("closed" if self._is_closed else "open" if self._reply else "not sent")
        return (
            f"<ChatStream of {self._context.model!r} at {self._context.target.gateway}: {state}, {self._count} chunks>"
        )

    def __aiter__(self) -> AsyncIterator[LLMResponseChunk]:
        self._claim()
        return self

    async def __anext__(self) -> LLMResponseChunk:
        ready = self._ready
        if not ready:
            # Here and not in a coroutine of its own: each is something more to wake for each token.
            if (arrival := self._arrival()) is not None and (reply := self._reply) is not None:
                self._is_reading = True
                try:
                    await arrival
                except BaseException as error:
                    if not reply.lost(error):
                        self._close()
                        raise
                finally:
                    self._is_reading = False
                if not self._is_closed:
                    lane = reply.lane
                    if (chunk := lane.chunk) is not None:
                        lane.chunk = None
                        return chunk
                    if ready := reply.arrived():
                        self._note(ready)
            if not ready and not (ready := await self._read()):
                raise StopAsyncIteration
            ready.reverse()
            self._ready = ready
        return ready.pop()

    @property
    def _count(self) -> int:
        """Chunks that have come."""
        return self._chunks + (self._reply.lane.chunks if self._reply is not None else 0)

    @property
    def _latest(self) -> float | None:
        """When the last of them came, by the clock of the call. `None` before."""
        moments = (self._last_event, self._reply.lane.last if self._reply is not None else None)
        return max((moment for moment in moments if moment is not None), default=None)

    def _arrival(self) -> Awaitable[None] | None:
        """What to wait for, when it is nothing but the next read."""
        if (reply := self._reply) is None or self._is_reading or self._is_closed:
            return None
        lane = reply.lane
        return lane.wait() if lane.is_open else reply.arrival()

    def batches(self) -> AsyncIterator[list[LLMResponseChunk]]:
        """The chunks as lists, one for each socket read that gave any: the cheapest way to go through a stream."""
        self._claim()
        return _Batches(self)

    def text(self) -> AsyncIterator[str]:
        """The text of the answer in pieces, one for each socket read that gave any; of the first choice alone.

        Raises:
            ConfigurationError: The stream may begin anew, and pieces of text could not tell that it has.
        """
        if self._on_break == "restart":
            raise self._stamped(
                ConfigurationError("text() cannot tell of a restart: use batches(), or another on_break=")
            )
        self._claim()
        return _Texts(self)

    async def pump(self, sink: Sink) -> None:
        """Give the chunks of each read to a function, in the turn of the loop in which they arrive, to the end.

        No task is woken for them, which is what a stream of tokens costs most. `sink` is called with a list that is
        never empty, in the order of the stream. It must not block. When it returns an awaitable, nothing more is read
        before that is done, and the gateway waits in the end; no clock of ours bounds it. What it raises closes the
        stream and is raised here.

        Raises:
            StreamConsumedError: The stream has been iterated, or was closed by another task.
            ModelEngineError: The stream failed; the chunks before the failure have been given out.
        """
        self._claim()
        try:
            while chunks := await self._read():
                if (held := sink(chunks)) is not None:
                    await held
                if self._reply is not None:
                    await self._pushed(self._reply, sink)
        except BaseException:
            self._close()
            raise

    async def _pushed(self, reply: Reply, sink: Sink) -> None:
        """Have chunks pushed until there is something else to do."""
        lane = reply.lane
        lane.sink = sink
        self._is_reading = True
        try:
            while (pushed := reply.push(self._deliver)) is not None:
                await pushed
                if (raised := lane.raised) is not None:
                    lane.raised = None
                    raise raised
                if (held := lane.held) is None:
                    break
                lane.held = None
                await held
        finally:
            raised = None  # it holds this frame
            reply.pause()
            self._is_reading = False

    def _deliver(self, chunks: list[LLMResponseChunk]) -> bool:
        """Give chunks that came the long way to the sink. Returns whether it takes more at once."""
        self._note(chunks)
        return self._reply is not None and self._reply.lane.give(chunks)

    async def response(self) -> LLMResponse:
        """The whole answer. Reads what has not been read yet.

        Raises:
            StreamConsumedError: The stream was closed before its end; see `partial`.
            ModelEngineError: The stream failed; ``error.partial`` is what had arrived.
        """
        self._is_claimed = True
        try:
            while True:
                self._ready = []  # accumulated already
                await self.__anext__()
        except StopAsyncIteration:
            return self.partial

    async def aclose(self) -> None:
        """Leave the stream and give its connection back. Twice is harmless."""
        self._is_claimed = True
        self._ready = []
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._reply is not None and not self._is_closed:
            self._reply.abandon_soon()  # before the warning, which may be an error
            text = f"{self!r} was not closed: use `async with`, or read it to its end"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    @property
    def partial(self) -> LLMResponse:
        """What has arrived so far, read by the caller or not."""
        context = self._context
        headers = self._reply.headers if self._reply is not None else {}
        response = self._accumulator.response(
            gateway_request_id=headers.get("x-request-id"),
            attempts=tuple(context.attempts),
            idempotency_key=context.idempotency_key,
            governance=context.governance,
        )
        if not self._is_closed or (self._verdict is not None and self._failure is None):
            return response
        # It hangs on an error, which goes into logs and crash reports. The model's own text stays as it came.
        shown = {name: context.redacted(getattr(response, name)) for name in _SHOWN_WITH_ERRORS}
        return replace(response, **shown)

    @property
    def summary(self) -> StreamSummary:
        """What the stream was; while it runs, what it is so far."""
        context, accumulator, reply = self._context, self._accumulator, self._reply
        lane = reply.lane if reply is not None else None
        replayed = context.governance is not None and context.governance.replayed
        return StreamSummary(
            verdict=self._verdict,
            error=self._failure,
            restarts=self._restarts,
            started=context.started if self._was_sent else None,
            first_event=self._first_event,
            first_content=self._first_content,
            last_event=self._latest,
            chunks=self._count,
            reads=lane.reads if lane is not None else 0,
            bytes=lane.bytes if lane is not None else 0,
            usage=accumulator.usage,
            usage_provenance="absent" if accumulator.usage is None else "replayed" if replayed else "reported",
            finish_reason=accumulator.finish_reason,
            request_id=context.shown_id(accumulator.head.request_id),
            gateway_request_id=context.shown_id(reply.headers.get("x-request-id")) if reply is not None else None,
            idempotency_key=context.idempotency_key,
            governance=context.governance if self._failure is None else context.redacted(context.governance),
            attempts=tuple(replace(attempt) for attempt in context.attempts),
        )

    def _claim(self) -> None:
        if self._is_claimed:
            raise self._stamped(StreamConsumedError("a stream can be iterated once"))
        self._is_claimed = True

    async def _read(self) -> list[LLMResponseChunk]:
        """The chunks of the next read; an empty list at the end."""
        if self._failure is not None and not self._is_bridged:
            raise copied(self._failure)
        if self._verdict is not None:
            return []
        if self._is_closed:
            raise self._closed_early()
        if self._is_reading:
            text = "two tasks read the same stream; let one read and pass on what it reads"
            raise self._stamped(EngineStateError(text))
        self._is_reading = True
        chunks: list[LLMResponseChunk] = []
        broken: ModelEngineError | None = None
        try:
            try:
                if self._reply is None:
                    self._was_sent = True
                    self._adopt(await self._open_reply())
                assert self._reply is not None
                chunks = await self._reply.chunks()
            except ModelEngineError as error:
                broken = error
            if broken is not None:
                chunks = await self._bridged(broken)
        except ModelEngineError as error:
            if self._is_closed:
                raise self._closed_early() from None
            self._fail(error)
            raise
        except BaseException:
            self._close()
            raise
        finally:
            self._is_reading = False
            del broken  # it holds this frame
        if self._is_closed and self._verdict is None:  # by another task, perhaps before there was a reply to release
            self._close()
            raise self._closed_early()
        if chunks:
            self._note(chunks)
        elif self._verdict is None:
            self._verdict = "filtered" if self._accumulator.was_filtered else "complete"
            self._close()
        return chunks

    async def _bridged(self, broken: ModelEngineError) -> list[LLMResponseChunk]:
        """What to go on with after a break. Raises it where the reader wants it so, or it is none."""
        try:
            if self._on_break == "raise" or self._is_closed or not _is_break(broken):
                raise broken
            if self._on_break == "keep_partial":
                self._is_bridged = True
                self._fail(broken)
                return []
            if self._accumulator.is_finished:
                raise broken  # only the end of the stream is missing, or a filter has ended the answer
            return await self._restart(broken)
        finally:
            del broken  # its traceback holds this frame

    async def _restart(self, broken: ModelEngineError) -> list[LLMResponseChunk]:
        """Have the answer sent from its beginning. The partial one is kept until the new one is there."""
        self._chunks, self._last_event = self._count, self._latest
        self._reply = None
        self._context.broken = broken
        reply = await self._open_reply()
        self._accumulator = Accumulator()
        self._adopt(reply)
        self._restarts += 1
        return [LLMResponseChunk(restart=self._restarts)]

    def _adopt(self, reply: Reply) -> None:
        """Read this reply from now on."""
        self._reply, lane = reply, reply.lane
        lane.accumulator = self._accumulator
        lane.has_content = self._first_content is not None

    def _note(self, chunks: list[LLMResponseChunk]) -> None:
        self._last_event = now = self._now()
        self._accumulator.add(chunks)
        self._chunks += len(chunks)
        if self._first_content is None:  # nor the first event, perhaps
            if self._first_event is None and any(chunk.is_meaningful for chunk in chunks):
                self._first_event = now
            if any(chunk.delta_content for chunk in chunks):
                self._first_content = now
                if self._reply is not None:
                    self._reply.lane.has_content = True

    def _fail(self, error: ModelEngineError) -> None:
        self._verdict = "truncated" if isinstance(error, StreamTruncatedError) else "errored"
        if not self._accumulator.is_empty:
            error.phase = "after_output"  # also of a restart that has failed before its own first output
        if self._accumulator.was_filtered and not isinstance(error, PolicyBlockedError):
            self._verdict = "filtered"  # what is missing is the end of the stream alone
        self._close()
        self._failure = error  # for `partial`, which hides keys on an error
        error.partial = None if self._accumulator.is_empty else self.partial
        self._failure = copied(error)

    def _closed_early(self) -> ModelEngineError:
        error = self._stamped(StreamConsumedError("the stream was closed before its end; see `partial`"))
        error.partial = self.partial
        return error

    def _stamped(self, error: ModelEngineError) -> ModelEngineError:
        error.model_name, error.gateway = self._context.model, self._context.target.gateway
        error.attempts, error.idempotency_key = tuple(self._context.attempts), self._context.idempotency_key
        return error

    def _close(self) -> None:
        self._is_closed = True
        if self._reply is not None:
            self._reply.release()
        elif self._is_reading:
            self._interrupt(self._context, StreamConsumedError("the stream was closed while it was being opened"))


def _is_break(error: ModelEngineError) -> bool:
    """Whether an answer that had begun was broken off, and not taken back."""
    return error.phase == "after_output" and not isinstance(error, (PolicyBlockedError, EngineStateError))


class _Batches:
    """Iterates a stream by reads."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[LLMResponseChunk]:
        stream = self._stream
        first = await stream.__anext__()
        chunks, stream._ready = stream._ready, []
        chunks.append(first)
        chunks.reverse()
        return chunks


class _Texts:
    """Iterates the text of a stream by reads."""

    def __init__(self, stream: ChatStream) -> None:
        self._batches = _Batches(stream)

    def __aiter__(self) -> _Texts:
        return self

    async def __anext__(self) -> str:
        while True:
            chunks = await self._batches.__anext__()
            if text := "".join([chunk.delta_content for chunk in chunks if chunk.delta_content and not chunk.index]):
                return text
