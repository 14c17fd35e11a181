"""The engine that measures: at every gateway, over TLS, over every event loop."""

from __future__ import annotations

import asyncio

import pytest

from penstock.engine.bench.bench import Bench
from penstock.engine.bench.loads import Closed, Until
from penstock.engine.bench.measured_engine import MeasuredEngine
from penstock.engine.bench.meter import CURRENT, Meter
from penstock.engine.bench.moments import Moments
from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompts import PromptList
from penstock.engine.bench.recording import Stage
from penstock.engine.session import OwnSession
from penstock.testing import Gateway, answer, stall

from .runs import API_KEY, ORDER, measured, one, run, times

ASKER = {"user_id": "u-9", "user_type": "free", "feature": "support_chat"}  # whom Modelgov wants to know
GATEWAYS = ["openai", "nim", "modelgov", "atrium", "omnigate", "keeptrusts"]


@pytest.mark.parametrize("dialect", GATEWAYS)
async def test_every_gateway_is_measured(dialect: str) -> None:
    script = [stall(after_events=1, for_s=0.03, of=answer(pieces=["a", "b", "c"]))]
    params = ASKER if dialect == "modelgov" else {}
    plan_engine = {"model_or_config": "tiny-mock", "gateway": dialect, "api_key": API_KEY, "params": params}
    async with Gateway(dialect=dialect, api_key=API_KEY, script=script) as gateway:
        plan = Plan({**plan_engine, "base_url": gateway.url}, PromptList(["Name a prime."]))
        async with Bench(plan) as bench:
            record = await bench.run_stage(Stage(Closed(1), Until(requests=1)))
    (moments,) = record.requests
    assert moments.outcome == "completed", moments.failure
    assert moments.content_events >= 1
    assert times(moments) == sorted(times(moments))


async def test_a_stream_that_is_read_without_a_meter_is_a_stream(gateway: Gateway) -> None:
    async with measured(gateway.url) as engine:
        response = await engine.opened(engine.prepared("Name a prime.", {"temperature": 0})).response()
    assert response.content
    assert gateway.calls[0].body["temperature"] == 0
    assert gateway.calls[0].body["stream_options"] == {"include_usage": True}


async def test_nothing_is_sent_again_and_no_key_is_sent(gateway: Gateway) -> None:
    moments = await one(gateway.url)
    assert moments.outcome == "completed"
    assert gateway.keys == []


async def test_a_meter_is_that_of_its_own_request(gateway: Gateway) -> None:
    """Requests one after another on the same connection."""
    async with measured(gateway.url) as engine:
        meters = []
        for number in range(2):
            meters.append(Meter(Moments(number, 0), 0))
            CURRENT.set(meters[-1])
            await engine.opened(engine.prepared("Name a prime.", {})).pump(meters[-1].take)
    first, second = meters
    assert first.arrived <= second.sent
    assert (first.is_new_connection, second.is_new_connection, engine.connections) == (True, False, 1)


async def test_defaults_of_the_body_and_headers_are_as_in_the_engine(gateway: Gateway) -> None:
    await one(gateway.url, engine={"params": {"max_tokens": 3}, "default_headers": {"x-team": "red"}})
    assert gateway.calls[0].body["max_tokens"] == 3
    assert gateway.calls[0].headers["x-team"] == "red"


async def test_a_key_is_not_in_what_is_kept_of_a_failure() -> None:
    async with Gateway(api_key="another") as gateway:
        moments = await one(gateway.url)
    assert moments.failure is not None
    assert (moments.failure.name, moments.failure.status) == ("AuthenticationError", 401)
    assert API_KEY not in repr(moments)


async def test_over_tls_moments_have_the_same_order() -> None:
    pytest.importorskip("trustme")
    async with Gateway(tls=True, api_key=API_KEY) as gateway:
        context = gateway.ssl_context()
        async with measured(gateway.url) as engine:
            session = engine._measured._opened.session  # type: ignore[union-attr]
            assert isinstance(session, OwnSession)
            session.connector._ssl = context
            plan = Plan({}, PromptList(["Name a prime."]))
            meter = Meter(Moments(0, 0), 0)
            CURRENT.set(meter)
            await engine.opened(engine.prepared(plan.prompts.prompt(0).turns[0], {})).pump(meter.take)
            moments = meter.finish("completed", None)
    values = times(moments, ORDER[2:])
    assert values == sorted(values)


@pytest.mark.parametrize("new_loop", ["asyncio", "uvloop"])
def test_both_event_loops_measure(new_loop: str) -> None:
    module = pytest.importorskip(new_loop)

    async def measure() -> list[int]:
        async with Gateway(api_key=API_KEY, script=[answer(pieces=["a", "b"], ttft_s=0.01, delay_s=0.01)]) as gateway:
            record = await run(gateway.url, Closed(1), Until(requests=1))
            return times(record.requests[0])

    loop: asyncio.AbstractEventLoop = module.new_event_loop()
    try:
        values = loop.run_until_complete(measure())
    finally:
        loop.close()
    assert values == sorted(values)


def test_its_stack_hides_nothing() -> None:
    engine = MeasuredEngine("tiny", base_url="http://127.0.0.1:1", api_key="none")
    assert [type(each).__name__ for each in engine._middleware] == ["Auth", "Classify"]
