"""What a call leaves is freed when it is over, without the garbage collector: its prompt is large."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from penstock import LLMResponseChunk, ModelEngine
from penstock.engine.errors import ModelEngineError
from penstock.engine.exchange import Exchange
from penstock.testing import Gateway, answer, cut, error_event, fail, reset
from tests.clocks import FakeClock
from tests.conftest import API_KEY

STEPS = {"answer": answer("a"), "400": fail(400), "503": fail(503), "reset": reset(), "cut": cut(after_events=4)}


def exchanges() -> int:
    return sum(isinstance(each, Exchange) for each in gc.get_objects())


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("step", [*STEPS.values(), error_event(after_events=4)], ids=[*STEPS, "error event"])
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_call_leaves_no_cycle(gateway: Gateway, step: Any, streamed: bool) -> None:
    gateway.script(default=step)
    before = exchanges()  # other tests may have left some in what they are parametrized with
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY, clock=FakeClock()) as engine:
        for _ in range(5):
            with contextlib.suppress(ModelEngineError):
                await (engine.stream_call("Hi").response() if streamed else engine.chat_completion("Hi"))
        left = exchanges() - before
    assert left <= 1  # the loop keeps the last wake-up for a turn


@pytest.mark.usefixtures("uncollected")
async def test_neither_does_a_sink_that_raises(gateway: Gateway) -> None:
    def sink(chunks: list[LLMResponseChunk]) -> None:
        if chunks[-1].finish_reason:
            raise LookupError("full")

    before = exchanges()
    async with ModelEngine("m", base_url=gateway.url, api_key=API_KEY) as engine:
        for _ in range(5):
            with contextlib.suppress(LookupError):
                await engine.stream_call("Hi").pump(sink)
        left = exchanges() - before
    assert left <= 1
