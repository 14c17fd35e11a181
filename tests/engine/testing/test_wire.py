"""How bytes leave: writes, pace, connections."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from penstock.engine.testing import Gateway, answer, fail

from .support import CHAT, chat, send, stream


async def test_an_event_is_a_write(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b"]))
    got = await stream(gateway)
    assert [chunk.count(b"data: ") for chunk in got.chunks] == [1] * 5


async def test_a_whole_answer_is_one_write(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b"], chunking="whole"))
    got = await stream(gateway)
    assert [chunk.count(b"data: ") for chunk in got.chunks] == [5]


async def test_writes_of_a_given_size(gateway: Gateway) -> None:
    gateway.script(answer("a", chunking=7, line_end="\r\n"))
    got = await stream(gateway)
    assert {len(chunk) for chunk in got.chunks[:-1]} == {7}
    assert (got.text, got.events[-1]) == ("a", "[DONE]")


async def test_a_pause_ends_a_write(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a", "b"], chunking="whole", delay_s=0.001))
    assert [chunk.count(b"data: ") for chunk in (await stream(gateway)).chunks] == [2, 3]


async def test_the_pace_is_kept(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a", "b", "c"], ttft_s=0.02, delay_s=0.02, slow_terminator_s=0.02))
    started = time.monotonic()
    await stream(gateway)
    streamed = time.monotonic()
    await send(gateway, chat())
    # Each pause may be a millisecond short: the timers of uvloop count in milliseconds.
    assert streamed - started >= 4 * 0.019
    assert time.monotonic() - streamed >= 3 * 0.019


async def test_the_end_of_the_body_can_come_late(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(answer(slow_terminator_s=3600))
    async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
        async for line in response.content:
            if line == b"data: [DONE]\n":
                break
        assert not response.content.is_eof()
        assert gateway.calls[0].outcome == "answer"
        response.close()
    await gateway.assert_no_open_streams()


async def test_a_connection_serves_many_requests(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(answer("a"), fail(503), answer("b", chunking=3))
    for body in (chat(stream=True), chat(), chat(stream=True), chat()):
        async with session.post(gateway.url + CHAT, json=body) as response:
            await response.read()
    assert gateway.connections == 1


async def test_http_1_0_gets_a_body_that_ends_with_the_connection(gateway: Gateway) -> None:
    gateway.script(answer("a b"), answer("a b"))
    old = await send(gateway, chat(stream=True), version="1.0", connection="keep-alive")
    new = await stream(gateway)
    assert "transfer-encoding" not in old.headers
    assert old.headers["connection"] == "close"
    assert old.body.replace(b"chatcmpl-1", b"chatcmpl-2") == new.body


async def test_a_client_that_waits_to_be_told_may_go_on(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    async with session.post(gateway.url + CHAT, json=chat(), expect100=True) as response:
        assert (response.status, gateway.calls[0].body) == (200, chat())


async def test_an_event_at_a_time_reaches_a_client_on_the_same_loop(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    gateway.script(answer(pieces=["x"] * 50))
    reads = 0
    async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
        while await response.content.readany():
            reads += 1
    assert reads > 10


async def test_a_client_that_does_not_read_holds_the_answer_back(gateway: Gateway) -> None:
    gateway.script(answer("x" * 1000, pieces=["x" * 1000]), answer(pieces=["x" * 100_000] * 500))
    await stream(gateway)
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"), limit=1)
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    assert await reader.readexactly(8) == b"HTTP/1.1"
    await gateway.until(lambda: gateway.open_streams == 1)
    with pytest.raises(AssertionError):
        await gateway.until(lambda: gateway.calls[1].outcome != "running", within_s=0.1)
    writer.close()
    await gateway.until(lambda: gateway.calls[1].outcome == "abandoned")
