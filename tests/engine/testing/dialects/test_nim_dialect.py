"""NIM's hosted endpoint: OpenAI's format with other errors."""

from __future__ import annotations

import orjson

from penstock.engine.testing import Gateway, error_event, fail

from ..support import chat, send, stream


async def test_errors_are_problem_details() -> None:
    async with Gateway(dialect="nim", api_key="nvapi-right", script=[fail(429), fail(403, message="No.")]) as gateway:
        bearer = {"authorization": "Bearer nvapi-right"}
        got = [await send(gateway, chat(), **headers) for headers in ({}, bearer, bearer)]
    assert [orjson.loads(one.body) for one in got] == [
        {"status": 401, "title": "Unauthorized", "detail": "Incorrect API key provided."},
        {"status": 429, "title": "Too Many Requests"},
        {"status": 403, "title": "Forbidden", "detail": "No."},
    ]


async def test_streams_are_those_of_openai() -> None:
    async with Gateway(dialect="nim", script=[error_event()]) as gateway:
        failed, whole = await stream(gateway), await stream(gateway, "Think.")
    assert failed.frames[-1]["error"]["type"] == "server_error"
    assert "reasoning_content" in whole.frames[1]["choices"][0]["delta"]
    assert whole.events[-1] == "[DONE]"
