"""Stages in this process, on the running loop."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

from ..model_engine import ModelEngine, PreparedCall
from ..stream import ChatStream
from ..types import Messages
from .asker import Send
from .measured_engine import MeasuredEngine
from .plan import Plan
from .progress import Progress
from .recording import Stage, StageRecord
from .runner import StageRun


class Alone:
    """A run in this process, on the running loop."""

    def __init__(self, plan: Plan, engine: ModelEngine | None = None, *, worker: int = 0, workers: int = 1) -> None:
        self._plan = plan
        self._worker, self._workers = worker, workers
        self._given = engine
        self._own: MeasuredEngine | None = None
        self._running: StageRun | None = None
        self._ended = Progress()
        self._is_stopped = False

    async def start(self) -> None:
        self._plan.prompts.prompt(0)  # what is made once, such as a store of words, is made now and not in a stage
        if self._given is None:
            self._own = MeasuredEngine(**self._plan.engine)
            await self._own.start()

    async def run(self, stage: Stage, position: int, origin: int, begin: int | None = None) -> StageRecord:
        """Run a stage.

        Args:
            stage: What to run.
            position: In the run.
            origin: The start of the run, by `time.monotonic_ns`.
            begin: When the schedule begins, by the same clock, for several processes to begin together. `None` is now.
        """
        if self._is_stopped:  # before the stage could begin
            now = time.monotonic_ns() - origin
            return StageRecord(stage, position, now, now, "stopped")
        plan, own = self._plan, self._own
        self._running = running = StageRun(
            stage,
            plan.prompts,
            self._send,
            origin=origin,
            position=position,
            worker=self._worker,
            workers=self._workers,
            raw=plan.raw,
            patience=plan.patience,
            connections=(lambda: 0) if own is None else lambda: own.connections,
        )
        gc.collect()  # now, and not in the stage
        return await running.run(begin)

    def stop(self) -> None:
        self._is_stopped = True
        if self._running is not None:
            self._running.stop()

    def progress(self) -> Progress:
        return self._ended if self._running is None else self._running.progress

    async def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            await own.stop()

    @property
    def _send(self) -> Send:
        given, own = self._given, self._own
        if given is not None:
            return lambda messages, params: given.stream_call(messages, **params)
        assert own is not None
        return _Repeating(own)


class _Repeating:
    """Encodes a request once as long as the same is asked for, as ``--prompt`` does."""

    def __init__(self, engine: MeasuredEngine) -> None:
        self._engine = engine
        self._asked: tuple[Messages, Mapping[str, Any]] | None = None
        self._call: PreparedCall | None = None

    def __call__(self, messages: Messages, params: Mapping[str, Any]) -> ChatStream:
        asked, call = self._asked, self._call
        if call is None or asked is None or messages is not asked[0] or params is not asked[1]:
            call = self._call = self._engine.prepared(messages, params)
            self._asked = (messages, params)
        return self._engine.opened(call)
