"""The load server, with an answer that takes 20 ms: what a batch is compared with.

Everything else is as in `load_server`. A timer for each answer is what it costs: some microseconds.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util

from harness import pin, raise_file_limit
from load_server import BODY, Connection, Stats, whole

SERVICE_S = 0.02


class SlowConnection(Connection):
    """Answers after a while; what it has done, at once."""

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            super()._answer(head, body)
        else:
            asyncio.get_running_loop().call_later(SERVICE_S, self._finish)

    def _finish(self) -> None:
        if not self.is_lost:
            self._transport.write(ANSWER)


ANSWER = whole(BODY)


async def serve() -> None:
    pin(1)
    raise_file_limit()
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowConnection({}, stats), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    is_there = importlib.util.find_spec("uvloop") is not None
    running: asyncio.AbstractEventLoop = importlib.import_module("uvloop" if is_there else "asyncio").new_event_loop()
    running.run_until_complete(serve())
