"""Recording what an engine is told, and playing it to another engine that has no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock import ModelEngine, Record, Replay, Retry, Timeouts, default_stack
from penstock.engine.cassette.library import load
from penstock.engine.cassette.lines import Event, Read
from penstock.testing import Gateway, Step

KEY = "sk-test-0123456789abcdef"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
SHORT = Timeouts(connect=2, first_event=0.2, idle=0.2)


def engine_at(url: str, wire: Any, **options: Any) -> ModelEngine:
    stack = default_stack(retry=Retry(max_attempts=2, random=lambda: 0.0))
    return ModelEngine("tiny-mock", base_url=url, api_key=KEY, middleware=[*stack, wire], timeouts=SHORT, **options)


async def outcome(engine: ModelEngine, *, stream: bool) -> dict[str, Any]:
    """What came of a question: text or error, and what the attempts were."""
    told: dict[str, Any] = {"error": None}
    answer: Any = None
    try:
        if stream:
            async with engine.stream_call("Name a prime.") as reply:
                answer = await reply.response()
        else:
            answer = await engine.chat_completion("Name a prime.")
        attempts = answer.attempts
    except Exception as error:
        answer, attempts = getattr(error, "partial", None), getattr(error, "attempts", ())
        told["error"] = type(error).__name__, getattr(error, "phase", None), getattr(error, "status", None)
    told["attempts"] = [(each.status, each.error, each.phase, each.request_id) for each in attempts]
    told["text"] = None if answer is None else (answer.content, answer.usage, answer.finish_reason)
    return told


async def record(path: Path, *steps: Step, stream: bool, gateway: str = "openai") -> dict[str, Any]:
    """Play steps to an engine that records, and say what came of it."""
    async with (
        Gateway(dialect=gateway, api_key=KEY, script=steps) as running,
        engine_at(running.url, Record(path, mode="all"), gateway=gateway) as engine,
    ):
        return await outcome(engine, stream=stream)


async def replay(path: Path, *, stream: bool, gateway: str = "openai", speed: float = 0) -> dict[str, Any]:
    async with engine_at(NOWHERE, Replay(path, speed=speed), gateway=gateway) as engine:
        return await outcome(engine, stream=stream)


def events(path: Path) -> list[Sequence[Event]]:
    """What happened to each request of a cassette."""
    return [each.events for each in load(path)]


def reads(path: Path) -> list[list[bytes]]:
    """The reads of each interaction of a cassette."""
    return [[event.data for event in each if isinstance(event, Read)] for each in events(path)]
