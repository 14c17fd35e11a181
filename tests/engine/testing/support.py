"""A client as plain as can be: what it was sent is what the tests look at."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.engine.testing import Gateway

CHAT = "/v1/chat/completions"


def chat(text: str = "Hi", **options: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "tiny-mock", "messages": [{"role": "user", "content": text}], **options}


@dataclass(frozen=True)
class Exchange:
    """All bytes that came back on one connection, and how it ended."""

    data: bytes
    was_reset: bool

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def headers(self) -> dict[str, str]:
        return dict(line.lower().split(": ", 1) for line in self.head.split("\r\n")[1:])

    @property
    def exact_headers(self) -> dict[str, str]:
        """Headers as they were written; names in lower case."""
        pairs = (line.split(": ", 1) for line in self.head.split("\r\n")[1:])
        return {name.lower(): value for name, value in pairs}

    @property
    def is_complete(self) -> bool:
        """Whether a chunked body came to its last chunk."""
        return self.data.endswith(b"0\r\n\r\n")

    @property
    def chunks(self) -> list[bytes]:
        """The chunks of a chunked body, as they were written."""
        rest, chunks = self.data.partition(b"\r\n\r\n")[2], []
        while rest:
            size_text, _, rest = rest.partition(b"\r\n")
            size = int(size_text, 16)
            chunks.append(rest[:size])
            rest = rest[size + 2 :]
        return [chunk for chunk in chunks if chunk]

    @property
    def body(self) -> bytes:
        if "transfer-encoding" in self.headers:
            return b"".join(self.chunks)
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of each event; comments left out."""
        lines = re.split("\r\n|\r|\n", self.body.decode())  # not splitlines(): U+2028 is text
        return [line[6:] for line in lines if line.startswith("data: ")]

    @property
    def frames(self) -> list[Any]:
        """The events that are JSON."""
        return [orjson.loads(event) for event in self.events if event.startswith("{")]

    @property
    def text(self) -> str:
        return "".join(
            choice["delta"].get("content") or "" for frame in self.frames for choice in frame.get("choices", ())
        )


async def send(
    gateway: Gateway,
    body: Any = None,
    *,
    path: str = CHAT,
    method: str = "POST",
    version: str = "1.1",
    **headers: str,
) -> Exchange:
    """Send one request on a connection of its own and read until that ends."""
    raw = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    fields = {"host": "gateway", "connection": "close", "content-length": str(len(raw)), **headers}
    lines = [f"{method} {path} HTTP/{version}", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items()), "", ""]
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    writer.write("\r\n".join(lines).encode() + raw)
    data, was_reset = bytearray(), False
    try:
        while piece := await reader.read(1 << 16):
            data += piece
    except ConnectionResetError:
        was_reset = True
    writer.close()
    return Exchange(bytes(data), was_reset)


async def stream(gateway: Gateway, text: str = "Hi", **headers: str) -> Exchange:
    """Ask for a stream."""
    return await send(gateway, chat(text, stream=True), **headers)
