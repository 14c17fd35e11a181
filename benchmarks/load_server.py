"""A server that is not the bottleneck: chat completions from bytes that were made beforehand.

What to send stands in the prompt, see `order`; a request without ``"stream": true`` gets the same short answer each
time. It does not use an HTTP library, runs on a core of its own, and on uvloop where that is installed. ``GET /stats``
tells what share of its time it was idle since it was last asked, and how late its paced events were.

Paced streams of one order share a wheel: the time between two events of a stream is cut into slots, a stream belongs to
one of them, and when its time has come, all streams of the slot are written to. Thousands of streams cost one timer.

Answers to HTTP/1.1 have a transfer chunk for each event, as most servers send them; to HTTP/1.0 they end with the
connection.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from typing import cast

from corpora import chat_event, corpus
from harness import pin, raise_file_limit
from order import Order

BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"tiny","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Seven is a prime."},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}'
)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream": ?true')
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%b\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
AT_ONCE = 256 * 1024  # bytes written to a connection before others have their turn
SLOTS = 20  # of a wheel; at 50 events per second one each millisecond
START_DELAY = 0.05  # seconds between the last stream of an order and its first slot: the answer's head travels
STAMPED_EVENT = chat_event({"content": "%d "})


class Wheel:
    """The paced streams of one order."""

    def __init__(self, order: Order, stats: Stats, on_end: Callable[[], object]) -> None:
        self._order = order
        self._stats = stats
        self._on_end = on_end
        self._slots: list[list[PacedStream]] = [[] for _ in range(SLOTS)]
        self._joined = 0
        self._due = 0.0
        self._turn = 0
        self._loop = asyncio.get_running_loop()

    def join(self, stream: PacedStream) -> None:
        self._slots[self._joined % SLOTS].append(stream)
        self._joined += 1
        if self._joined == self._order.joins:
            self._due = time.monotonic() + START_DELAY
            self._wait()

    def _wait(self) -> None:
        self._loop.call_later(max(0.0, self._due - time.monotonic()), self._write)

    def _write(self) -> None:
        """Write to the streams of one slot. The schedule does not move when it is late."""
        slot = self._slots[self._turn % SLOTS]
        self._stats.note_lateness(time.monotonic() - self._due, len(slot))
        piece = stamped() if self._order.stamped else None
        for stream in [stream for stream in slot if not stream.write_next(piece)]:
            slot.remove(stream)
        if not any(self._slots):
            self._on_end()
            return
        self._advance()
        while not self._slots[self._turn % SLOTS]:
            self._advance()
        self._wait()

    def _advance(self) -> None:
        self._turn += 1
        self._due += 1 / (self._order.rate * SLOTS)


class PacedStream:
    """A stream on a wheel."""

    def __init__(self, connection: Connection, order: Order, is_chunked: bool) -> None:
        self._connection = connection
        self._pieces, self._ending = paced(order, is_chunked)
        self._is_stamped = order.stamped
        self._is_chunked = is_chunked
        self._at = 1  # the first piece is sent with the head

    def write_next(self, piece: bytes | None) -> bool:
        """Write one event. Whether there is more."""
        if self._connection.is_lost:
            return False
        if self._at < len(self._pieces):
            if piece is None:
                piece = self._pieces[self._at]
            self._connection.write_now(framed(piece, self._is_chunked) if self._is_stamped else piece)
            self._at += 1
            return True
        self._connection.write_now(self._ending)
        self._connection.ended(self._is_chunked)
        return False


class Stats:
    """What the server has done since it was last asked."""

    def __init__(self) -> None:
        self._lateness: list[tuple[float, int]] = []  # seconds, events
        self._since = time.monotonic()
        self._cpu = time.process_time()

    def note_lateness(self, seconds: float, events: int) -> None:
        self._lateness.append((seconds, events))

    def take(self) -> dict[str, float]:
        """The figures, and begin anew."""
        now, cpu = time.monotonic(), time.process_time()
        figures = {
            "idle": 1 - (cpu - self._cpu) / (now - self._since),
            "late_p99_ms": self._late_p99() * 1000,
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        self._lateness, self._since, self._cpu = [], now, cpu
        return figures

    def _late_p99(self) -> float:
        left = sum(count for _, count in self._lateness) / 100
        for seconds, count in sorted(self._lateness, reverse=True):
            left -= count
            if left <= 0:
                return max(0.0, seconds)
        return 0.0


class Connection(asyncio.Protocol):
    """One connection, on which requests come one at a time."""

    def __init__(self, wheels: dict[Order, Wheel], stats: Stats) -> None:
        self._wheels = wheels
        self._stats = stats
        self._received = b""
        self._blocks: Iterator[bytes] | None = None
        self._is_paused = False
        self._is_chunked = True
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._blocks = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if blank and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._answer(head, body)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write_on()

    def write_now(self, data: bytes) -> None:
        """Write without the transport, which would do it a little later and for more."""
        if self._transport.get_write_buffer_size():
            self._transport.write(data)
            return
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self._transport.abort()
            self.is_lost = True
            return
        if written < len(data):
            self._transport.write(data[written:])

    def ended(self, is_chunked: bool) -> None:
        """The answer is written."""
        if not is_chunked:
            self._transport.close()

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /stats"):
            self._transport.write(whole(json.dumps(self._stats.take()).encode()))
            return
        order = Order.found_in(body)
        if order is None or STREAM.search(body) is None:
            self._transport.write(whole(BODY))
            return
        self._is_chunked = b" HTTP/1.1\r\n" in head
        stream_head = HEAD % (CHUNKED if self._is_chunked else b"")
        if not order.rate:
            self._transport.write(stream_head)
            self._blocks = iter(blocks(order, self._is_chunked))
            self._write_on()
            return
        pieces, _ = paced(order, self._is_chunked)
        opening = b"".join(framed(event, self._is_chunked) for event in corpus(order.corpus, order.pieces).opening)
        first = framed(stamped(), self._is_chunked) if order.stamped else pieces[0]
        self._transport.write(stream_head + opening + first)
        if order not in self._wheels:
            self._wheels[order] = Wheel(order, self._stats, lambda: self._wheels.pop(order))
        self._wheels[order].join(PacedStream(self, order, self._is_chunked))

    def _write_on(self) -> None:
        """Write the blocks that are left, as far as the socket takes them."""
        if self._blocks is None or self._is_paused:
            return
        written = 0
        for block in self._blocks:
            self._transport.write(block)
            written += len(block)
            if self._is_paused:
                return
            if written > AT_ONCE:
                asyncio.get_running_loop().call_soon(self._write_on)
                return
        self._blocks = None
        self.ended(self._is_chunked)


def whole(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n%b"
        % (
            len(body),
            body,
        )
    )


def framed(event: bytes, is_chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event


def stamped() -> bytes:
    return STAMPED_EVENT % time.monotonic_ns()


@functools.lru_cache(maxsize=8)
def blocks(order: Order, is_chunked: bool) -> list[bytes]:
    """The body of a stream without a pace, in writes."""
    joined: list[bytes] = []
    block: list[bytes] = []
    size = 0
    for event in corpus(order.corpus, order.pieces).events:
        block.append(framed(event, is_chunked))
        size += len(block[-1])
        if size >= order.write:
            joined.append(b"".join(block))
            block, size = [], 0
    block.append(LAST_CHUNK if is_chunked else b"")
    return [*joined, b"".join(block)]


@functools.lru_cache(maxsize=8)
def paced(order: Order, is_chunked: bool) -> tuple[list[bytes], bytes]:
    """The events of a paced stream that have a piece, and all that comes after them."""
    stream = corpus(order.corpus, order.pieces)
    ending = b"".join(framed(event, is_chunked) for event in stream.ending)
    pieces = [framed(event, is_chunked) for event in stream.pieces]
    return pieces, ending + (LAST_CHUNK if is_chunked else b"")


async def serve() -> None:
    pin(1)
    raise_file_limit()
    wheels: dict[Order, Wheel] = {}
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(wheels, stats), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    is_there = importlib.util.find_spec("uvloop") is not None
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop" if is_there else "asyncio").new_event_loop()
    loop.run_until_complete(serve())


if __name__ == "__main__":
    main()
