"""aiohttp-retry's options in Retry, and ours in its client."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import pytest
from aiohttp_retry import (
    ExponentialRetry,
    FibonacciRetry,
    JitterRetry,
    ListRetry,
    RandomRetry,
    RetryClient,
    RetryOptionsBase,
)

from penstock import RetryAfterOptions, errors
from penstock.middleware import Auth, Backoff, Classify, Idempotency, Retry
from penstock.middleware.aiohttp_retry_policy import AiohttpRetryPolicy
from penstock.testing import Gateway, answer, cut, empty, error_event, fail, hang_up, reset
from tests.clocks import FakeClock

from .support import CHAT, KEY, chat, engine_at, post, session_at

HELLO = answer("Hello.")
LARGE = b" " * 1_000_000


async def call(gateway: Gateway, options: Any, clock: FakeClock | None = None) -> errors.ModelEngineError | None:
    """One call with these options as the policy: its failure, or `None`."""
    retry = Retry(options, random=lambda: 0.0)
    async with engine_at(gateway, Idempotency(), retry, clock=clock or FakeClock()) as engine:
        try:
            await engine.chat_completion("Hi")
        except errors.ModelEngineError as error:
            return error
        return None


# Its option objects as the policy of Retry


@pytest.mark.parametrize(
    "options, sleeps",
    [
        (ExponentialRetry(attempts=4, start_timeout=1, max_timeout=5), [2, 4, 5]),
        (ListRetry([9, 1, 2, 3]), [1, 2, 3]),  # the first is never used, as there
        (FibonacciRetry(attempts=4, max_timeout=100), [2, 3, 5]),
        (RandomRetry(attempts=4, min_timeout=1, max_timeout=3, random_func=lambda: 0.5), [2, 2, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_of_its_classes_is_accepted(gateway: Gateway, options: Any, sleeps: list[float]) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    error = await call(gateway, options, clock)
    assert clock.sleeps == sleeps
    assert gateway.requests == 4
    assert error is not None
    assert error.attempts[-1].why == "4 attempts were made"


async def test_jitter_retry_is_accepted(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    clock = FakeClock()
    await call(gateway, JitterRetry(attempts=3, start_timeout=1, random_interval_size=2), clock)
    assert [2 <= clock.sleeps[0] <= 6, 4 <= clock.sleeps[1] <= 8] == [True, True]


async def test_the_state_of_an_option_object_is_not_shared_by_calls(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    options, clock = FibonacciRetry(attempts=3, max_timeout=100), FakeClock()
    async with engine_at(gateway, Retry(options, random=lambda: 0.0), clock=clock) as engine:
        calls = [engine.chat_completion(f"Call {n}") for n in range(2)]
        await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(clock.sleeps) == [2, 2, 3, 3]
    assert (options.prev_step, options.current_step) == (1.0, 1.0)


@pytest.mark.parametrize(
    "options, status, requests",
    [
        (ExponentialRetry(), 500, 2),
        (ExponentialRetry(), 529, 2),
        (ExponentialRetry(), 429, 1),
        (ExponentialRetry(statuses={429}), 429, 2),
        (ExponentialRetry(statuses={429}, retry_all_server_errors=False), 500, 1),
        (ExponentialRetry(statuses={500}, retry_all_server_errors=False), 500, 2),
        (ExponentialRetry(statuses={400}), 400, 1),  # the verdict is final
        (ExponentialRetry(methods={"GET"}), 500, 1),
        (ExponentialRetry(methods={"post"}), 500, 2),
        (ExponentialRetry(attempts=1), 500, 1),
        (ExponentialRetry(attempts=0), 500, 1),
    ],
)
async def test_attempts_statuses_and_methods_are_gone_by(
    gateway: Gateway, options: RetryOptionsBase, status: int, requests: int
) -> None:
    gateway.script(fail(status), HELLO)
    await call(gateway, options)
    assert gateway.requests == requests


ALL: set[type[Exception]] = set()
FAILURES = {
    "connect": errors.ConnectError(),
    "connect timeout": errors.ConnectTimeoutError(),
    "lost": errors.DisconnectedError(),
    "cut": errors.StreamTruncatedError(),
    "silent": errors.FirstEventTimeoutError(),
    "empty": errors.EmptyResponseError(),
}


@pytest.mark.parametrize(
    "exceptions, covered",
    [
        (ALL, {*FAILURES}),
        ({Exception}, {*FAILURES}),
        ({aiohttp.ClientError}, {*FAILURES}),
        pytest.param(
            {OSError},
            {"connect", "lost", "silent", "connect timeout", "empty"},
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's timeouts are no OSError there"),
        ),
        ({aiohttp.ClientConnectionError}, {"connect", "connect timeout", "lost", "silent", "empty"}),
        ({aiohttp.ClientConnectorError}, {"connect", "empty"}),
        ({aiohttp.ClientConnectorDNSError}, {"connect", "empty"}),
        ({aiohttp.ServerDisconnectedError}, {"lost", "empty"}),
        ({aiohttp.ClientPayloadError}, {"lost", "cut", "empty"}),
        ({ConnectionResetError}, {"lost", "empty"}),
        ({asyncio.TimeoutError}, {"silent", "connect timeout", "empty"}),
        ({aiohttp.ServerTimeoutError}, {"silent", "connect timeout", "empty"}),
        ({aiohttp.ConnectionTimeoutError}, {"connect timeout", "empty"}),
        ({errors.DisconnectedError}, {"lost", "empty"}),
        ({errors.ModelEngineError}, {*FAILURES}),
        ({KeyError}, {"empty"}),  # an answer came: exceptions are not about it
    ],
)
async def test_exceptions_may_have_aiohttps_names_or_ours(exceptions: set[type[Exception]], covered: set[str]) -> None:
    policy = AiohttpRetryPolicy(ExponentialRetry(exceptions=exceptions), "POST")
    assert {name for name, error in FAILURES.items() if await policy.gives_up(error, 1) is None} == covered


async def test_exceptions_may_have_the_names_of_the_operating_system(gateway: Gateway) -> None:
    retry = Retry(ExponentialRetry(exceptions={ConnectionRefusedError}))
    async with engine_at(gateway, retry, clock=FakeClock()) as engine:
        await gateway.stop()
        with pytest.raises(errors.ConnectError) as caught:
            await engine.chat_completion("Hi")
    assert len(caught.value.attempts) == 3


@pytest.mark.parametrize(
    "step", [hang_up(), reset("after_headers"), empty(), error_event(after_events=0)], ids=lambda step: step.kind
)
async def test_what_fails_without_a_status_is_sent_again_too(gateway: Gateway, step: Any) -> None:
    gateway.script(step, HELLO)
    async with engine_at(gateway, Idempotency(), Retry(ExponentialRetry()), clock=FakeClock()) as engine:
        assert (await engine.stream_call("Hi").response()).content == "Hello."


async def test_after_output_no_option_sends_again(gateway: Gateway) -> None:
    gateway.script(cut(after_events=4), HELLO)
    async with engine_at(gateway, Idempotency(), Retry(ExponentialRetry()), clock=FakeClock()) as engine:
        with pytest.raises(errors.StreamTruncatedError):
            await engine.stream_call("Hi").response()
    assert gateway.requests == 1


async def test_a_hint_is_a_lower_bound_of_its_waits(gateway: Gateway) -> None:
    gateway.script(fail(503, retry_after=7), fail(503, retry_after=1), HELLO)
    clock = FakeClock()
    assert await call(gateway, ListRetry([0, 3, 4]), clock) is None
    assert clock.sleeps == [7, 4]


async def test_told_to_wait_beyond_the_cap_it_fails_at_once(gateway: Gateway) -> None:
    gateway.script(fail(503, retry_after=121), HELLO)
    error = await call(gateway, ExponentialRetry())
    assert isinstance(error, errors.OverloadedError)
    assert (error.retry_after, gateway.requests) == (121, 1)


async def test_options_of_the_users_own_see_status_and_headers(gateway: Gateway) -> None:
    class Own(ExponentialRetry):
        def get_timeout(self, attempt: int, response: Any = None) -> float:
            return float(response.headers["X-Wait"]) + response.status if response is not None else 1.0

    gateway.script(fail(500, headers={"x-wait": "0.5"}), hang_up(), HELLO)
    clock = FakeClock()
    assert await call(gateway, Own(), clock) is None
    assert clock.sleeps == [500.5, 1.0]


async def test_a_success_may_be_turned_down(gateway: Gateway) -> None:
    async def is_hello(reply: Any) -> bool:
        return bool((await reply.result()).content == "Hello.")

    gateway.script(answer("No."), answer("No."), HELLO)
    options = ExponentialRetry(evaluate_response_callback=is_hello)
    async with engine_at(gateway, Retry(options), clock=FakeClock()) as engine:
        response = await engine.chat_completion("Hi")
    assert response.content == "Hello."
    assert [entry.error for entry in response.attempts] == ["ServerError", "ServerError", None]


async def test_a_success_turned_down_at_the_last_attempt_is_given_back(gateway: Gateway) -> None:
    async def never(reply: Any) -> bool:
        return False

    gateway.script(default=HELLO)
    options = ExponentialRetry(attempts=2, evaluate_response_callback=never)
    async with engine_at(gateway, Retry(options), clock=FakeClock()) as engine:
        assert (await engine.chat_completion("Hi")).content == "Hello."
    assert gateway.requests == 2


async def test_on_a_plain_session_the_callback_gets_the_response(gateway: Gateway) -> None:
    async def is_hello(response: aiohttp.ClientResponse) -> bool:
        message = (await response.json())["choices"][0]["message"]
        return bool(message["content"] == "Hello.")

    gateway.script(answer("No."), HELLO)
    options = ListRetry([0, 0, 0], evaluate_response_callback=is_hello)
    async with session_at(gateway, Retry(options), Classify()) as session:
        _, completion = await post(session)
    assert completion["choices"][0]["message"]["content"] == "Hello."


async def test_a_callback_that_fails_leaves_no_answer_open(gateway: Gateway) -> None:
    async def broken(response: aiohttp.ClientResponse) -> bool:
        raise LookupError("broken")

    gateway.script(answer("x" * 1_000_000))
    async with session_at(gateway, Retry(ListRetry([0, 0], evaluate_response_callback=broken))) as session:
        with pytest.raises(LookupError, match="broken"):
            await post(session)
        await gateway.assert_no_open_connections()


async def test_an_answer_lost_while_the_callback_reads_it_is_a_lost_answer(gateway: Gateway) -> None:
    async def read(response: aiohttp.ClientResponse) -> bool:
        return bool(await response.read())

    gateway.script(cut(after_bytes=10), HELLO)
    retry = Retry(ListRetry([0, 0], evaluate_response_callback=read))
    async with session_at(gateway, Idempotency(), retry, Auth(KEY), Classify()) as session:
        assert (await post(session))[0] == 200
    assert gateway.requests == 2


@pytest.mark.parametrize("options", [{"max_attempts": 2}, {"backoff": Backoff()}, {"stop": lambda state: True}])
def test_a_policy_does_not_go_with_other_options(options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match="not both"):
        Retry(ExponentialRetry(), **options)


def test_a_class_in_place_of_an_object_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="takes an option object of aiohttp-retry"):
        Retry(ExponentialRetry)  # type: ignore[arg-type]


# Ours, in its client


def hello(completion: Any) -> Any:
    return completion["choices"][0]["message"]["content"]


async def ask(gateway: Gateway, options: RetryOptionsBase, *middlewares: Any, **request: Any) -> tuple[int, Any]:
    """Send a chat request through a `RetryClient`."""
    session = aiohttp.ClientSession(gateway.url, middlewares=middlewares)
    async with RetryClient(session, retry_options=options) as client:
        try:
            async with client.post(CHAT, json=chat(), **request) as response:
                return response.status, await response.json()
        finally:
            await session.close()


def options_of(**options: Any) -> RetryAfterOptions:
    """Options that do not wait by themselves."""
    return RetryAfterOptions(backoff=Backoff(0, 0), **options)


async def test_its_client_waits_as_long_as_told(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after_ms=20), fail(503, retry_after=0.02), HELLO)
    assert hello((await ask(gateway, options_of()))[1]) == "Hello."
    gateway.assert_waited(at_least=0.02)
    assert gateway.requests == 3


@pytest.mark.parametrize("status, requests", [(408, 2), (425, 2), (429, 2), (500, 2), (529, 2), (400, 1), (409, 1)])
async def test_its_client_repeats_by_the_statuses(gateway: Gateway, status: int, requests: int) -> None:
    gateway.script(fail(status), HELLO)
    await ask(gateway, options_of())
    assert gateway.requests == requests


@pytest.mark.parametrize("exceptions", [None, {Exception}], ids=["default", "every exception"])
@pytest.mark.parametrize(
    "step, error",
    [(fail(429, retry_after=121), errors.RateLimitError), (fail(503, retry_after=121), errors.OverloadedError)],
)
async def test_told_to_wait_beyond_the_cap_its_client_raises_at_once(
    gateway: Gateway, step: Any, error: type[errors.ModelEngineError], exceptions: Any
) -> None:
    gateway.script(step, HELLO)
    options = options_of() if exceptions is None else options_of(exceptions=exceptions)
    with pytest.raises(error) as caught:
        await ask(gateway, options)
    assert (caught.value.status, caught.value.retry_after, caught.value.request_id) == (step.status, 121, "req_1")
    assert gateway.requests == 1


async def test_told_not_to_repeat_its_client_raises_at_once(gateway: Gateway) -> None:
    gateway.script(fail(503, should_retry=False), HELLO)
    with pytest.raises(errors.OverloadedError):
        await ask(gateway, options_of())
    assert gateway.requests == 1


async def test_the_failed_response_is_released_before_the_wait(gateway: Gateway) -> None:
    class Watched(RetryAfterOptions):
        def get_timeout(self, attempt: int, response: Any = None) -> float:
            wait = super().get_timeout(attempt, response)
            responses.append(response)
            return wait

    responses: list[aiohttp.ClientResponse] = []
    gateway.script(fail(503, body=LARGE), HELLO)
    await ask(gateway, Watched(backoff=Backoff(0, 0)))
    assert [(response.status, response.closed, response.connection) for response in responses] == [(503, True, None)]


async def test_a_post_whose_answer_was_lost_is_not_repeated_by_default(gateway: Gateway) -> None:
    gateway.script(hang_up(executed=True), HELLO)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(gateway, options_of())
    assert gateway.requests == 1


async def test_with_a_key_of_the_callers_a_lost_answer_can_be_had_again(gateway: Gateway) -> None:
    gateway.script(hang_up(executed=True, of=HELLO), answer("Another."))
    options = options_of(exceptions={aiohttp.ClientConnectionError})
    _, completion = await ask(gateway, options, headers={"Idempotency-Key": "mine"})
    assert hello(completion) == "Hello."
    gateway.assert_executed_once("mine")


async def test_what_was_never_sent_is_repeated(gateway: Gateway) -> None:
    asked: list[int] = []

    class Watched(RetryAfterOptions):
        def get_timeout(self, attempt: int, response: Any = None) -> float:
            asked.append(attempt)
            return super().get_timeout(attempt, response)

    async with RetryClient(retry_options=Watched(backoff=Backoff(0, 0))) as client:
        url = gateway.url
        await gateway.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url)
    assert asked == [1, 2]


async def test_with_classify_in_its_session_the_hint_is_on_the_error(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after_ms=20), fail(429, retry_after=121), HELLO)
    with pytest.raises(errors.RateLimitError) as caught:
        await ask(gateway, options_of(exceptions={errors.RateLimitError}), Auth(KEY), Classify())
    assert caught.value.retry_after == 121
    gateway.assert_waited(at_least=0.02)
    assert gateway.requests == 2


@pytest.mark.parametrize(
    "status, share, attempt, wait",
    [(500, 0.5, 1, 0.25), (429, 0.5, 1, 0.5), (503, 0.5, 2, 1.0), (500, 0.999, 9, 7.992)],
)
def test_told_nothing_it_waits_a_share_of_the_interval(status: int, share: float, attempt: int, wait: float) -> None:
    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012

        def release(self) -> None: ...

    response = Response()
    response.status = status  # type: ignore[attr-defined]
    assert RetryAfterOptions(random_func=lambda: share).get_timeout(attempt, response) == pytest.approx(wait)
    assert RetryAfterOptions(random_func=lambda: share).get_timeout(1) == share * 0.5


async def test_in_retry_they_are_a_policy_as_any_other(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after=5), fail(429, retry_after=31), HELLO)
    clock = FakeClock()
    error = await call(gateway, RetryAfterOptions(max_wait=30, random_func=lambda: 0.0), clock)
    assert isinstance(error, errors.RateLimitError)
    assert error.retry_after == 31
    assert error.attempts[-1].why == "the policy refuses to wait as long as the server asks"
    assert clock.sleeps == [5]


async def test_in_retry_an_exception_that_is_handled_elsewhere_has_no_say(gateway: Gateway) -> None:
    gateway.script(hang_up(), HELLO)
    try:
        raise errors.RateLimitError(retry_after=3600)
    except errors.RateLimitError:
        assert await call(gateway, RetryAfterOptions(exceptions=None)) is None


def test_a_cap_is_a_number_of_seconds() -> None:
    with pytest.raises(errors.ConfigurationError, match="number of seconds"):
        RetryAfterOptions(max_wait=-1)
