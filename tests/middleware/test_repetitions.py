"""What a repetition tells: the gateway how many came before it, the caller whether the answer may have cost twice."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import ModelEngine, Retry, Timeouts
from penstock.engine.hints import gateway_retries
from penstock.middleware import Auth, Idempotency
from penstock.testing import Gateway, answer, cut, fail, reset, stall
from tests.clocks import FakeClock
from tests.middleware.support import AT_ONCE, KEY, engine_at, plain_stack, post, session_at
from tests.outcomes import failure
from tests.raw_server import Connection, RawServer

HELLO = answer("Hello.")
IDENTITY = {"user_id": "u", "user_type": "employee", "feature": "chat"}
COUNT = "x-stainless-retry-count"


async def test_a_repetition_tells_how_many_came_before(gateway: Gateway) -> None:
    gateway.script(fail(503), fail(503), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        await engine.call("Hi")
    assert [call.headers.get(COUNT) for call in gateway.calls] == [None, "1", "2"]


async def test_the_callers_own_count_is_left_alone(gateway: Gateway) -> None:
    gateway.script(fail(503), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        await engine.call("Hi", extra_headers={COUNT: "7"})
    assert [call.headers.get(COUNT) for call in gateway.calls] == ["7", "7"]


async def test_a_plain_session_tells_it_too(gateway: Gateway) -> None:
    gateway.script(fail(503), HELLO)
    async with session_at(gateway, *plain_stack()) as session:
        assert (await post(session))[0] == 200
    assert [call.headers.get(COUNT) for call in gateway.calls] == [None, "1"]


@pytest.mark.parametrize(
    "headers, count",
    [
        ({}, 0),
        ({"x-portkey-retry-attempt-count": "2"}, 2),
        ({"x-litellm-attempted-retries": "3"}, 3),
        ({"x-portkey-retry-attempt-count": "-1"}, float("inf")),
        ({"x-portkey-retry-attempt-count": "nan"}, 0),
        ({"x-portkey-retry-attempt-count": "1e9"}, 0),
        ({"x-portkey-retry-attempt-count": "٣"}, 0),
        ({"x-portkey-retry-attempt-count": ""}, 0),
    ],
)
def test_what_the_gateway_says_to_have_tried(headers: dict[str, str], count: float) -> None:
    assert gateway_retries(headers) == count


async def test_tries_behind_the_gateway_count_as_attempts(gateway: Gateway) -> None:
    gateway.script(default=fail(500, headers={"x-portkey-retry-attempt-count": "4"}))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        error = await failure(engine.call("Hi"))
    assert gateway.requests == 1
    assert error.attempts[0].why == "1 attempts were made, and the gateway has tried again by itself"


LOST = {"reset": reset(), "lost head": stall(when="before_headers"), "cut before output": cut(after_events=1, of=HELLO)}


@pytest.mark.parametrize("step", LOST.values(), ids=LOST)
async def test_after_a_lost_answer_the_next_may_be_a_duplicate(gateway: Gateway, step: Any) -> None:
    gateway.script(step, HELLO)
    timeouts = Timeouts(first_event=0.1)
    async with engine_at(gateway, clock=FakeClock(), timeouts=timeouts) as engine:
        stream = engine.stream_call("Hi")
        response = await stream.response()
    assert [attempt.possibly_duplicated for attempt in response.attempts] == [False, True]
    assert response.possibly_duplicated
    assert stream.summary.possibly_duplicated


@pytest.mark.parametrize("step", [fail(429), fail(500), fail(503)], ids=["429", "500", "503"])
async def test_after_a_refusal_it_is_not(gateway: Gateway, step: Any) -> None:
    gateway.script(step, HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        response = await engine.chat_completion("Hi")
    assert (len(response.attempts), response.possibly_duplicated) == (2, False)


async def test_where_keys_are_honoured_it_is_not() -> None:
    async with Gateway(dialect="modelgov", api_key=KEY) as gateway:
        gateway.script(reset(), HELLO)
        setup: dict[str, Any] = {"base_url": gateway.url, "api_key": KEY, "clock": FakeClock()}
        async with ModelEngine("m", gateway="modelgov", **setup) as engine:
            response = await engine.chat_completion("Hi", **IDENTITY)
    assert (len(response.attempts), response.possibly_duplicated) == (2, False)


async def test_where_keys_are_honoured_and_none_was_sent_it_is() -> None:
    async with Gateway(dialect="modelgov", api_key=KEY) as gateway:
        gateway.script(reset(), HELLO)
        stack = [Retry(ambiguous="always", backoff=AT_ONCE), Auth()]
        setup: dict[str, Any] = {"base_url": gateway.url, "api_key": KEY, "middleware": stack}
        async with ModelEngine("m", gateway="modelgov", **setup) as engine:
            response = await engine.chat_completion("Hi", **IDENTITY)
    assert response.possibly_duplicated


async def test_reads_are_never_duplicates(gateway: Gateway) -> None:
    gateway.script(reset(), fail(400))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        error = await failure(engine.models())
    assert (len(error.attempts), error.possibly_duplicated) == (2, False)


async def test_a_failure_says_it_too(gateway: Gateway) -> None:
    gateway.script(reset(), default=fail(500))
    async with engine_at(gateway, Idempotency(), Retry(), Auth(), clock=FakeClock()) as engine:
        error = await failure(engine.call("Hi"))
    assert (error.status, error.possibly_duplicated) == (500, True)


async def test_a_request_that_was_turned_away_has_not_run_twice(gateway: Gateway) -> None:
    gateway.script(reset(), default=fail(404))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        error = await failure(engine.call("Hi"))
    assert (len(error.attempts), error.possibly_duplicated) == (2, False)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_in_a_success_is_waited_for_as_told(streamed: bool) -> None:
    told = b'{"error":{"code":"rate_limit_exceeded","message":"slow down"}}'

    async def talk(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nretry-after: 3\r\nconnection: close\r\n")
        kind, body = (b"text/event-stream", b"data: %b\n\n" % told) if streamed else (b"application/json", told)
        await connection.send(b"content-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body))
        connection.close()

    clock = FakeClock()
    async with RawServer(talk) as server, ModelEngine("m", base_url=server.url, clock=clock) as engine:
        await failure(engine.stream_call("Hi").response() if streamed else engine.chat_completion("Hi"))
    assert [wait >= 3 for wait in clock.sleeps] == [True, True]
