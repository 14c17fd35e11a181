"""A streamed answer, as a thread holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import EngineClosedError
from ..stream import ChatStream as AsyncChatStream
from ..types import LLMResponse, LLMResponseChunk, StreamSummary
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from typing_extensions import Self


Sink = Callable[[list[LLMResponseChunk]], object]
"""What takes the chunks of a read."""


class ChatStream:
    """A streamed answer. Nothing is sent before it is first asked for something.

    Iterate it once: ``for chunk in stream``, or ``for chunks in stream.batches()`` for one list per socket read. Or ask
    for the whole: ``stream.response()``. Use it as ``with`` when it may be left early, so that the connection is given
    back at once.

    Threads change once per socket read, not per chunk. Ctrl-C while it waits for a chunk closes the connection. One
    thread reads; `close` may come from another, and the reader then gets a `StreamConsumedError`.
    """

    def __init__(self, stream: AsyncChatStream, loop_thread: LoopThread, owner: object) -> None:
        self._stream = stream
        self._loop_thread = loop_thread
        self._run = loop_thread.run
        self._owner = owner  # kept alive: the loop ends with the engine
        self._ready: list[LLMResponseChunk] = []  # in reverse: popped from the end

    def __repr__(self) -> str:
        return repr(self._stream)

    def __iter__(self) -> Iterator[LLMResponseChunk]:
        self._stream._claim()
        return self

    def __next__(self) -> LLMResponseChunk:
        ready = self._ready
        if not ready:
            ready = self._run(self._stream._read())
            if not ready:
                raise StopIteration
            ready.reverse()
            self._ready = ready
        return ready.pop()

    def batches(self) -> Iterator[list[LLMResponseChunk]]:
        """The chunks as lists, one for each socket read that gave any: the cheapest way to go through a stream."""
        self._stream._claim()
        return iter(self._batch, [])

    def text(self) -> Iterator[str]:
        """The text of the answer in pieces, one for each socket read that gave any; of the first choice alone."""
        pieces = self._stream.text()
        return iter(lambda: self._run(_next_text(pieces)), None)

    def pump(self, sink: Sink) -> None:
        """Give the chunks of each read to a function, in this thread, to the end. What it raises closes the stream."""
        self._stream._claim()
        try:
            while chunks := self._run(self._stream._read()):
                sink(chunks)
        except BaseException:
            self.close()
            raise

    def response(self) -> LLMResponse:
        """The whole answer. Reads what has not been read yet.

        Raises:
            StreamConsumedError: The stream was closed before its end; see `partial`.
            ModelEngineError: The stream failed; ``error.partial`` is what had arrived.
        """
        self._ready = []  # accumulated already
        return self._run(self._stream.response())

    def close(self) -> None:
        """Leave the stream and give its connection back. Twice is harmless."""
        self._ready = []
        try:
            self._run(self._stream.aclose())
        except EngineClosedError:
            self._stream._close()  # the connection went with the engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._loop_thread.is_gone:
            self._stream._is_closed = True  # by the engine's end: nothing to warn of, no loop to tell

    @property
    def partial(self) -> LLMResponse:
        """What has arrived so far, read by the caller or not."""
        return self._stream.partial

    @property
    def summary(self) -> StreamSummary:
        """What the stream was; while it runs, what it is so far."""
        return self._stream.summary

    def _batch(self) -> list[LLMResponseChunk]:
        ready, self._ready = self._ready[::-1], []
        return ready or self._run(self._stream._read())


async def _next_text(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)
