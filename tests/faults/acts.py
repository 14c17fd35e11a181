"""The words that scenarios are written in: what a server does with a request.

Bodies that depend on what was asked for, a stream or a whole answer, are made when the request is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Callable
from typing import Any

import orjson

from tests.raw_server import DONE, END, STREAM_HEAD, chunk, event, text

from .server import Act, Play, Visit

OWN = "two plus two is four"
"""What the server answers."""
START = "two plus "
"""What has come of it where the answer breaks off."""
FOREIGN = "bytes that nobody asked for"

CHUNKED_JSON_HEAD = STREAM_HEAD.replace(b"text/event-stream", b"application/json")


def completion(content: str | None = OWN, **members: Any) -> bytes:
    """The body of a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return orjson.dumps(body | members)


def head(status: int, *headers: str, length: int | None = None, reason: str = "Reason") -> bytes:
    """A status line and headers. `length` gives a content-length."""
    lines = [f"HTTP/1.1 {status} {reason}", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(body: bytes, *headers: str, status: int = 200, kind: str = "application/json") -> bytes:
    """A response with its length."""
    return head(status, f"content-type: {kind}", *headers, length=len(body)) + body


def stream(*parts: bytes) -> bytes:
    """A response that is an event stream, up to its end."""
    return b"".join((STREAM_HEAD, *parts, END))


def raw_stream(body: bytes) -> bytes:
    """As `stream`, of a body that is written out."""
    return stream(chunk(body))


PARTS = (text("two plus "), text("two is "), text("four", "stop"))
STREAM = stream(*PARTS, DONE)


# Acts


async def answer(visit: Visit) -> None:
    """The whole answer, as it was asked for."""
    await visit.connection.send(STREAM if visit.wants_stream else whole(completion()))


async def begin(visit: Visit) -> None:
    """The head and a first piece of the answer."""
    body = completion()
    if visit.wants_stream:
        await visit.connection.send(STREAM_HEAD, PARTS[0])
    else:
        await visit.connection.send(head(200, "content-type: application/json", length=len(body)), body[:60])


async def open_up(visit: Visit) -> None:
    """The head of a success, and nothing of its body."""
    kind = "text/event-stream" if visit.wants_stream else "application/json"
    await visit.connection.send(head(200, f"content-type: {kind}", "transfer-encoding: chunked"))


async def close(visit: Visit) -> None:
    visit.connection.close()


async def reset(visit: Visit) -> None:
    visit.connection.reset()


async def hang(visit: Visit) -> None:
    """Nothing, until the client is gone."""
    await visit.connection.until_gone()


async def pause(visit: Visit) -> None:
    """Long enough for the client to read what has been sent."""
    await asyncio.sleep(0.02)


async def sulk(visit: Visit) -> None:
    """Nothing, and nothing is read either, until the call is over."""
    visit.connection.pause_reading()
    await visit.server.is_over.wait()
    visit.connection.resume_reading()
    await visit.connection.until_gone()


async def cancel(visit: Visit) -> None:
    """Here the caller cancels."""
    visit.server.is_there.set()


async def when_idle(visit: Visit) -> None:
    """Wait until the call is over."""
    await visit.server.is_over.wait()


async def idled(visit: Visit) -> None:
    """What was to happen on an idle connection has happened."""
    visit.server.idled.set()


def take(count: int) -> Act:
    """Read so many bytes of the request, and no more."""

    async def act(visit: Visit) -> None:
        await visit.connection.read(count)

    return act


def as_asked(stream: bytes, unary: bytes) -> Act:
    """One or the other."""

    async def act(visit: Visit) -> None:
        await visit.connection.send(stream if visit.wants_stream else unary)

    return act


def in_pieces(data: bytes, size: int = 1) -> Act:
    """These bytes, a few at a time, each in a write of its own."""

    async def act(visit: Visit) -> None:
        for start in range(0, len(data), size):
            await visit.connection.send(data[start : start + size])
            await asyncio.sleep(0)

    return act


def for_ever(data: bytes, every: float = 0.02) -> Act:
    """The same bytes again and again, until the client is gone; `every` in seconds."""

    async def act(visit: Visit) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await visit.connection.send(data)
                await asyncio.sleep(every)

    return act


def flood(data: bytes, times: int) -> Act:
    """The same bytes so many times, as fast as they are taken."""

    async def act(visit: Visit) -> None:
        for _ in range(times):
            await visit.connection.send(data)

    return act


def redirect(status: int, host: str) -> Act:
    """A redirect to the server itself, by that name."""

    async def act(visit: Visit) -> None:
        port = visit.server.url.rpartition(":")[2]
        location = f"location: http://{host}:{port}/v1/chat/completions"
        await visit.connection.send(whole(b"", location, status=status))

    return act


# Plays


def answers(*acts: Act | bytes, keeps: bool = True) -> Play:
    """It carries the request out and answers it in full: as asked for, or with what `acts` send."""
    return Play(acts or (answer,), runs=True, keeps=keeps)


def breaks(*acts: Act | bytes) -> Play:
    """It carries the request out, and the client does not get all of the answer."""
    return Play(acts, runs=True)


def refuses(status: int, *headers: str, body: bytes | None = None, kind: str = "application/json") -> Play:
    """An error status, with the body of OpenAI's errors unless one is given; nothing is carried out."""
    if body is None:
        body = complaint(f"status {status} it is")
    return Play((whole(body, *headers, status=status, kind=kind),), keeps=True)


def says(*acts: Act | bytes) -> Play:
    """It carries nothing out, and answers with a whole response all the same."""
    return Play(acts, keeps=True)


def spoils(*acts: Act | bytes) -> Play:
    """It carries nothing out, and its response has no end."""
    return Play(acts)


def at_once(*acts: Act | bytes) -> Play:
    """It does this with the connection, whatever the client sends."""
    return Play(acts, reads_first=False)


def complaint(message: str, **members: Any) -> bytes:
    """The body of an error, in OpenAI's form."""
    return orjson.dumps({"error": {"message": message, "type": None, "param": None, "code": None} | members})


def error_event(message: str, **members: Any) -> bytes:
    """An event that is an error, in OpenAI's form."""
    return event(complaint(message, **members))


def bomb(size: int, compress: Callable[[bytes], bytes] = gzip.compress) -> bytes:
    """`size` bytes of spaces, compressed."""
    return compress(b" " * size)
