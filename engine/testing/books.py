"""What the gateway has seen and done, for tests to read.

Never the client's own account: these books are the other side's.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from multidict import CIMultiDictProxy, MultiMapping


@dataclass(slots=True, eq=False)
class Call:
    """One request and what became of it.

    Args:
        number: Counted from 1 in order of arrival; the ids in the answer end with it.
        headers: As they came; names compare without regard to case. May hold a key, so not in the repr.
        connection: Which TCP connection it came on, counted from 1.
        started: When its head was read, in seconds of `time.monotonic()`.
        body: The parsed JSON; `None` when there is none.
        raw: The body as it came. It and `body` are empty once the call is over where the gateway keeps no
            bodies.
        attempt: The how many-th request with this idempotency key; without a key, with this path and body.
        waited_s: Seconds since the end of the attempt before; `None` for the first, and while that still runs.
        stream: Whether a stream was asked for.
        status: The status sent; `None` when no head was sent.
        executed: The model ran for this very request. A replay does not run it.
        tokens: What the model was paid for this very request: words of prompt and answer; 0 when it did not run.
        replayed: The answer was the one kept under the idempotency key.
        outcome: `"running"`, the `kind` of the step that was played to its end, `"refused"` by the gateway
            itself, or `"abandoned"`: the connection went away before.
        digest: Of path and body: equal for equal requests, also when the body is not kept.
        finished: When the last byte that matters was about to be written, or the connection was found
            lost; `None` while it runs.
    """

    number: int
    method: str
    path: str
    query: MultiMapping[str] = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)
    connection: int
    started: float = field(repr=False)
    idempotency_key: str | None = None
    body: Any = field(default=None, repr=False)
    raw: bytes = field(default=b"", repr=False)
    attempt: int = 1
    waited_s: float | None = None
    stream: bool = False
    status: int | None = None
    executed: bool = False
    tokens: int = field(default=0, repr=False)
    replayed: bool = False
    outcome: str = "running"
    finished: float | None = field(default=None, repr=False)
    digest: bytes = field(default=b"", repr=False)

    @property
    def identity(self) -> object:
        """What attempts of one logical request have in common."""
        return self.idempotency_key or (self.path, self.digest)


class Books:
    """Every call, and the connections and streams that are open.

    Args:
        keep_calls: How many calls are kept, the last ones; `None` is all. What is counted for each key
            is counted over the calls that are kept.
        keep_bodies: Whether a call keeps its body when it is over.
    """

    def __init__(self, keep_calls: int | None = None, *, keep_bodies: bool = True) -> None:
        self.calls: list[Call] = []
        self.requests = 0
        self.connections = 0
        self.open: set[int] = set()
        self.open_streams = 0
        self._keep_calls = keep_calls
        self._keep_bodies = keep_bodies
        self._attempts: Counter[object] = Counter()
        self._last: dict[object, Call] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def clear(self) -> None:
        """Forget every call; what is open stays open."""
        self.calls.clear()
        self.requests = 0
        self._attempts.clear()
        self._last.clear()
        self.connections = len(self.open)

    def arrived(self, call: Call) -> None:
        """The head of a request is there."""
        self.requests += 1
        self.calls.append(call)
        if self._keep_calls is not None and len(self.calls) > self._keep_calls:
            self._forget(self.calls.pop(0))

    def _forget(self, call: Call) -> None:
        """Nothing is known of a logical request whose last attempt is forgotten."""
        if self._last.get(call.identity) is call:
            del self._last[call.identity]
            del self._attempts[call.identity]

    def connected(self, connection: int) -> None:
        self.connections += 1
        self.open.add(connection)
        self.changed()

    def disconnected(self, connection: int) -> None:
        self.open.discard(connection)
        self.changed()

    def received(self, call: Call) -> None:
        """A request is there, its body read as far as it will be."""
        call.digest = blake2b(call.path.encode() + b"\0" + call.raw, digest_size=16).digest()
        self.changed()
        if self._keep_calls is not None and call.number <= self.requests - self._keep_calls:
            return  # forgotten before its body was there
        before = self._last.get(call.identity)
        self._attempts[call.identity] += 1
        self._last[call.identity] = call
        call.attempt = self._attempts[call.identity]
        if before is not None and before.finished is not None:
            call.waited_s = call.started - before.finished

    def streaming(self, change: int) -> None:
        self.open_streams += change
        self.changed()

    def finished(self, call: Call, outcome: str) -> None:
        call.outcome = outcome
        call.finished = time.monotonic()
        if not self._keep_bodies:
            call.raw, call.body = b"", None
        self.changed()

    @property
    def keys(self) -> list[str]:
        """Idempotency keys in order of first use."""
        return list(dict.fromkeys(call.idempotency_key for call in self.calls if call.idempotency_key))

    @property
    def executions(self) -> dict[str, int]:
        """How often the model ran, by idempotency key."""
        runs = dict.fromkeys(self.keys, 0)
        for call in self.calls:
            if call.idempotency_key and call.executed:
                runs[call.idempotency_key] += 1
        return runs

    @property
    def charges(self) -> dict[str, int]:
        """What the model was paid, in tokens, by idempotency key."""
        paid = dict.fromkeys(self.keys, 0)
        for call in self.calls:
            if call.idempotency_key:
                paid[call.idempotency_key] += call.tokens
        return paid

    def of_key(self, key: str | None) -> list[Call]:
        """The calls with this idempotency key; `None` is every call."""
        return [call for call in self.calls if key is None or call.idempotency_key == key]

    def waits(self, key: str | None) -> list[float]:
        return [call.waited_s for call in self.of_key(key) if call.waited_s is not None]

    def changed(self) -> None:
        """Wake whoever waits in `until`."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until `condition` holds; `False` when it did not in time. Asked again at every change."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not condition():
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            try:
                await asyncio.wait_for(waiter, deadline - loop.time())
            except asyncio.TimeoutError:
                return condition()
        return True
