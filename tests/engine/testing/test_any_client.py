"""Clients that are not ours: each sees the faults, and the books see each."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest

from penstock.engine.testing import Gateway, answer, contains, cut, fail, rule, tool_call

from .support import CHAT, chat

MESSAGES: Any = [{"role": "user", "content": "What is the weather?"}]


async def test_openai_async_retries_what_a_rule_refuses(gateway: Gateway) -> None:
    gateway.script(rule(fail(503, retry_after_ms=1), attempt=1, message=contains("weather")), default=answer("Rain."))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-test") as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Rain."
    gateway.assert_attempts(2)
    assert [call.headers["x-stainless-retry-count"] for call in gateway.calls] == ["0", "1"]
    await gateway.assert_no_open_connections()


async def test_openai_blocking_reads_tools_usage_and_choices(gateway: Gateway) -> None:
    gateway.script(answer(tool_calls=(tool_call("look", {"at": "sky"}),)), answer("Rain.", usage={"total_tokens": 7}))

    def ask() -> tuple[Any, Any]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-test") as client:
            tools = client.chat.completions.create(model="m", messages=MESSAGES)
            return tools, client.chat.completions.create(model="m", messages=MESSAGES, n=2)

    tools, several = await asyncio.to_thread(ask)
    (call,) = tools.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"at": "sky"})
    assert ([choice.message.content for choice in several.choices], several.usage.total_tokens) == (["Rain."] * 2, 7)


async def test_openai_blocking_sees_a_cut_stream(gateway: Gateway) -> None:
    gateway.script(cut(after_events=3))

    def ask() -> int:
        count = 0
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-test", max_retries=0) as client:
            stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            try:
                for _ in stream:
                    count += 1
            except openai.APIConnectionError:
                return count
        raise AssertionError("the stream ended as if it were complete")

    assert await asyncio.to_thread(ask) == 3


async def test_plain_aiohttp(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(fail(429, retry_after=1), cut(after_events=2, of=answer("one two")))
    async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "1")
    with pytest.raises(aiohttp.ClientPayloadError):
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            await response.read()
    assert [call.outcome for call in gateway.calls] == ["fail", "cut"]


async def test_http_client_of_the_standard_library(gateway: Gateway) -> None:
    gateway.script(answer("one two"))
    address = urlsplit(gateway.url)

    def ask() -> bytes:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        connection.request("POST", CHAT, json.dumps(chat(stream=True)), {"idempotency-key": "k"})
        body = connection.getresponse().read()
        connection.close()
        return body

    assert (await asyncio.to_thread(ask)).endswith(b"data: [DONE]\n\n")
    gateway.assert_executed_once("k")
    await gateway.assert_no_open_connections()
