"""A gateway with faults, for `soak.py`: what to do wrong stands in the prompt, and it keeps the books of what it did.

Answers are streams of chat completions. A request runs the model once for each idempotency key; the same key again gets
the same answer. ``GET /books`` tells what was done. It writes HTTP itself, since most of the faults are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter

from harness import pin

PIECES = 12  # events of an answer that have text
PACE = 0.01  # seconds between two
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
BREAKS = ("reset mid-stream", "cut", "stall", "abandoned", "error event", "garbage frame", "truncation")


class Books:
    """What was done, over all connections."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()  # by idempotency key
        self.executions: Counter[str] = Counter()  # by the number in the prompt, so that a change of key shows
        self.connections = 0
        self.open = 0
        self._done: set[str] = set()  # keys

    def execute(self, key: str, number: str) -> None:
        """Run the model, unless it has run under this key."""
        if key not in self._done:
            self._done.add(key)
            self.executions[number] += 1

    def figures(self) -> dict[str, int]:
        """All of it, less the connection of the one who asks."""
        return {
            "requests": self.requests.total(),
            "keys": len(self.requests),
            "executions": self.executions.total(),
            "executed_twice": sum(count > 1 for count in self.executions.values()),
            "connections": self.connections - 1,
            "open": self.open - 1,
        }


class Connection:
    """One connection, on which requests come one at a time."""

    def __init__(self, books: Books, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._books = books
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        self._books.connections += 1
        self._books.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer():
                    pass
        finally:
            self._books.open -= 1
            self._writer.close()

    async def _answer(self) -> bool:
        """One request. Whether the connection can have another."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET /books"):
            return await self._send(whole(200, self._books.figures()))
        body = json.loads(await self._reader.readexactly(int(header(head, "content-length"))))
        number, _, fault = body["messages"][0]["content"].partition(" ")
        key = header(head, "idempotency-key")
        self._books.requests[key] += 1
        if self._books.requests[key] == 1 and fault in REFUSALS:
            return await self._send(REFUSALS[fault])
        self._books.execute(key, number)
        if self._books.requests[key] == 1 and fault == "reset before the head":
            return self._reset()
        return await self._stream(number, fault)

    async def _stream(self, number: str, fault: str) -> bool:
        breaks_after = int(number) % PIECES + 1 if fault in BREAKS else PIECES
        self._writer.write(HEAD)
        for place in range(breaks_after):
            await self._send(event(text(number, place)))
            await asyncio.sleep(PACE)
        if fault in BREAKS:
            return await self._break(fault)
        return await self._send(event(finish(number)), event(b"[DONE]"), END)

    async def _break(self, fault: str) -> bool:
        if fault == "reset mid-stream":
            return self._reset()
        if fault in ("stall", "abandoned"):
            await self._reader.read(1)  # returns when the client is gone
        elif fault != "cut":
            return await self._send(*FRAMES[fault], END)
        return False

    async def _send(self, *data: bytes) -> bool:
        self._writer.write(b"".join(data))
        await self._writer.drain()
        return True

    def _reset(self) -> bool:
        self._writer.transport.abort()
        return False


def header(head: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r$", head, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


def whole(status: int, body: object, headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


def text(number: str, place: int) -> bytes:
    choice = {"index": 0, "delta": {"content": f"{number}:{place} "}, "finish_reason": None}
    return json.dumps({"id": number, "object": "chat.completion.chunk", "model": "soak", "choices": [choice]}).encode()


def finish(number: str) -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": PIECES, "total_tokens": PIECES + 1}
    return json.dumps({"id": number, "model": "soak", "choices": [choice], "usage": usage}).encode()


def event(data: bytes) -> bytes:
    frame = b"data: %b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(frame), frame)


FRAMES = {
    "error event": [event(b'{"error":{"message":"the model has failed","type":"server_error"}}')],
    "garbage frame": [event(b"{garbage")],
    "truncation": [],
}
REFUSALS = {
    "429": whole(429, {"error": {"message": "too fast"}}, "retry-after: 0.02\r\n"),
    "503": whole(503, {"error": {"message": "busy"}}),
}


async def main() -> None:
    pin(1)
    books = Books()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(books, reader, writer).serve()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
