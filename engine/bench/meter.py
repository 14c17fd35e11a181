"""The stop watch of one request: what the stream brings goes through it, and leaves moments behind.

A read has the moment at which the connection got its bytes, so what this client does with them afterwards, aiohttp's
parser and ours among it, is in no figure. On an engine that is not made for measuring it is the moment at which the
read had been decoded.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic_ns

from ..errors import ModelEngineError, type_name
from ..types import LLMResponseChunk, ReasoningChunk, StreamSummary, TextChunk
from .histogram import Histogram
from .moments import Failure, Moments, Outcome

MOST_GAPS = 1024  # that wait to be counted
_MESSAGE_CHARACTERS = 200  # of an error; gateways put whole pages there

CURRENT: ContextVar[Meter | None] = ContextVar("penstock_bench_meter", default=None)
"""The meter of the request that the running task makes: the connection asks for it when it is given to the request."""


class Meter:
    """Times one request.

    Args:
        moments: Where they are written, at the end.
        origin: The start of the run, by `time.monotonic_ns`.
        raw: Whether to keep the moment of each read with output.
    """

    __slots__ = (
        "_content_events",
        "_content_reads",
        "_counted_gaps",
        "_events",
        "_first_content",
        "_first_event",
        "_first_read_events",
        "_first_reasoning",
        "_gaps",
        "_last_content",
        "_last_event",
        "_longest_gap",
        "_origin",
        "_reads",
        "_second_content",
        "_stamp_events",
        "_stamps",
        "arrived",
        "head",
        "is_new_connection",
        "moments",
        "sent",
    )

    def __init__(self, moments: Moments, origin: int, *, raw: bool = False) -> None:
        # By `time.monotonic_ns`, 0 for never; the first three are set by the connection.
        self.sent = 0
        self.head = 0
        self.arrived = 0  # the last read of the connection
        self.is_new_connection: bool | None = None
        self.moments = moments
        self._origin = origin
        self._counted_gaps = Histogram()
        self._gaps: list[int] = []
        self._first_event = self._last_event = 0
        self._first_content = self._first_reasoning = self._last_content = 0
        self._events = self._reads = 0
        self._content_events = self._content_reads = self._first_read_events = 0
        self._longest_gap = self._second_content = 0
        self._stamps: list[int] | None = [] if raw else None
        self._stamp_events: list[int] = []

    def note_first_event(self) -> None:
        """The first event has come, which a stream may keep back until there is output."""
        self._first_event = self.arrived or monotonic_ns()

    def take(self, chunks: list[LLMResponseChunk]) -> None:
        """The sink of a stream: once for each read."""
        now = self.arrived or monotonic_ns()
        self._reads += 1
        self._events += len(chunks)
        self._last_event = now
        output = 0
        answered = False
        for chunk in chunks:
            kind = type(chunk)
            if kind is TextChunk:
                output += 1
                answered = True
            elif kind is ReasoningChunk:
                output += 1
                self._first_reasoning = self._first_reasoning or now
            elif chunk.has_content:
                output += 1
                if chunk.delta_reasoning:
                    self._first_reasoning = self._first_reasoning or now
                answered = answered or _answers(chunk)
        if not self._first_event:
            self._first_event = now
        if output:
            self._output(now, output, answered)

    def _output(self, now: int, output: int, answered: bool) -> None:
        self._content_events += output
        self._content_reads += 1
        if self._last_content:
            gap = now - self._last_content
            self._gaps.append(gap)
            if gap > self._longest_gap:
                self._longest_gap = gap
            if not self._second_content:
                self._second_content = now
            if len(self._gaps) == MOST_GAPS:
                self._counted_gaps.record_all(self._gaps)
                self._gaps.clear()
        else:
            self._first_read_events = output
        self._last_content = now
        if answered and not self._first_content:
            self._first_content = now
        if self._stamps is not None:
            self._stamps.append(now - self._origin)
            self._stamp_events.append(output)

    def finish(self, outcome: Outcome, summary: StreamSummary | None, failure: Failure | None = None) -> Moments:
        """The answer is over: write down what was seen."""
        moments, since = self.moments, self._since
        moments.outcome = outcome
        # An answer that came to its end was over when its last bytes came; a failure is over when we know of it.
        moments.end = since(self.arrived or monotonic_ns()) if outcome == "completed" else since(monotonic_ns())
        moments.sent, moments.head = since(self.sent), since(self.head)
        moments.first_event, moments.last_event = since(self._first_event), since(self._last_event)
        moments.first_content, moments.first_reasoning = since(self._first_content), since(self._first_reasoning)
        moments.second_content, moments.last_content = since(self._second_content), since(self._last_content)
        moments.events, moments.reads = self._events, self._reads
        moments.content_events, moments.content_reads = self._content_events, self._content_reads
        moments.first_read_events = self._first_read_events
        moments.longest_gap = self._longest_gap if self._content_reads > 1 else None
        moments.new_connection = self.is_new_connection
        if self._stamps is not None:
            moments.stamps, moments.stamp_events = self._stamps, self._stamp_events
        if summary is not None:
            self._count_tokens(summary)
        moments.failure = failure
        return moments

    def count_gaps(self, histogram: Histogram) -> None:
        """Count the times between two reads with output, after the end of the answer."""
        histogram.add(self._counted_gaps)
        histogram.record_all(self._gaps)

    def _since(self, moment: int) -> int | None:
        return moment - self._origin if moment else None

    def _count_tokens(self, summary: StreamSummary) -> None:
        moments, usage = self.moments, summary.usage
        moments.bytes, moments.request_id = summary.bytes, summary.request_id
        if usage is not None:
            moments.input_tokens, moments.output_tokens = usage.input_tokens, usage.output_tokens
            moments.reasoning_tokens, moments.cached_tokens = usage.reasoning_tokens, usage.cached_tokens
            moments.tokens_from = "reported"
        elif self._content_events:
            moments.output_tokens, moments.tokens_from = self._content_events, "events"


def failure_of(error: ModelEngineError) -> Failure:
    """What is kept of an error."""
    message = error.message.partition("\n")[0][:_MESSAGE_CHARACTERS]
    return Failure(type_name(error), error.status, error.phase, message, error.code)


def _answers(chunk: LLMResponseChunk) -> bool:
    """Whether there is output in it that is no reasoning."""
    return bool(chunk.delta_content or chunk.delta_refusal or chunk.delta_tool_calls)
