"""The load server for clients that measure: it writes down what was, to compare with what they say.

A paced stream has a schedule of its own, which begins when its request has come: after `Order.first` seconds, and up to
`Order.spread` more, the head goes out together with the first piece, then a piece each ``1 / rate`` seconds. Moments
are those of ``time.monotonic_ns()``, just before bytes are handed to the kernel. ``GET /log`` tells them, and forgets
them. Everything else is as in `load_server`.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
import importlib.util
import itertools
import json
import random
import re
import time
from dataclasses import asdict, dataclass

from corpora import corpus
from harness import pin, raise_file_limit
from load_server import CHUNKED, LAST_CHUNK, STREAM, Connection, Stats, framed, whole
from order import Order

from penstock.engine.bench.alarm import Alarm

REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: %b\r\n%b\r\n"
ID = b"chatcmpl-1"  # in the events of `corpora`
MODELS = whole(b'{"object":"list","data":[{"id":"tiny","object":"model","created":1760000000,"owned_by":"bench"}]}')
TOGETHER_NS = 20_000  # events due so soon are written now: a timer for each would cost as much as the write
SEED = 7


@dataclass
class Noted:
    """What was written for one request.

    Args:
        id: In the answer's head and in each of its events.
        sent_id: What the request had as ``X-Request-ID``. `None` when it had none.
        connection: Number of the connection.
        received: When the whole of it was there.
        first: When its first piece was written. `None` for streams without a pace, and before that.
        last: When its last piece was written, as `first`.
    """

    id: str
    sent_id: str | None
    connection: int
    received: int
    first: int | None = None
    last: int | None = None


class Schedule:
    """Paced streams, in the order in which they are due."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._due: list[tuple[int, int, TimedStream]] = []
        self._turns = itertools.count()
        self._alarm = Alarm()

    def add(self, due: int, stream: TimedStream) -> None:
        heapq.heappush(self._due, (due, next(self._turns), stream))
        if self._due[0][2] is stream:
            self._alarm.set(due, self._write)

    def _write(self) -> None:
        due = self._due
        while due and due[0][0] <= (now := time.monotonic_ns()) + TOGETHER_NS:
            moment, _, stream = due[0]
            self._stats.note_lateness((now - moment) / 1e9, 1)
            if stream.write_next():
                heapq.heapreplace(due, (moment + stream.every, next(self._turns), stream))
            else:
                heapq.heappop(due)
        if due:
            self._alarm.set(due[0][0], self._write)


class TimedStream:
    """A paced stream, and the moments of its writing."""

    def __init__(self, connection: BenchConnection, order: Order, noted: Noted, head: bytes, is_chunked: bool) -> None:
        self.every = round(1e9 / order.rate)
        self._connection = connection
        self._noted = noted
        self._is_chunked = is_chunked
        self._stream = corpus(order.corpus, order.pieces)
        self._id = noted.id.encode()
        self._head = head
        self._at = 0

    def write_next(self) -> bool:
        """Write one piece; with the first what comes before, with the last what comes after. Whether there is more."""
        if self._connection.is_lost:
            return False
        stream, at = self._stream, self._at
        self._at += 1
        is_last = self._at == len(stream.pieces)
        data = self._named(stream.pieces[at])
        if not at:
            data = b"".join([self._head, *map(self._named, stream.opening), data])
        if is_last:
            data = b"".join([data, *map(self._named, stream.ending), LAST_CHUNK if self._is_chunked else b""])
        now = self._noted.last = time.monotonic_ns()
        if not at:
            self._noted.first = now
        self._connection.write_now(data)
        if is_last:
            self._connection.ended(self._is_chunked)
        return not is_last

    def _named(self, event: bytes) -> bytes:
        return framed(event.replace(ID, self._id, 1), self._is_chunked)


class BenchConnection(Connection):
    """Notes each request."""

    def __init__(self, stats: Stats, schedule: Schedule, log: list[Noted], chance: random.Random, number: int) -> None:
        super().__init__({}, stats)
        self._schedule = schedule
        self._log = log
        self._chance = chance
        self._number = number

    def _answer(self, head: bytes, body: bytes) -> None:
        now = time.monotonic_ns()
        if head.startswith(b"GET /log"):
            self._transport.write(whole(json.dumps([asdict(noted) for noted in self._log]).encode()))
            self._log.clear()
            return
        if head.startswith(b"GET ") and not head.startswith(b"GET /stats"):
            self._transport.write(MODELS)  # what clients ask before they begin
            return
        order = Order.found_in(body)
        if order is None or STREAM.search(body) is None:
            super()._answer(head, body)
            return
        if not self._log:
            self._stats.take()  # what was before the first request is no measurement
        sent = REQUEST_ID.search(head)
        noted = Noted(f"chatcmpl-{len(self._log)}", sent[1].decode() if sent else None, self._number, now)
        self._log.append(noted)
        if not order.rate:
            super()._answer(head, body)
            return
        is_chunked = b" HTTP/1.1\r\n" in head
        answer_head = HEAD % (noted.id.encode(), CHUNKED if is_chunked else b"")
        wait = order.first + self._chance.random() * order.spread
        self._schedule.add(now + round(wait * 1e9), TimedStream(self, order, noted, answer_head, is_chunked))


async def serve() -> None:
    pin(1)
    raise_file_limit()
    stats = Stats()
    schedule, log, chance = Schedule(stats), list[Noted](), random.Random(SEED)
    numbers = itertools.count()

    def connection() -> BenchConnection:
        return BenchConnection(stats, schedule, log, chance, next(numbers))

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    is_there = importlib.util.find_spec("uvloop") is not None
    running: asyncio.AbstractEventLoop = importlib.import_module("uvloop" if is_there else "asyncio").new_event_loop()
    running.run_until_complete(serve())
