"""tenacity's objects in Retry."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tenacity import (
    RetryCallState,
    before_sleep_log,
    retry_any,
    retry_if_exception,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    stop_never,
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_random,
)
from tenacity.asyncio import retry_if_exception as async_retry_if_exception

from penstock import errors
from penstock.middleware import Backoff, Classify, Idempotency, Retry
from penstock.testing import Gateway, answer, cut, fail, hang_up
from tests.clocks import FakeClock

from .support import AT_ONCE, engine_at, post, session_at

HELLO = answer("Hello.")


async def call(gateway: Gateway, clock: FakeClock, **options: Any) -> errors.ModelEngineError | None:
    """One call with these options of Retry: its failure, or `None`."""
    async with engine_at(gateway, Idempotency(), Retry(random=lambda: 0.0, **options), clock=clock) as engine:
        try:
            await engine.chat_completion("Hi")
        except errors.ModelEngineError as error:
            return error
        return None


@pytest.mark.parametrize(
    "stop, requests",
    [
        (stop_after_attempt(1), 1),
        (stop_after_attempt(5), 5),
        (stop_after_attempt(5) | stop_after_delay(15), 3),
        (stop_after_attempt(5) & stop_after_delay(15), 5),
        (stop_after_delay(25), 4),
        (stop_before_delay(25), 3),
        (lambda state: state.idle_for >= 30, 4),
    ],
)
async def test_stop_ends_it(gateway: Gateway, stop: Any, requests: int) -> None:
    gateway.script(default=fail(500))
    error = await call(gateway, FakeClock(), stop=stop, wait=wait_fixed(10))
    assert gateway.requests == requests
    assert error is not None
    assert error.attempts[-1].why == "tenacity's stop says so"


async def test_stop_before_delay_counts_the_wait_the_server_asks_for(gateway: Gateway) -> None:
    gateway.script(default=fail(429, retry_after=30))
    clock = FakeClock()
    await call(gateway, clock, stop=stop_before_delay(25), wait=wait_fixed(1))
    assert (gateway.requests, clock.sleeps) == (1, [])


@pytest.mark.parametrize(
    "wait, sleeps",
    [
        (wait_fixed(3), [3, 3, 3]),
        (wait_incrementing(1, 2), [1, 3, 5]),
        (wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (wait_chain(wait_fixed(1), wait_fixed(7)), [1, 7, 7]),
        (wait_fixed(1) + wait_fixed(2), [3, 3, 3]),
        (lambda state: state.attempt_number * 10, [10, 20, 30]),
    ],
)
async def test_wait_says_how_long(gateway: Gateway, wait: Any, sleeps: list[float]) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    await call(gateway, clock, wait=wait, stop=stop_after_attempt(4))
    assert clock.sleeps == sleeps


@pytest.mark.parametrize(
    "wait, bounds",
    [
        (wait_exponential_jitter(initial=1, max=10, jitter=2), [(1, 3), (2, 4), (4, 6)]),
        (wait_random(2, 5), [(2, 5)] * 3),
    ],
)
async def test_wait_may_have_jitter(gateway: Gateway, wait: Any, bounds: list[tuple[float, float]]) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    await call(gateway, clock, wait=wait, stop=stop_after_attempt(4))
    assert all(least <= slept <= most for slept, (least, most) in zip(clock.sleeps, bounds, strict=True))


async def test_a_hint_is_a_lower_bound_of_any_wait(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after=30), fail(429, retry_after=1), HELLO)
    clock = FakeClock()
    assert await call(gateway, clock, wait=wait_fixed(3)) is None
    assert clock.sleeps == [30, 3]


async def test_a_hint_beyond_the_cap_ends_it_whatever_stop_says(gateway: Gateway) -> None:
    gateway.script(default=fail(429, retry_after=3600))
    error = await call(gateway, FakeClock(), stop=stop_never)
    assert error is not None
    assert (gateway.requests, error.retry_after) == (1, 3600)


@pytest.mark.parametrize("seconds", [-5, float("nan")])
async def test_a_wait_that_is_none_is_none(gateway: Gateway, seconds: float) -> None:
    gateway.script(fail(500), HELLO)
    clock = FakeClock()
    assert await call(gateway, clock, wait=lambda state: seconds) is None
    assert clock.sleeps == [0]


@pytest.mark.parametrize(
    "retry, requests",
    [
        (retry_if_exception_type(errors.RateLimitError), 2),
        (retry_if_exception_type(errors.ModelEngineError), 2),
        (retry_if_exception_type((errors.ServerError, errors.TransportError)), 1),
        (retry_if_exception_type(errors.ServerError) | retry_if_exception_type(errors.RateLimitError), 2),
        (retry_if_exception_type(errors.RateLimitError) & retry_if_exception(lambda error: False), 1),
        (retry_if_not_exception_type(errors.RateLimitError), 1),
        (retry_if_exception(lambda error: getattr(error, "status", None) == 429), 2),
        (retry_if_exception_message(match="Slow down"), 2),
        (retry_if_result(lambda result: True), 1),
        (retry_any(retry_if_exception_type(errors.RateLimitError)), 2),
    ],
)
async def test_retry_is_asked_with_the_typed_error(gateway: Gateway, retry: Any, requests: int) -> None:
    gateway.script(fail(429, message="Slow down."), HELLO)
    await call(gateway, FakeClock(), retry=retry)
    assert gateway.requests == requests


async def test_retry_stands_in_place_of_the_advice(gateway: Gateway) -> None:
    gateway.script(fail(404), HELLO)
    assert await call(gateway, FakeClock(), retry=retry_if_exception_type(errors.NotFoundError)) is None
    gateway.script(fail(500), HELLO)
    error = await call(gateway, FakeClock(), retry=retry_if_exception_type(errors.NotFoundError))
    assert error is not None
    assert error.attempts[-1].why == "tenacity's retry predicate says no"


async def test_without_retry_the_advice_holds(gateway: Gateway) -> None:
    gateway.script(fail(404), HELLO)
    assert isinstance(await call(gateway, FakeClock(), stop=stop_never), errors.NotFoundError)


async def test_max_attempts_and_backoff_go_with_the_objects_that_do_not_replace_them(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    options = {"max_attempts": 4, "backoff": Backoff(initial=2), "before_sleep": lambda state: None}
    retry = Retry(random=lambda: 0.5, **options)  # type: ignore[arg-type]
    async with engine_at(gateway, retry, clock=clock) as engine:
        with pytest.raises(errors.ServerError):
            await engine.chat_completion("Hi")
    assert clock.sleeps == [1, 2, 4]


@pytest.mark.parametrize("step", [cut(after_events=4), hang_up()], ids=["after output", "without a key"])
async def test_no_predicate_makes_what_is_forbidden_be_sent(gateway: Gateway, step: Any) -> None:
    gateway.script(step, HELLO)
    retry = Retry(retry=lambda state: True, stop=stop_never)
    async with engine_at(gateway, retry, clock=FakeClock()) as engine:
        with pytest.raises(errors.ModelEngineError):
            await engine.stream_call("Hi").response()
    assert gateway.requests == 1


async def test_the_objects_may_be_coroutine_functions(gateway: Gateway) -> None:
    seen: list[str] = []

    async def stop(state: RetryCallState) -> bool:
        seen.append("stop")
        return False

    async def wait(state: RetryCallState) -> float:
        seen.append("wait")
        return 2.5

    async def retry(state: RetryCallState) -> bool:
        seen.append("retry")
        return True

    async def before_sleep(state: RetryCallState) -> None:
        seen.append("before_sleep")

    gateway.script(fail(500), HELLO)
    clock = FakeClock()
    options: dict[str, Any] = {"stop": stop, "wait": wait, "retry": retry, "before_sleep": before_sleep}
    assert await call(gateway, clock, **options) is None
    assert seen == ["retry", "wait", "stop", "before_sleep"]  # tenacity's order
    assert clock.sleeps == [2.5]


async def test_tenacitys_own_async_predicates_are_awaited(gateway: Gateway) -> None:
    async def is_busy(error: BaseException) -> bool:
        return isinstance(error, errors.RateLimitError)

    gateway.script(fail(429), fail(500), HELLO)
    error = await call(gateway, FakeClock(), retry=async_retry_if_exception(is_busy))
    assert isinstance(error, errors.ServerError)
    assert gateway.requests == 2


async def test_the_state_tells_what_tenacity_tells(gateway: Gateway) -> None:
    states: list[tuple[Any, ...]] = []

    def note(state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        failure = state.outcome.exception()
        states.append(
            (
                state.attempt_number,
                type(failure).__name__,
                state.seconds_since_start,
                state.next_action.sleep,
                state.upcoming_sleep,
                state.idle_for,
                state.get_fn_name(),
            )
        )

    gateway.script(fail(503), fail(429, retry_after=5), HELLO)
    clock = FakeClock()
    assert await call(gateway, clock, wait=wait_fixed(2), before_sleep=note) is None
    assert states == [
        (1, "OverloadedError", 0.0, 2.0, 2.0, 2.0, "penstock.chat"),
        (2, "RateLimitError", 2.0, 5.0, 5.0, 7.0, "penstock.chat"),
    ]


@pytest.mark.parametrize("exc_info", [False, True])
async def test_before_sleep_log_writes_its_line(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, exc_info: bool
) -> None:
    caplog.set_level(logging.INFO)
    gateway.script(fail(429, retry_after=3, message="Slow down."), HELLO)
    log = before_sleep_log(logging.getLogger("app"), logging.INFO, exc_info=exc_info)
    await call(gateway, FakeClock(), before_sleep=log)
    (line,) = caplog.messages
    assert line.startswith("Retrying penstock.chat in 3 seconds as it raised RateLimitError: Slow down. (HTTP 429,")
    assert ("Traceback" in line) is exc_info


async def test_each_call_has_a_state_of_its_own(gateway: Gateway) -> None:
    seen: list[int] = []
    gateway.script(default=fail(500))
    retry = Retry(stop=stop_after_attempt(2), wait=wait_fixed(1), before_sleep=lambda s: seen.append(s.attempt_number))
    clock = FakeClock()
    async with engine_at(gateway, retry, clock=clock) as engine:
        for _ in range(3):
            with pytest.raises(errors.ServerError):
                await engine.chat_completion("Hi")
    assert seen == [1, 1, 1]
    assert gateway.requests == 6


async def test_a_hook_that_raises_ends_the_call_with_its_error(gateway: Gateway) -> None:
    def broken(state: RetryCallState) -> None:
        raise LookupError("broken")

    gateway.script(fail(500), HELLO)
    async with engine_at(gateway, Retry(before_sleep=broken), clock=FakeClock()) as engine:
        with pytest.raises(LookupError, match="broken"):
            await engine.chat_completion("Hi")


@pytest.mark.parametrize("inner", [(), (Classify(),)], ids=["without Classify", "with Classify"])
async def test_on_a_plain_session_they_mean_the_same(gateway: Gateway, inner: tuple[Any, ...]) -> None:
    gateway.script(fail(404), fail(429, retry_after_ms=1), fail(404), HELLO)
    predicate = retry_if_exception_type((errors.NotFoundError, errors.RateLimitError))
    retry = Retry(retry=predicate, stop=stop_after_attempt(4), backoff=AT_ONCE)
    async with session_at(gateway, retry, *inner) as session:
        assert (await post(session))[0] == 200
    assert gateway.requests == 4
