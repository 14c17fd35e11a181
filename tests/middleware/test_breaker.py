"""The circuit breaker: in the engine, and on a plain session."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from penstock import ModelEngine, errors
from penstock.middleware import Auth, Classify, Retry
from penstock.middleware.breaker import Breaker, CircuitChange, is_failure
from penstock.middleware.limiter import Limiter
from penstock.testing import Gateway, answer, block, cut, empty, error_event, fail, hang_up, reset, stall, truncate
from tests.awaits import CountedAwaits, at_each_wait
from tests.clocks import FakeClock
from tests.outcomes import drained, failure

from .support import AT_ONCE, KEY, engine_at, post, session_at

HELLO = answer("Hello.")
KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


def quick(**options: Any) -> Breaker:
    """A breaker that opens at the second failure of two."""
    return Breaker(**{"minimum": 2, "failure_rate": 1.0, **options})


async def opened(gateway: Gateway, engine: ModelEngine) -> None:
    """Have the circuit open."""
    gateway.script(fail(500), fail(500))
    for _ in range(2):
        await failure(engine.chat_completion("Hi"))


async def test_after_enough_failures_nothing_is_sent(gateway: Gateway) -> None:
    breaker = quick()
    async with engine_at(gateway, breaker, Auth(), clock=FakeClock()) as engine:
        await opened(gateway, engine)
        error = await failure(engine.chat_completion("Hi"))
        assert breaker.state(engine.base_url, "tiny-mock") == "open"
    assert gateway.requests == 2
    assert isinstance(error, errors.CircuitOpenError)
    assert (error.phase, error.advice, error.retry_after, error.attempts) == ("not_sent", "after", 5.0, ())
    assert (error.gateway, error.model_name) == ("openai", "tiny-mock")


async def test_a_probe_that_succeeds_closes_the_circuit_and_each_change_is_told(gateway: Gateway) -> None:
    told: list[CircuitChange] = []
    breaker, clock = quick(on_change=told.append), FakeClock()
    async with engine_at(gateway, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        assert (await engine.chat_completion("Hi")).content
    assert [(change.before, change.state, change.model) for change in told] == [
        ("closed", "open", "tiny-mock"),
        ("open", "half_open", "tiny-mock"),
        ("half_open", "closed", "tiny-mock"),
    ]
    assert {str(change.origin) for change in told} == {gateway.url}


async def test_a_probe_that_fails_opens_it_again(gateway: Gateway) -> None:
    clock = FakeClock()
    async with engine_at(gateway, quick(), Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        gateway.script(reset())
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.DisconnectedError)
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.CircuitOpenError)
    assert gateway.requests == 3


async def test_while_a_probe_is_out_nobody_else_is_let_through(gateway: Gateway) -> None:
    clock = FakeClock()
    async with engine_at(gateway, quick(), Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        gateway.script(stall(when="before_headers"))
        probe = asyncio.ensure_future(engine.chat_completion("Hi"))
        await gateway.until(lambda: gateway.requests == 3)
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.CircuitOpenError)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert (await engine.chat_completion("Hi")).content  # a cancelled probe hands its place back


async def test_a_probe_cancelled_before_its_first_output_has_not_succeeded(gateway: Gateway) -> None:
    breaker, clock, head_came = quick(), FakeClock(), asyncio.Event()

    async def watching(request: Any, handler: Any) -> Any:
        reply = await handler(request)
        head_came.set()
        return reply

    async with engine_at(gateway, watching, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        gateway.script(stall(after_events=0))
        probe = asyncio.ensure_future(engine.stream_call("Hi").response())
        await head_came.wait()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert breaker.state(engine.base_url, "tiny-mock") == "half_open"
        assert (await engine.chat_completion("Hi")).content


async def test_a_retry_waits_until_the_circuit_lets_it_through(gateway: Gateway) -> None:
    clock = FakeClock()
    async with engine_at(gateway, Retry(backoff=AT_ONCE, random=lambda: 0.0), quick(), Auth(), clock=clock) as engine:
        gateway.script(fail(500), fail(500), HELLO)
        error = await failure(engine.chat_completion("Hi"))
        assert isinstance(error, errors.CircuitOpenError)  # the third and last attempt
        assert (await engine.chat_completion("Hi")).content == "Hello."
    assert clock.sleeps == [0.0, 0.0, 5.0]


async def test_the_ledger_tells_all_that_was_waited_between_two_requests(gateway: Gateway) -> None:
    """The wait after the failure, and the wait for the circuit that it opened."""
    clock = FakeClock()
    gateway.script(fail(500), HELLO)
    async with engine_at(gateway, Retry(random=lambda: 0.5), quick(minimum=1), Auth(), clock=clock) as engine:
        response = await engine.chat_completion("Hi")
    assert len(clock.sleeps) == 2
    assert [attempt.wait for attempt in response.attempts] == [pytest.approx(sum(clock.sleeps)), None]


async def test_each_model_and_origin_has_a_circuit_of_its_own(gateway: Gateway) -> None:
    breaker = quick()
    async with (
        Gateway() as other,
        engine_at(gateway, breaker, Auth()) as engine,
        engine_at(other, breaker) as elsewhere,
    ):
        await opened(gateway, engine)
        assert (await engine.chat_completion("Hi", model="another")).content
        assert (await elsewhere.chat_completion("Hi")).content
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.CircuitOpenError)


async def test_a_health_check_is_neither_held_back_nor_counted(gateway: Gateway) -> None:
    breaker, limiter = quick(), Limiter(1)
    async with engine_at(gateway, breaker, limiter, Auth()) as engine:
        await opened(gateway, engine)
        assert (await engine.health()).ready
        assert breaker.state(engine.base_url, "tiny-mock") == "open"


async def test_engines_that_share_it_share_its_circuits(gateway: Gateway) -> None:
    breaker = quick()
    async with engine_at(gateway, breaker, Auth()) as engine, engine_at(gateway, breaker, Auth()) as twin:
        await opened(gateway, engine)
        assert isinstance(await failure(twin.chat_completion("Hi")), errors.CircuitOpenError)


@pytest.mark.parametrize(
    "step",
    [
        *(fail(status) for status in (400, 401, 403, 404, 409, 422, 429)),
        block("pii"),
    ],
    ids=lambda step: getattr(step, "kind", "") + str(getattr(step, "status", "")),
)
async def test_a_refusal_of_the_request_tells_nothing_about_the_gateway(step: Any) -> None:
    breaker = quick()
    async with Gateway(dialect="atrium", script=[step] * 5) as gateway:
        async with engine_at(gateway, breaker, Auth(), gateway="atrium") as engine:
            for _ in range(5):
                await failure(engine.chat_completion("Hi"))
            assert breaker.state(engine.base_url, "tiny-mock") == "closed"
        assert gateway.requests == 5


@pytest.mark.parametrize(
    "step",
    [
        fail(408),
        fail(500),
        fail(503),
        fail(529),
        reset("before_headers"),
        hang_up(),
        empty(),
        cut(after_events=3),
        truncate(),
        error_event(),
    ],
    ids=lambda step: step.kind + str(getattr(step, "status", "")),
)
async def test_a_stream_that_fails_counts_when_it_is_over(gateway: Gateway, step: Any) -> None:
    breaker = quick(minimum=1)
    gateway.script(step)
    async with engine_at(gateway, breaker, Auth()) as engine:
        _, error = await drained(engine.stream_call("Hi"))
        assert error is not None
        assert breaker.state(engine.base_url, "tiny-mock") == "open"


async def test_a_stream_that_has_begun_has_not_succeeded_yet(gateway: Gateway) -> None:
    breaker, clock = quick(), FakeClock()
    async with engine_at(gateway, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        stream = engine.stream_call("Hi")
        await anext(stream)
        assert breaker.state(engine.base_url, "tiny-mock") == "half_open"
        await stream.response()
        assert breaker.state(engine.base_url, "tiny-mock") == "closed"


async def test_a_stream_nobody_closes_does_not_keep_the_circuit_from_closing(gateway: Gateway) -> None:
    breaker, clock = quick(), FakeClock()
    async with engine_at(gateway, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        gateway.script(stall(after_events=3))
        held = engine.stream_call("Hi")
        await anext(held)
        assert isinstance(await failure(engine.chat_completion("Hi")), errors.CircuitOpenError)
        clock.pass_by(5)
        assert (await engine.chat_completion("Hi")).content
        assert breaker.state(engine.base_url, "tiny-mock") == "closed"
        await held.aclose()


async def test_an_abandoned_stream_is_told_of_when_it_is_collected(gateway: Gateway) -> None:
    breaker, clock = quick(), FakeClock()
    async with engine_at(gateway, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        clock.pass_by(5)
        gateway.script(stall(after_events=3))
        stream: Any = engine.stream_call("Hi")
        await anext(stream)
        with pytest.warns(ResourceWarning):
            del stream
        await gateway.assert_no_open_streams()
        assert breaker.state(engine.base_url, "tiny-mock") == "closed"


async def test_who_has_waited_in_line_does_not_pass_a_circuit_that_opened_meanwhile(gateway: Gateway) -> None:
    limiter = Limiter(1)
    async with engine_at(gateway, quick(), limiter, Auth()) as engine:
        gateway.script(default=fail(500))
        crowd = [failure(engine.chat_completion("Hi")) for _ in range(20)]
        kinds = [type(error) for error in await asyncio.gather(*crowd)]
    assert kinds == [errors.ServerError] * 2 + [errors.CircuitOpenError] * 18
    assert (gateway.requests, limiter.in_flight, limiter.waiting) == (2, 0, 0)


async def test_a_probe_cancelled_at_any_wait_hands_its_place_back() -> None:
    async def run(wait: int) -> bool:
        clock = FakeClock()
        async with Gateway() as gateway, engine_at(gateway, quick(), Limiter(1), Auth(), clock=clock) as engine:
            await opened(gateway, engine)
            clock.pass_by(5)
            probe = CountedAwaits(engine.stream_call("Hi").response(), cancel_at=wait)
            outcomes = await asyncio.gather(_run(probe), return_exceptions=True)
            assert isinstance(outcomes[0], asyncio.CancelledError) == probe.has_done
            assert (await engine.chat_completion("Hi")).content
        return probe.has_done

    assert await at_each_wait(run) >= 3


async def _run(awaits: CountedAwaits[Any]) -> Any:
    return await awaits


async def test_circuits_that_remember_nothing_are_forgotten_when_there_are_many(gateway: Gateway) -> None:
    breaker, clock = quick(), FakeClock()
    async with engine_at(gateway, breaker, Auth(), clock=clock) as engine:
        await opened(gateway, engine)
        for number in range(300):
            clock.pass_by(1)
            await engine.chat_completion("Hi", model=f"model {number}")
        assert breaker.state(engine.base_url, "tiny-mock") == "open"
    assert len(breaker._circuits) < 256


async def test_what_a_callback_raises_does_not_end_the_call(gateway: Gateway) -> None:
    caught: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context["exception"]))
    async with engine_at(gateway, quick(on_change=lambda change: 1 / 0), Auth()) as engine:
        await opened(gateway, engine)
    assert [type(error) for error in caught] == [ZeroDivisionError]


def test_failures_are_those_of_the_gateway_and_the_way_to_it() -> None:
    counted = {kind.__name__ for kind in KINDS if is_failure(kind())}
    assert " ".join(sorted(counted)) == (
        "ClockError ConnectError ConnectTimeoutError DisconnectedError EmptyResponseError FirstEventTimeoutError "
        "IdleTimeoutError OverloadedError ProgressTimeoutError ProtocolError ProviderError RedirectError "
        "RequestTimeoutError ServerError StreamTruncatedError TLSError TransportError WriteTimeoutError"
    )


@pytest.mark.parametrize(
    "wrong", [{"minimum": 0}, {"failure_rate": 50}, {"open_for": 0}, {"on_change": "print"}], ids=str
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^Breaker\(" + next(iter(wrong))):
        Breaker(**wrong)


def test_it_can_be_shown() -> None:
    breaker = Breaker()
    assert repr(breaker) == "<Breaker: no circuits>"
    assert breaker.state("https://api.openai.com/v1") == "closed"


# On a plain session


@pytest.mark.parametrize("stack", [(), (Auth(KEY), Classify())], ids=["alone", "with Classify"])
async def test_on_a_plain_session_the_status_decides(gateway: Gateway, stack: Any) -> None:
    gateway.script(fail(500), fail(500), HELLO)
    async with session_at(gateway, quick(), *stack) as session:
        for _ in range(2):
            await asyncio.gather(post(session), return_exceptions=True)
        with pytest.raises(errors.CircuitOpenError):
            await post(session)
    assert gateway.requests == 2


async def test_on_a_plain_session_a_lost_connection_counts_and_a_429_does_not(gateway: Gateway) -> None:
    gateway.script(fail(429), fail(429), reset("before_headers"), reset("before_headers"))
    async with session_at(gateway, quick()) as session:
        for _ in range(2):
            assert (await post(session))[0] == 429
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await post(session)
        with pytest.raises(errors.CircuitOpenError):
            await post(session)
