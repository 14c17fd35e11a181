"""aiohttp with as little around it as people write; and what is below it: an `asyncio.Protocol`, a JSON parser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from .base import KEY, PATH, Caller, Parser, Peer, Reader, Take, body, text_of_objects

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
NO_LIMIT = aiohttp.ClientTimeout(total=None)
Loads = Callable[[bytes], Any]


async def connect(url: str) -> Peer:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), timeout=NO_LIMIT, headers=HEADERS
    )
    readers: dict[str, Reader] = {
        "aiohttp, bytes": _by_read(session, url),
        "aiohttp lines, json": _by_line(session, url, json.loads),
        "aiohttp lines, orjson": _by_line(session, url, orjson.loads),
        "asyncio.Protocol": _by_protocol(url, _Splitter),
        "asyncio.BufferedProtocol": _by_protocol(url, _BufferedSplitter),
    }
    parsers = {
        "orjson.loads": Parser(_by_payload(orjson.loads), text_of_objects, wants_payloads=True),
        "json.loads": Parser(_by_payload(json.loads), text_of_objects, wants_payloads=True),
        "modelgov, orjson.loads": Parser(_by_payload(orjson.loads), _modelgov_text, ("modelgov",), wants_payloads=True),
    }
    return Peer(session.close, readers, {"aiohttp, orjson": _caller(session, url)}, parsers)


def _by_read(session: aiohttp.ClientSession, url: str) -> Reader:
    """Counts bytes: the floor of this transport."""

    async def read(prompt: str, take: Take) -> None:
        async with session.post(url + PATH, data=orjson.dumps(body(prompt, stream=True))) as response:
            content = response.content
            while data := await content.readany():
                take(data)

    return read


def _by_line(session: aiohttp.ClientSession, url: str, loads: Loads) -> Reader:
    async def read(prompt: str, take: Take) -> None:
        async with session.post(url + PATH, data=orjson.dumps(body(prompt, stream=True))) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                payload = line[6:]
                if payload.startswith(b"[DONE]"):
                    break
                choices = loads(payload)["choices"]
                if choices and (piece := choices[0]["delta"].get("content")):
                    take(piece)

    return read


def _by_protocol(url: str, splitter: type[_Splitter]) -> Reader:
    """Splits events, and no more: the floor of the event loop."""
    address = urlsplit(url)
    host, port = str(address.hostname), address.port or 80

    async def read(prompt: str, take: Take) -> None:
        request = orjson.dumps(body(prompt, stream=True))
        head = f"POST {PATH} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {len(request)}\r\n\r\n"
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        transport, _ = await loop.create_connection(lambda: splitter(take, ended), host, port)
        try:
            transport.write(head.encode() + request)
            await ended
        finally:
            transport.close()

    return read


class _Splitter(asyncio.Protocol):
    def __init__(self, take: Take, ended: asyncio.Future[None]) -> None:
        self._take = take
        self._ended = ended
        self._rest = b""
        self._is_in_body = False

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._is_in_body:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            self._is_in_body = True
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            self._take(event)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class _BufferedSplitter(_Splitter, asyncio.BufferedProtocol):
    """The same, which reads into memory of its own."""

    _memory = memoryview(bytearray(64 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._memory[:nbytes]))


def _caller(session: aiohttp.ClientSession, url: str) -> Caller:
    async def call(prompt: str) -> str:
        async with session.post(url + PATH, data=orjson.dumps(body(prompt, stream=False))) as response:
            answer = orjson.loads(await response.read())
            return str(answer["choices"][0]["message"]["content"])

    return call


def _by_payload(loads: Loads) -> Callable[[list[bytes]], list[Any]]:
    return lambda payloads: [loads(payload) for payload in payloads]


def _modelgov_text(frames: list[Any]) -> str:
    return "".join(frame.get("delta", "") for frame in frames)
