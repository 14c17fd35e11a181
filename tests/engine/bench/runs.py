"""What tests of the benchmark have in common: a stage, run at a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.engine.bench.loads import Closed, Load, Until
from penstock.engine.bench.measured_engine import MeasuredEngine
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.prompts import Prompt, PromptList
from penstock.engine.bench.recording import Stage, StageRecord
from penstock.engine.bench.runner import StageRun
from penstock.engine.types import Messages

API_KEY = "sk-test-0123456789abcdef"
ORDER = ("scheduled", "dispatched", "sent", "head", "first_event", "first_content", "last_content", "last_event", "end")


def measured(url: str, **options: Any) -> MeasuredEngine:
    return MeasuredEngine("tiny-mock", base_url=url, api_key=API_KEY, **options)


def stage_run(
    engine: MeasuredEngine,
    load: Load,
    until: Until,
    prompts: Sequence[Prompt | Messages] = ("Name a prime.",),
    *,
    is_warm_up: bool = False,
    **options: Any,
) -> StageRun:
    return StageRun(
        Stage(load, until, is_warm_up=is_warm_up),
        PromptList(prompts),
        lambda messages, params: engine.opened(engine.prepared(messages, params)),
        connections=lambda: engine.connections,
        **options,
    )


async def run(
    url: str, load: Load, until: Until, *, engine: dict[str, Any] | None = None, **options: Any
) -> StageRecord:
    """The record of one stage, with an engine of its own."""
    async with measured(url, **(engine or {})) as running:
        return await stage_run(running, load, until, **options).run()


async def one(url: str, *, engine: dict[str, Any] | None = None, **options: Any) -> Moments:
    """The moments of one request."""
    record = await run(url, Closed(1), Until(requests=1), engine=engine, **options)
    return record.requests[0]


def times(moments: Moments, names: Sequence[str] = ORDER) -> list[int]:
    """The moments of these names, none of which is missing."""
    values = [getattr(moments, name) for name in names]
    assert None not in values
    return values
