"""The limiter: slots, order, rates and what it learns; in the engine, under any order of events, on a plain session."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from multidict import CIMultiDict
from yarl import URL

from penstock import ModelEngine, Timeouts, errors
from penstock.engine.exchange import CallContext, Exchange, Operation, Target
from penstock.engine.verdict import judge_openai
from penstock.middleware import Auth, Classify, Idempotency, Retry
from penstock.middleware.concurrency import AdaptiveConcurrency
from penstock.middleware.gate import estimated_tokens, is_throttle
from penstock.middleware.limiter import Limiter
from penstock.testing import Gateway, answer, cut, error_event, fail, hang_up, reset, stall, truncate
from tests.awaits import CountedAwaits, at_each_wait
from tests.clocks import FakeClock
from tests.outcomes import drained, failure

from .support import AT_ONCE, KEY, chat, engine_at, post, session_at

HELD = stall(after_events=3)
HELLO = answer("Hello.")
KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to hold")


async def held_stream(engine: ModelEngine) -> Any:
    """A stream that has begun, at a gateway that falls silent then."""
    stream = engine.stream_call("Hi")
    await anext(stream)
    return stream


class Head:
    """An answer without a body."""

    headers: CIMultiDict[str] = CIMultiDict()

    def __init__(self, status: int) -> None:
        self.status = status


# Slots


async def test_no_more_are_under_way_than_the_limit(gateway: Gateway) -> None:
    limiter = Limiter(3)
    gateway.script(default=answer("Hello.", ttft_s=0.002))
    async with engine_at(gateway, limiter, Auth()) as engine:
        await asyncio.gather(*(engine.chat_completion("Hi") for _ in range(20)))
    assert gateway.requests == 20
    assert gateway.connections <= 3
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_slot_is_held_until_the_stream_is_closed(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD, HELLO)
    async with engine_at(gateway, limiter, Auth()) as engine:
        stream = await held_stream(engine)
        waiting = asyncio.ensure_future(engine.chat_completion("Hi"))
        await until(lambda: limiter.waiting == 1)
        assert gateway.requests == 1
        await stream.aclose()
        assert (await waiting).content == "Hello."
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


@pytest.mark.parametrize(
    "step",
    [fail(400), fail(503), hang_up(), reset(), cut(after_events=3), truncate(), error_event(), answer("Hello.")],
    ids=lambda step: step.kind + str(getattr(step, "status", "")),
)
async def test_a_slot_is_given_back_however_the_answer_ends(gateway: Gateway, step: Any) -> None:
    limiter = Limiter(1)
    gateway.script(step)
    async with engine_at(gateway, limiter, Auth()) as engine:
        await drained(engine.stream_call("Hi"))
        assert limiter.in_flight == 0
        assert (await engine.chat_completion("Hi")).content


async def test_a_slot_of_an_abandoned_stream_is_given_back(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    async with engine_at(gateway, limiter, Auth()) as engine:
        stream = await held_stream(engine)
        with pytest.warns(ResourceWarning):
            del stream
        assert (await engine.chat_completion("Hi")).content


async def test_a_slot_of_an_answer_that_is_lost_is_given_back_at_once(gateway: Gateway) -> None:
    """Not when the garbage collector next looks for cycles: there are none."""

    async def loses(request: Any, handler: Any) -> Any:
        await handler(request)
        raise errors.ServerError("lost")

    limiter = Limiter(1)
    gateway.script(default=HELD)
    gc.disable()
    try:
        async with engine_at(gateway, loses, limiter, Auth()) as engine:
            for _ in range(2):
                assert (await failure(engine.stream_call("Hi").response())).message == "lost"
            await until(lambda: limiter.in_flight == 0)
    finally:
        gc.enable()


async def test_a_retry_that_waits_holds_no_slot(gateway: Gateway) -> None:
    limiter = Limiter(1)
    seen: list[int] = []

    class Watching(FakeClock):
        async def sleep(self, seconds: float) -> None:
            seen.append(limiter.in_flight)
            await super().sleep(seconds)

    gateway.script(fail(503), HELLO)
    async with engine_at(gateway, Retry(), limiter, Auth(), clock=Watching()) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."
    assert seen == [0]


@pytest.mark.parametrize("script", [[], [fail(429)], [cut(after_events=1)]], ids=["at once", "429", "cut"])
@pytest.mark.parametrize("options", [{}, {"tokens_per_minute": 600}], ids=["slots", "slots and tokens"])
async def test_a_call_cancelled_at_any_wait_gives_back_its_slot_once(script: list[Any], options: Any) -> None:
    async def run(wait: int) -> bool:
        limiter, stack = Limiter(1, **options), (Idempotency(), Retry(backoff=AT_ONCE))
        gateway = Gateway(script=script)
        async with gateway, engine_at(gateway, *stack, limiter, Auth(), clock=FakeClock()) as engine:
            await engine.models()
            call = CountedAwaits(engine.stream_call("Hi" * 500).response(), cancel_at=wait)
            outcomes = await asyncio.gather(_run(call), return_exceptions=True)
            assert isinstance(outcomes[0], asyncio.CancelledError) == call.has_done
            assert (limiter.in_flight, limiter.waiting) == (0, 0)
            assert (await engine.chat_completion("Hi")).content
        return call.has_done

    assert await at_each_wait(run) >= 3


async def _run(awaits: CountedAwaits[Any]) -> Any:
    return await awaits


async def test_engines_that_share_it_share_its_slots(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    async with engine_at(gateway, limiter, Auth()) as engine, engine_at(gateway, limiter, Auth()) as twin:
        stream = await held_stream(engine)
        waiting = asyncio.ensure_future(twin.chat_completion("Hi"))
        await until(lambda: limiter.waiting == 1)
        await stream.aclose()
        assert (await waiting).content


# The line


async def test_calls_are_sent_in_the_order_they_were_made(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    async with engine_at(gateway, limiter, Auth()) as engine:
        stream = await held_stream(engine)
        calls = []
        for number in range(5):
            calls.append(asyncio.ensure_future(engine.chat_completion(f"{number}")))
            await until(lambda: limiter.waiting == len(calls))
        calls[0].cancel()
        calls[3].cancel()
        await stream.aclose()
        await asyncio.gather(*calls, return_exceptions=True)
    assert [call.body["messages"][0]["content"] for call in gateway.calls[1:]] == ["1", "2", "4"]


async def test_a_wait_for_a_slot_ends_by_the_queue_clock(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    async with engine_at(gateway, limiter, Auth(), timeouts=Timeouts(queue=0.02)) as engine:
        stream = await held_stream(engine)
        error = await failure(engine.chat_completion("Hi"))
        await stream.aclose()
    assert isinstance(error, errors.QueueTimeoutError)
    assert (error.phase, error.attempts, error.model_name) == ("not_sent", (), "tiny-mock")
    assert error.message == "the call's turn did not come within 0.02 s: 1 are under way, 0 wait"
    assert (gateway.requests, limiter.waiting) == (1, 0)


async def test_a_wait_for_a_slot_ends_by_the_deadline_when_that_is_sooner(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    async with engine_at(gateway, limiter, Auth()) as engine:
        stream = await held_stream(engine)
        error = await failure(engine.chat_completion("Hi", timeout=0.02))
        await stream.aclose()
    assert isinstance(error, errors.DeadlineExceededError)
    assert (error.phase, gateway.requests, limiter.waiting) == ("not_sent", 1, 0)


async def test_a_wait_for_a_rate_ends_by_the_queue_clock(gateway: Gateway) -> None:
    clock = FakeClock()
    limiter = Limiter(None, requests_per_minute=0.5)
    async with engine_at(gateway, limiter, Auth(), clock=clock) as engine:
        await engine.chat_completion("Hi")
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.QueueTimeoutError)
    assert clock.sleeps == [60.0]


async def test_stopping_the_engine_ends_the_wait(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(HELD)
    engine = engine_at(gateway, limiter, Auth())
    await engine.start()
    stream = await held_stream(engine)
    waiting = asyncio.ensure_future(failure(engine.chat_completion("Hi")))
    await until(lambda: limiter.waiting == 1)
    await engine.stop()
    error = await waiting
    assert isinstance(error, errors.EngineClosedError)
    assert (error.phase, limiter.in_flight, limiter.waiting) == ("not_sent", 0, 0)
    assert isinstance(await failure(stream.response()), errors.EngineClosedError)


async def test_another_event_loop_is_refused_while_it_is_in_use(gateway: Gateway) -> None:
    limiter = Limiter(2)

    async def elsewhere() -> Any:
        async with engine_at(gateway, limiter, Auth()) as engine:
            return await engine.chat_completion("Hi")

    async with engine_at(gateway, limiter, Auth()) as engine, engine.stream_call("Hi") as stream:
        await anext(stream)
        error = await failure(asyncio.to_thread(asyncio.run, elsewhere()))
        assert isinstance(error, errors.WrongEventLoopError)
        assert (error.phase, gateway.requests) == ("not_sent", 1)
    assert (await asyncio.to_thread(asyncio.run, elsewhere())).content


# The limit that finds itself


@pytest.mark.parametrize(
    "step",
    [
        fail(429),
        fail(503),
        fail(529),
        error_event(error={"type": "overloaded_error", "message": "busy"}, after_events=0),
    ],
    ids=["429", "503", "529", "event"],
)
async def test_a_burst_of_refusals_lowers_the_limit_once(gateway: Gateway, step: Any) -> None:
    limiter = Limiter(AdaptiveConcurrency(10))
    gateway.script(default=step)
    async with engine_at(gateway, limiter, Auth()) as engine:
        await asyncio.gather(*(drained(engine.stream_call("Hi")) for _ in range(10)))
    assert (gateway.requests, limiter.limit, limiter.in_flight) == (10, 7, 0)


async def test_a_gateway_that_cannot_be_reached_lowers_it() -> None:
    limiter = Limiter(AdaptiveConcurrency(10))
    async with Gateway() as gateway:
        engine = engine_at(gateway, limiter, Auth())
    async with engine:
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.ConnectError)
    assert limiter.limit == 7


@pytest.mark.parametrize("step", [fail(500), fail(400), fail(429, code="insufficient_quota"), hang_up()])
async def test_other_failures_leave_it_as_it_is(gateway: Gateway, step: Any) -> None:
    limiter = Limiter(AdaptiveConcurrency(1, 1, 10))
    gateway.script(step)
    async with engine_at(gateway, limiter, Auth()) as engine:
        await failure(engine.chat_completion("Hi"))
    assert limiter.limit == 1


async def test_it_grows_while_it_is_reached_and_all_goes_well(gateway: Gateway) -> None:
    limiter = Limiter(AdaptiveConcurrency(2))
    async with engine_at(gateway, limiter, Auth()) as engine:
        await asyncio.gather(*(engine.chat_completion("Hi") for _ in range(30)))
    assert limiter.limit is not None
    assert limiter.limit > 3


async def test_a_stream_that_is_slow_to_begin_lowers_it(gateway: Gateway) -> None:
    clock = FakeClock()
    limiter = Limiter(AdaptiveConcurrency(10, first_event=2.0))
    gateway.script(stall(after_events=1, for_s=0.05), HELLO)
    async with engine_at(gateway, limiter, Auth(), clock=clock) as engine:
        slow = asyncio.ensure_future(engine.stream_call("Hi").response())
        await gateway.until(lambda: gateway.open_streams == 1)
        clock.pass_by(3)
        await slow
        assert limiter.limit == 7
        await engine.stream_call("Hi").response()
    assert (limiter.limit, limiter.in_flight) == (7, 0)


async def test_a_stream_that_fails_before_it_begins_is_released_when_that_is_timed(gateway: Gateway) -> None:
    limiter = Limiter(AdaptiveConcurrency(10, first_event=2.0))
    gateway.script(truncate(after_events=0), HELLO)
    stack = (Idempotency(), Retry(backoff=AT_ONCE), limiter, Auth())
    async with engine_at(gateway, *stack, clock=FakeClock()) as engine:
        assert (await engine.stream_call("Hi").response()).content
    assert (gateway.requests, limiter.limit, limiter.in_flight) == (2, 10, 0)


async def test_an_answer_that_is_not_passed_on_is_released() -> None:
    class Broken(Head):
        is_released = False

        async def commit(self) -> None:
            raise errors.ServerError("broken")

        def release(self) -> None:
            self.is_released = True

    async def handler(request: Any) -> Broken:
        return reply

    reply = Broken(200)
    exchange = _exchange(stream=True)
    await failure(Limiter(AdaptiveConcurrency(first_event=2.0))(exchange, handler))
    assert reply.is_released


def test_what_means_that_there_was_too_much() -> None:
    throttles = {kind.__name__ for kind in KINDS if is_throttle(kind())}
    assert throttles == {"RateLimitError", "OverloadedError", "ConnectError", "ConnectTimeoutError"}


# Rates


async def test_requests_start_as_fast_as_the_rate_allows(gateway: Gateway) -> None:
    clock = FakeClock()
    limiter = Limiter(None, requests_per_minute=30, burst=4)  # two at once, then one in two seconds
    async with engine_at(gateway, limiter, Auth(), clock=clock) as engine:
        for _ in range(4):
            await engine.chat_completion("Hi")
    assert clock.sleeps == pytest.approx([2, 2])
    assert (limiter.limit, limiter.in_flight) == (None, 0)


@pytest.mark.parametrize(
    "usage, sleeps",
    [
        ({"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50}, []),
        ({"prompt_tokens": 100, "completion_tokens": 900, "total_tokens": 1000}, [9.0]),
        ({"prompt_tokens": 100, "completion_tokens": 1900, "total_tokens": 2000}, [19.0]),
        (None, [9.0]),
    ],
    ids=["less", "as estimated", "more", "untold"],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_request_took_is_settled_by_its_usage(
    gateway: Gateway, usage: Any, sleeps: list[float], is_streamed: bool
) -> None:
    """100 tokens a second, 1,000 at once; each request is estimated at 900 and a bit."""
    clock = FakeClock()
    gateway.script(default=answer("Hello.", usage=usage))
    limiter = Limiter(None, tokens_per_minute=6000)
    async with engine_at(gateway, limiter, Auth(), clock=clock) as engine:
        for _ in range(2):
            if is_streamed:
                await engine.stream_call("Hi", max_tokens=900).response()
            else:
                await engine.chat_completion("Hi", max_tokens=900)
    assert clock.sleeps == pytest.approx(sleeps, abs=1.0)


async def test_a_request_larger_than_the_bucket_starts_when_that_is_full(gateway: Gateway) -> None:
    clock = FakeClock()
    limiter = Limiter(None, tokens_per_minute=600)  # 100 at once
    gateway.script(default=answer("Hello.", usage=None))
    async with engine_at(gateway, limiter, Auth(), clock=clock, timeouts=Timeouts(queue=None)) as engine:
        await engine.chat_completion("Hi", max_tokens=200)
        assert clock.sleeps == []
        await engine.chat_completion("Hi")
    assert clock.sleeps == pytest.approx([13], abs=1)


async def test_of_a_request_that_was_not_sent_all_is_given_back() -> None:
    clock = FakeClock()
    limiter = Limiter(None, requests_per_minute=6, tokens_per_minute=600)
    async with Gateway() as gateway:
        engine = engine_at(gateway, limiter, Auth(), clock=clock)
    async with engine:
        for _ in range(3):
            await failure(engine.chat_completion("Hi", max_tokens=100))
    assert clock.sleeps == []


@pytest.mark.parametrize("step", [HELLO, fail(429)], ids=["answer", "429"])
@pytest.mark.parametrize("option, sleeps", [("auto", [1.0]), (600, [1.0]), (None, [])])
async def test_the_gateways_word_is_followed(gateway: Gateway, step: Any, option: Any, sleeps: list[float]) -> None:
    told = {"limit": "60", "remaining": "0", "reset": "1m0s"}
    headers = {f"x-ratelimit-{name}-requests": value for name, value in told.items()}
    gateway.script(type(step)(**{**_members(step), "headers": headers}))
    clock = FakeClock()
    limiter = Limiter(5, requests_per_minute=option)
    async with engine_at(gateway, limiter, Auth(), clock=clock) as engine:
        await asyncio.gather(engine.chat_completion("Hi"), return_exceptions=True)
        await engine.chat_completion("Hi")
    assert clock.sleeps == pytest.approx(sleeps)


def _members(step: Any) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__slots__}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (None, 0),
        (b"", 0),
        (b"x" * 400, 100),
        (b'{"max_tokens":50}', 54),
        (b'{"max_completion_tokens": 50}', 57),
        (b'{"content":"\\"max_tokens\\":50"}', 7),  # said by somebody, and no member
        (b'{"max_tokens":null}', 4),
        (b'{"tools":{"max_tokens":{"type":"integer"}}}', 10),
        pytest.param(aiohttp.BytesPayload(b"x" * 400), 100, id="payload"),
        pytest.param(aiohttp.JsonPayload({}), 0, id="json"),
    ],
    ids=str,
)
def test_tokens_are_estimated_by_the_body(body: Any, tokens: int) -> None:
    assert estimated_tokens(body) == tokens


# Options


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": -1},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"concurrency": "many"},
        {"requests_per_minute": 0},
        {"tokens_per_minute": float("nan")},
        {"tokens_per_minute": "Auto"},
        {"burst": 0},
        {"burst": 61},
        {"burst": None},
        {"concurrency": None},  # no limit at all
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match="Limiter"):
        Limiter(**wrong)


def test_it_can_be_shown() -> None:
    assert repr(Limiter(5)) == "<Limiter: 0 of 5 under way, 0 waiting>"
    assert Limiter().limit == 20


# Under any order of events


class Traffic(RuleBasedStateMachine):
    """Calls that come, end, fail and are cancelled in any order."""

    @initialize(limit=st.integers(1, 4), is_adaptive=st.booleans())
    def begin(self, limit: int, is_adaptive: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.limiter = Limiter(AdaptiveConcurrency(limit) if is_adaptive else limit)
        self.tasks: dict[int, asyncio.Task[Any]] = {}  # that are not over, in the order they came
        self.gates: dict[int, asyncio.Future[int]] = {}  # of those that were let in
        self.started: list[int] = []
        self.count = 0

    @rule()
    def call(self) -> None:
        self.count += 1
        self.tasks[self.count] = self.loop.create_task(self._call(self.count))
        self._settle()

    @precondition(lambda self: self.gates)
    @rule(data=st.data(), status=st.sampled_from([200, 200, 200, 400, 429, 503]))
    def answer(self, data: st.DataObject, status: int) -> None:
        self.gates[data.draw(st.sampled_from(sorted(self.gates)))].set_result(status)
        self._settle()

    @precondition(lambda self: self.gates)
    @rule(data=st.data())
    def break_off(self, data: st.DataObject) -> None:
        self.gates[data.draw(st.sampled_from(sorted(self.gates)))].set_exception(ConnectionResetError())
        self._settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), also_answer=st.booleans())
    def cancel(self, data: st.DataObject, also_answer: bool) -> None:
        """Wherever it stands; perhaps in the same turn in which a slot becomes free."""
        if also_answer and self.gates:
            self.gates[min(self.gates)].set_result(200)
        self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))].cancel()
        self._settle()

    @invariant()
    def slots_are_counted_and_none_lies_idle(self) -> None:
        assert self.limiter.in_flight == len(self.gates)
        assert self.limiter.waiting == len(self.tasks) - len(self.gates)
        assert self.limiter.limit is not None
        assert not self.limiter.waiting or self.limiter.in_flight >= self.limiter.limit

    @invariant()
    def they_started_in_the_order_they_came(self) -> None:
        assert self.started == sorted(self.started)
        assert all(number > max(self.gates, default=0) for number in self.tasks.keys() - self.gates.keys())

    def teardown(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        self._settle()
        assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0)
        self.loop.close()

    async def _call(self, number: int) -> None:
        async def handler(request: Any) -> Head:
            assert self.limiter.limit is not None
            assert self.limiter.in_flight <= self.limiter.limit
            self.started.append(number)
            gate = self.gates[number] = self.loop.create_future()
            try:
                return Head(await gate)
            finally:
                del self.gates[number]

        try:
            await self.limiter(_exchange(), handler)
        except (ConnectionResetError, asyncio.CancelledError):
            pass
        finally:
            del self.tasks[number]

    def _settle(self) -> None:
        """Let the loop run until nothing moves."""
        self.loop.run_until_complete(_turns(20))


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _exchange(*, stream: bool = False) -> Exchange:
    target = Target("openai", judge_openai)
    context = CallContext(target, Operation("chat"), "tiny-mock", stream, Timeouts(queue=None))
    return Exchange("POST", URL("http://127.0.0.1/"), body=b"{}", context=context, decoder=lambda answer: None)


TestTraffic = Traffic.TestCase


# On a plain session


async def test_on_a_plain_session_a_slot_is_held_until_the_head_is_here(gateway: Gateway) -> None:
    limiter = Limiter(1)
    gateway.script(stall(when="before_headers", for_s=0.02), HELLO)
    async with session_at(gateway, limiter) as session:
        first = asyncio.ensure_future(post(session))
        await gateway.until(lambda: gateway.requests == 1)
        second = asyncio.ensure_future(post(session))
        await until(lambda: limiter.waiting == 1)
        assert gateway.requests == 1
        assert [status for status, _ in await asyncio.gather(first, second)] == [200, 200]
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("stack", [(), (Auth(KEY), Classify())], ids=["alone", "with Classify"])
@pytest.mark.parametrize("step, limit", [(fail(429), 7), (fail(503), 7), (reset("before_headers"), 10), (HELLO, 10)])
async def test_on_a_plain_session_the_status_lowers_the_limit(
    gateway: Gateway, stack: Any, step: Any, limit: int
) -> None:
    limiter = Limiter(AdaptiveConcurrency(10), tokens_per_minute=100_000)
    gateway.script(step)
    async with session_at(gateway, limiter, *stack) as session:
        await asyncio.gather(post(session, json=chat()), return_exceptions=True)
    assert (limiter.limit, limiter.in_flight) == (limit, 0)
