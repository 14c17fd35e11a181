"""httpx with httpx-sse and `json`, as its documentation shows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from httpx_sse import EventSource, aconnect_sse

from .base import KEY, PATH, Caller, Parser, Peer, Reader, Take, body, text_of_objects

NAME = "httpx-sse, json"


async def connect(url: str) -> Peer:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = httpx.AsyncClient(limits=limits, timeout=None, headers={"Authorization": f"Bearer {KEY}"})
    return Peer(
        client.aclose,
        {NAME: _reader(client, url)},
        {"httpx, json": _caller(client, url)},
        {NAME: Parser(_decode, text_of_objects)},
    )


def _reader(client: Any, url: str) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        async with aconnect_sse(client, "POST", url + PATH, json=body(prompt, stream=True)) as source:
            async for event in source.aiter_sse():
                if event.data == "[DONE]":
                    break
                choices = json.loads(event.data)["choices"]
                if choices and (piece := choices[0]["delta"].get("content")):
                    take(piece)

    return read


def _caller(client: Any, url: str) -> Caller:
    async def call(prompt: str) -> str:
        answer = (await client.post(url + PATH, json=body(prompt, stream=False))).json()
        return str(answer["choices"][0]["message"]["content"])

    return call


def _decode(reads: list[bytes]) -> list[Any]:
    return asyncio.run(_objects(reads))


async def _objects(reads: list[bytes]) -> list[Any]:
    async def content() -> AsyncIterator[bytes]:
        for read in reads:
            yield read

    response = httpx.Response(200, content=content(), headers={"content-type": "text/event-stream"})
    events = EventSource(response).aiter_sse()
    return [json.loads(event.data) async for event in events if event.data != "[DONE]"]
