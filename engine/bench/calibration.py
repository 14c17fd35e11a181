"""How far this client on this machine can be trusted at a load, by comparing what it measures with what was.

The other side is a server in a process of its own, whose events say when they were written. With fewer than two cores
both share one, and the client looks worse than it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from ..stream import ChatStream
from ..types import LLMResponseChunk, Messages, StreamSummary
from .histogram import Histogram
from .loads import Closed, Load, Until
from .measured_engine import MeasuredEngine
from .meter import Meter
from .moments import Failure, Moments, Outcome
from .processes import end_process, start_process
from .prompts import Prompt, PromptList
from .recording import Client, Stage
from .runner import StageRun
from .yardstick import moments_in, pace

_START_S = 10.0  # that the server may take to begin; 0.2 are usual
_END_S = 5.0  # that it may take to end
_HELLO_S = 0.2  # for all lanes to be there at the same time, each with a connection of its own
_CONNECTIONS = 64  # opened beforehand for an open loop
_MOST_EVENTS = 400  # of a stream: two seconds at 200 events a second


@dataclass(slots=True)
class Calibration:
    """How wrong this client was, at a load like the one that is asked for. Differences are in nanoseconds.

    Args:
        load: Who started when.
        events_per_s: That each stream wrote. 0 for as fast as they were read.
        requests: That were compared.
        first_output_error: Of the time to the first output, counted as all latencies are: from when a request was due.
            What it measured less what lay between the arrival of the request at the server and the writing of the
            first output; so what it takes to send a request and to get its first byte here is part of it.
        event_delay: From the writing of an event to the moment it is noted with.
        gap_error: Of the mean gap of a request, without its sign.
        client: How late the client was meanwhile.
        host: Name of the machine it was measured on. `None` is this one.
    """

    load: Load
    events_per_s: float
    requests: int = 0
    first_output_error: Histogram = field(default_factory=Histogram)
    event_delay: Histogram = field(default_factory=Histogram)
    gap_error: Histogram = field(default_factory=Histogram)
    client: Client = field(default_factory=Client)
    host: str | None = None

    @property
    def text(self) -> str:
        """One sentence."""
        first, gap = self.first_output_error.percentile(50), self.gap_error.percentile(99)
        if first is None or gap is None:
            return "this client could not be calibrated: no request was completed"
        worst = self.first_output_error.percentile(99) or 0
        return (
            f"this client on {self.host or 'this host'} measures the time to the first output to ±{first / 1e6:.2f} ms "
            f"(median; p99 {worst / 1e6:.2f} ms) and the mean gap of a request to ±{gap / 1e6:.3f} ms (p99) at this "
            "load"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "load": {"kind": type(self.load).__name__.lower(), **asdict(self.load)},
            "events_per_s": self.events_per_s,
            "requests": self.requests,
            "first_output_error_ms": _ms(self.first_output_error),
            "event_delay_ms": _ms(self.event_delay),
            "gap_error_ms": _ms(self.gap_error),
            "loop_delay_ms": _ms(self.client.lag.loop_delay),
            "cpu_share": self.client.lag.cpu_share,
            "starved_share": self.client.lag.starved_share,
            "text": self.text,
        }


async def calibrate(load: Load, *, events_per_s: float = 100.0, seconds: float = 2.0) -> Calibration:
    """Measure the client, in this process and on the running loop.

    Args:
        load: As in the run; for a run over several processes the share of one.
        events_per_s: Of each stream, as expected of the server.
        seconds: How long, and the answers that run then.

    Raises:
        OSError: No process could be started for the server.
    """
    events = max(2, min(_MOST_EVENTS, round(events_per_s * seconds / 2)))
    order = pace(events, first_s=0.05, every_s=1 / events_per_s if events_per_s else 0.0, spread_s=0.05)
    calibration = Calibration(load, events_per_s)
    async with yardstick() as url, MeasuredEngine("yardstick", base_url=url, api_key="none") as engine:
        prompts = PromptList([Prompt(("How late am I?",), order)])

        def send(messages: Messages, params: Mapping[str, Any]) -> ChatStream:
            return engine.opened(engine.prepared(messages, params))

        first = PromptList([Prompt(("Hello.",), pace(1, first_s=_HELLO_S))])
        at_a_time = load.concurrency if isinstance(load, Closed) else _CONNECTIONS
        await StageRun(Stage(Closed(at_a_time), Until(requests=at_a_time)), first, send).run()  # opens connections
        run = StageRun(
            Stage(load, Until(duration_s=seconds)),
            prompts,
            send,
            meter=partial(_Comparing, calibration),
            connections=lambda: engine.connections,
        )
        record = await run.run()
    calibration.client = record.clients[0]
    return calibration


class _Comparing(Meter):
    """Times a request, and compares with the times that the server wrote into it."""

    __slots__ = ("_calibration", "_first_written", "_last_written", "_received")

    def __init__(self, calibration: Calibration, moments: Moments, origin: int, *, raw: bool = False) -> None:
        super().__init__(moments, origin, raw=raw)
        self._calibration = calibration
        self._received = self._first_written = self._last_written = 0

    def take(self, chunks: list[LLMResponseChunk]) -> None:
        super().take(chunks)
        for chunk in chunks:
            if chunk.delta_content:
                self._received, self._last_written = moments_in(chunk.delta_content)
                self._first_written = self._first_written or self._last_written
                self._calibration.event_delay.record(max(0, self.arrived - self._last_written))

    def finish(self, outcome: Outcome, summary: StreamSummary | None, failure: Failure | None = None) -> Moments:
        moments = super().finish(outcome, summary, failure)
        calibration, first, span = self._calibration, moments.time_to_first_output, moments.output_span
        if outcome == "completed" and first is not None and span is not None:
            calibration.requests += 1
            calibration.first_output_error.record(abs(first - (self._first_written - self._received)))
            gaps = max(1, moments.content_events - 1)
            calibration.gap_error.record(abs(span - (self._last_written - self._first_written)) // gaps)
        return moments


@contextlib.asynccontextmanager
async def yardstick() -> AsyncIterator[str]:
    """The address of a server whose events say when they were written, in a process of its own."""
    process = await start_process("penstock.engine.bench.yardstick")
    assert process.stdout is not None
    is_ready = False
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
        if not line:
            raise OSError("the server to calibrate with has not started")
        is_ready = True
        yield line.decode().strip()
    finally:
        await end_process(process, _END_S if is_ready else 0)


def _ms(histogram: Histogram) -> dict[str, float] | None:
    return {f"p{each}": (histogram.percentile(each) or 0) / 1e6 for each in (50, 90, 99)} if histogram.count else None
