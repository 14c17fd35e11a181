"""Makes requests, one conversation at a time, and writes down what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ModelEngineError
from ..stream import ChatStream
from ..types import Messages
from .meter import CURRENT, Meter, failure_of
from .moments import Failure, Moments, Outcome
from .progress import Progress
from .prompts import Prompt, Prompts
from .recording import Client, StageRecord

Send = Callable[[Messages, Mapping[str, Any]], ChatStream]
"""Makes the stream of a request, from its messages and members of its body; nothing is sent before it is read."""


class Asker:
    """Makes the requests of one stage in one process.

    Args:
        record: Where requests and gaps are written down.
        client: Where it is written down how late they began.
        prompts: What to ask.
        send: Makes the streams.
        origin: The start of the run, by `time.monotonic_ns`.
        raw: Whether to keep the moment of each read with output.
        meter: Makes what times a request, from the arguments of `Meter`.
    """

    def __init__(
        self,
        record: StageRecord,
        client: Client,
        prompts: Prompts,
        send: Send,
        origin: int,
        *,
        raw: bool = False,
        meter: Callable[..., Meter] = Meter,
    ) -> None:
        self.progress = Progress()
        self.failures = 0
        """In a row, up to now."""
        self.last_success = 0
        """When a request was last completed."""
        self.is_stopping = False
        self._record = record
        self._client = client
        self._prompts = prompts
        self._send = send
        self._origin = origin
        self._raw = raw
        self._meter = meter

    def now(self) -> int:
        """Nanoseconds since the start of the run."""
        return time.monotonic_ns() - self._origin

    def due(self, number: int, scheduled: int, lane: int | None = None) -> Moments:
        """The moments of a request that is due."""
        return Moments(
            number,
            scheduled,
            is_warm_up=self._record.stage.is_warm_up,
            stage=self._record.position,
            worker=self._client.worker,
            lane=lane,
        )

    async def conversation(self, moments: Moments) -> int | None:
        """All turns of a prompt. Returns when the last was over."""
        prompt = self._prompts.prompt(moments.number)
        history: list[Any] = []
        for turn, said in enumerate(prompt.turns):
            if turn:
                if prompt.think_s:
                    await asyncio.sleep(prompt.think_s)
                due_again = self.now() if prompt.think_s else moments.end
                moments = self.due(moments.number, due_again or self.now(), moments.lane)
            moments.prompt, moments.turn = prompt.position, turn
            messages = said if len(prompt.turns) == 1 else _continued(history, said)
            stream = await self._request(moments, messages, prompt)
            if stream is None or self.is_stopping:
                break
            if turn + 1 < len(prompt.turns):
                history.append({"role": "assistant", "content": stream.partial.content})
        return moments.end

    async def _request(self, moments: Moments, messages: Messages, prompt: Prompt) -> ChatStream | None:
        """Make one request. Returns its stream when it was completed."""
        meter = self._meter(moments, self._origin, raw=self._raw)
        moments.dispatched = self.now()
        if moments.was_held_back:
            self._client.held_back.record(moments.dispatched - moments.scheduled)
        else:
            self._client.dispatch_delay.record(moments.dispatched - moments.scheduled)
        self.progress.started += 1
        self.progress.running += 1
        outcome: Outcome = "unfinished"
        failure: Failure | None = None
        stream: ChatStream | None = None
        CURRENT.set(meter)
        try:
            stream = self._send(messages, prompt.params)
            await stream.pump(meter.take)
            outcome = "completed"
        except ModelEngineError as error:
            outcome, failure = "failed", failure_of(error)
        finally:
            self.progress.running -= 1
            meter.finish(outcome, None if stream is None else stream.summary, failure)
            self._keep(meter)
        return stream if outcome == "completed" else None

    def _keep(self, meter: Meter) -> None:
        """Write down a request that is over."""
        moments, progress, record = meter.moments, self.progress, self._record
        record.requests.append(moments)
        meter.count_gaps(record.gaps if moments.outcome == "completed" else record.gaps_of_failed)
        progress.events += moments.events
        if moments.outcome == "completed":
            progress.completed += 1
            self.failures, self.last_success = 0, self.now()
        elif moments.outcome == "failed":
            progress.failed += 1
            self.failures += 1


def _continued(history: list[Any], said: Messages) -> list[Any]:
    """The conversation so far with what is said now, which is added to it."""
    if isinstance(said, str):
        history.append({"role": "user", "content": said})
    elif isinstance(said, Mapping):
        history.append(said)
    else:
        history.extend(said)
    return list(history)
