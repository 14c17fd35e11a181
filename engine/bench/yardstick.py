"""A server whose events say when they were written: what the client has measured can be compared with what was.

    python -m penstock.engine.bench.yardstick

It runs in a process of its own, writes its address on a line, and ends when its standard input does. The text of each
event is two numbers of `time.monotonic_ns`, which the processes of a machine share: when the request had been received,
and when this event was handed to the kernel. How fast it writes stands in the request, as the member `yardstick`.

The gateway for tests would do, but it writes more slowly than some clients read, and its books are in seconds.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import orjson

if TYPE_CHECKING:
    from ..testing.pace import Wheel

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_START = (
    b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":1760000000,"model":"yardstick",'
    b'"choices":[{"index":0,"delta":'
)
_REST = b',"logprobs":null,"finish_reason":null}]}\n\n'
_FINISH = _START + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
_USAGE = (
    b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":1760000000,"model":"yardstick",'
    b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
_DONE = b"data: [DONE]\n\n"
_AT_A_TIME = 64  # events of a stream without a pace in one turn of the loop


def pace(events: int, first_s: float = 0.0, every_s: float = 0.0, spread_s: float = 0.0) -> dict[str, Any]:
    """The members of a request that say how it is to be answered.

    Args:
        events: With text.
        first_s: Seconds between the request and the first of them, ...
        spread_s: ... and up to so many more, at random.
        every_s: Seconds between two of them. 0 writes them as fast as they are taken.
    """
    return {"yardstick": {"events": events, "first_s": first_s, "every_s": every_s, "spread_s": spread_s}}


def moments_in(text: str) -> tuple[int, int]:
    """When the request had been received, and when the event with this text was written."""
    received, written = text.split()
    return int(received), int(written)


class _Connection(asyncio.Protocol):
    """One connection, on which requests come one after another."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._at = 0
        self._number = 0
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._at = time.monotonic_ns()
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if blank and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._answer(orjson.loads(body)["yardstick"])

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if not self._every:
            self._write_on()

    def _answer(self, order: dict[str, Any]) -> None:
        self._number += 1
        self._left = self._events = int(order["events"])
        self._every = float(order["every_s"])
        self._start = _START % self._number
        self._transport.write(_HEAD + _framed(self._start + b'{"role":"assistant","content":""}' + _REST))
        first = float(order["first_s"]) + random.uniform(0.0, float(order["spread_s"]))
        self._due = self._loop.time() + first
        if first:
            self._wheel.call_at(self._due, self._write_on)
        else:
            self._write_on()

    def _write_on(self) -> None:
        """Write the next event; without a pace some more."""
        if self._transport.is_closing():
            return
        for _ in range(1 if self._every else _AT_A_TIME):
            if self._is_paused and not self._every:
                return
            if not self._left:
                self._end()
                return
            self._left -= 1
            text = b'{"content":"%d %d "}' % (self._at, time.monotonic_ns())
            self._transport.write(_framed(self._start + text + _REST))
        if self._every:
            self._due += self._every
            self._wheel.call_at(self._due, self._write_on)
        else:
            self._loop.call_soon(self._write_on)

    def _end(self) -> None:
        number, events = self._number, self._events
        end = _framed(_FINISH % number) + _framed(_USAGE % (number, events, events + 3)) + _framed(_DONE)
        self._transport.write(end + b"0\r\n\r\n")


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


async def _serve() -> None:
    from ..testing.pace import Wheel  # 0.1 s of imports, which who only reads the texts of events does without

    loop = asyncio.get_running_loop()
    wheel = Wheel()
    server = await loop.create_server(lambda: _Connection(wheel), "127.0.0.1", 0, backlog=4096)
    async with server:
        sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; who started us decides
    asyncio.run(_serve())
