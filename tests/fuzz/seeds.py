"""Answers that fuzzing begins with: recorded ones, and those of the testing gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import orjson
from multidict import CIMultiDict

from penstock.engine.gateways import Gateway, find_gateway, gateway_names
from penstock.engine.testing.composer import Composer
from penstock.engine.testing.dialects import DIALECTS
from penstock.engine.testing.dialects.dialect import Dialect
from penstock.engine.testing.dialects.request import Request
from penstock.engine.testing.faults import stage
from penstock.engine.testing.steps import (
    Answer,
    Block,
    ErrorEvent,
    Fail,
    GarbageFrame,
    ProviderError,
    Step,
    ToolCall,
    Truncate,
)
from penstock.engine.testing.verdicts import When

VECTORS = Path(__file__).parent.parent / "data" / "vectors"

_GATEWAYS = {name: gateway for name in gateway_names() if (gateway := find_gateway(name))}
GATEWAYS: tuple[Gateway, ...] = tuple(_GATEWAYS.values())


@dataclass(frozen=True)
class Seed:
    """An answer as it came over the wire.

    Args:
        gateway: Whose it is.
    """

    gateway: Gateway
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def is_stream(self) -> bool:
        """Whether it is a success to be read as a stream."""
        media_type = self.headers.get("content-type", "").partition(";")[0]
        return self.status == 200 and media_type in ("text/event-stream", "text/plain")


@cache
def seeds() -> tuple[Seed, ...]:
    """All of them, in an order that stays the same."""
    return (*_recorded(), *_played())


@cache
def streams() -> tuple[Seed, ...]:
    """Those that are streams."""
    return tuple(seed for seed in seeds() if seed.is_stream)


def _recorded() -> Iterator[Seed]:
    """What the vectors of the gateways' clients were answered."""
    for path in sorted(VECTORS.glob("*.json")):
        gateway = _GATEWAYS[path.stem]
        for vector in orjson.loads(path.read_bytes())["vectors"]:
            answer = vector.get("response") or {}
            if "status" in answer:
                yield Seed(gateway, answer["status"], CIMultiDict(answer["headers"]), _body(answer))


def _body(answer: dict[str, Any]) -> bytes:
    if "body" in answer:
        return orjson.dumps(answer["body"])
    return str(answer.get("sse") or answer.get("text") or "".join(answer.get("chunks", ()))).encode()


_STEPS: tuple[Step, ...] = (
    Answer(content="Grüße, 世界 🙂", reasoning="hm", finish_reason="stop"),
    Answer(content="", tool_calls=(ToolCall("look", {"at": 1}), ToolCall("listen", {}))),
    Truncate(after_events=2),
    ErrorEvent(after_events=1),
    GarbageFrame(after_events=1),
    ProviderError(when="in_stream"),
    Fail(429),
    Fail(503),
)


def _played() -> Iterator[Seed]:
    """What the testing gateway answers in each of its dialects."""
    for kind in DIALECTS.values():
        dialect = kind("tiny")
        blocks = [Block(cause, when=when) for cause in kind.blocks for when in get_args(When)]
        for step in (*_STEPS, *blocks):
            for stream in (False, True):
                yield _played_by(dialect, step, stream=stream)


def _played_by(dialect: Dialect, step: Step, *, stream: bool) -> Seed:
    path, body = dialect.example("Hi")
    request = Request(1, "POST", path, body={**body, "stream": stream})
    route, _ = dialect.find_route("POST", path)
    plan = stage(step, Composer(dialect).compose(step, route, request), dialect, request)
    assert plan.head is not None
    return Seed(
        _GATEWAYS[dialect.name],
        plan.head.status,
        CIMultiDict(plan.head.headers),
        b"".join(item for item in plan.body if isinstance(item, bytes)),
    )
