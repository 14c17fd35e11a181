"""What the clients of a service see when its gateway is in trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from service import create_app

from penstock import ModelEngine, Timeouts
from penstock.pytest_plugin import FakeClock
from penstock.testing import Gateway, Script, answer, cut, fail, stall


@pytest.fixture
async def client(engine: ModelEngine) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(engine))
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.mark.penstock(script=[fail(429, retry_after=20, times=2), answer("Two.")])
async def test_clients_do_not_notice_a_busy_gateway(
    client: httpx2.AsyncClient, gateway: Gateway, fake_clock: FakeClock
) -> None:
    reply = await client.get("/answer", params={"question": "Name a prime."})
    assert (reply.status_code, reply.json()) == (200, {"answer": "Two."})
    fake_clock.assert_slept(at_least=20, times=2)
    gateway.assert_executed_once()


@pytest.mark.penstock(script=Script(default=fail(429, retry_after=20)))
async def test_clients_are_told_when_to_come_back(
    client: httpx2.AsyncClient, gateway: Gateway, fake_clock: FakeClock
) -> None:
    reply = await client.get("/answer", params={"question": "Name a prime."})
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "20")
    assert gateway.requests == 3


@pytest.mark.penstock(script=[cut(after_events=3, of=answer("Two, three, five, seven."))])
async def test_clients_can_tell_a_stream_that_was_cut_from_one_that_ended(client: httpx2.AsyncClient) -> None:
    reply = await client.get("/stream", params={"question": "Name primes."})
    events = reply.text.strip().split("\n\n")
    assert events[0].startswith('data: "Two,')
    assert events[-1] == 'event: error\ndata: {"error": "StreamTruncatedError"}'


@pytest.mark.penstock(script=Script(default=stall()), timeouts=Timeouts(first_event=0.05))
@pytest.mark.parametrize("path", ["/answer", "/stream"])
async def test_clients_do_not_wait_for_a_stalled_gateway(
    client: httpx2.AsyncClient, path: str, fake_clock: FakeClock
) -> None:
    reply = await client.get(path, params={"question": "Name a prime."})
    assert (reply.status_code, reply.json()) == (504, {"error": "FirstEventTimeoutError"})


async def test_clients_get_the_text_of_a_stream(client: httpx2.AsyncClient) -> None:
    reply = await client.get("/stream", params={"question": "Name a prime."})
    assert "Name a prime" in reply.text
    assert reply.text.endswith("event: done\ndata: {}\n\n")
