"""A server that does as little as possible: reads a request, writes the same chat completion, keeps the connection."""

from __future__ import annotations

import asyncio
import re

from harness import pin

BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"fixed","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Seven is a prime."},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class FixedAnswer(asyncio.Protocol):
    """One connection. Requests come one at a time and have a content length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if blank and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._transport.write(ANSWER)


async def main() -> None:
    pin(1)
    server = await asyncio.get_running_loop().create_server(FixedAnswer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
