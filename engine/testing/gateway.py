"""The gateway: a server to start, a script to play, books to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from aiohttp import web

from .books import Books, Call
from .dialects import DIALECTS
from .idempotency import KEY_HEADER
from .listener import Listener
from .script import Script, as_script
from .service import Decision, Idempotency, Service
from .steps import OWN_ANSWER, Step
from .wire import Wire

if TYPE_CHECKING:
    from typing_extensions import Self  # not installed with us from Python 3.13 on

_HOST = "127.0.0.1"  # loopback alone: what answers here is made up, and its key check guards nothing
_TIMER_RESOLUTION_S = 0.001  # of uvloop, the coarsest


class Gateway:
    """A gateway on a port of this machine, for any client to talk to.

    Without a script it answers every request, and the same request always the same way. It runs on
    the loop that starts it and leaves no task behind when it stops.

    Args:
        dialect: What it speaks: `"openai"`, `"nim"` with the error envelope of NVIDIA's hosted one,
            `"modelgov"`, `"atrium"`, `"omnigate"` or `"keeptrusts"`.
        api_key: The key it asks for; `None` accepts every request.
        model: The model it lists. Chats may name any other.
        port: `0` takes a free one.
        script: The same as calling `script()`.
        idempotency: `"honour"` keeps the answer of each idempotency key and replays it, `"ignore"`
            runs every request. `None` does as the gateways of the dialect do: OpenAI, NIM and Modelgov
            honour keys, the others take no notice of them.
        keep_content: Whether a replay brings the text back. `None` does as the gateways of the dialect
            do: Modelgov's replays come without.

    Raises:
        ValueError: there is no such dialect or way to treat keys, or the script has a block that the
            dialect does not know.
    """

    def __init__(
        self,
        *,
        dialect: str = "openai",
        api_key: str | None = None,
        model: str = "tiny-mock",
        port: int = 0,
        script: Script | Iterable[Step] | None = None,
        idempotency: Idempotency | None = None,
        keep_content: bool | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise ValueError(f"no dialect is called {dialect!r}; there are {', '.join(DIALECTS)}")
        if idempotency not in (None, "honour", "ignore"):
            raise ValueError(f"idempotency is 'honour' or 'ignore', not {idempotency!r}")
        self._books = Books()
        self._service = Service(
            DIALECTS[dialect](model), api_key=api_key, idempotency=idempotency, keep_content=keep_content
        )
        self._service.load(as_script(script))
        self._wanted_port = port
        self._port: int | None = None
        self._listener: Listener | None = None
        self._starting = asyncio.Lock()

    def __repr__(self) -> str:
        where = self.url if self._port is not None else "stopped"
        return (
            f"<Gateway {where} requests={self.requests} open_connections={self.open_connections} "
            f"open_streams={self.open_streams} steps_left={self.steps_left}>"
        )

    async def start(self) -> None:
        """Listen. Starting twice, or twice at once, is harmless.

        Raises:
            OSError: the port is taken.
        """
        async with self._starting:
            if self._listener is None:
                listener = Listener(self._serve, self._books)
                self._port = await listener.listen(_HOST, self._wanted_port)
                self._listener = listener

    async def stop(self) -> None:
        """Stop listening and drop every connection, also those in the middle of an answer.

        The books can still be read. Stopping twice is harmless.
        """
        listener, self._listener, self._port = self._listener, None, None
        if listener is not None:
            await listener.close()

    async def serve_forever(self) -> None:
        """Serve until cancelled, then stop."""
        await self.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The root of all paths, without a slash at its end or `/v1`.

        Raises:
            RuntimeError: the gateway is not running.
        """
        if self._port is None:
            raise RuntimeError("the gateway is not running; use 'async with Gateway() as gateway:' or start() it")
        return f"http://{_HOST}:{self._port}"

    def script(self, *steps: Step, default: Step = OWN_ANSWER) -> None:
        """Replace the script: one step per request, then `default` for all that follow.

        Raises:
            TypeError: something is not a step.
            ValueError: a block is one that the dialect does not know.
        """
        self._service.load(Script(steps, default))

    @property
    def steps_left(self) -> int:
        """How many steps no request has met yet."""
        return self._service.playhead.steps_left

    def reset(self) -> None:
        """Forget script, calls and idempotency keys. Open connections stay open, and stay counted."""
        self._service.forget()
        self._books.clear()

    @property
    def calls(self) -> list[Call]:
        """Every request in order of arrival."""
        return self._books.calls

    @property
    def requests(self) -> int:
        """How many requests have come."""
        return len(self._books.calls)

    @property
    def keys(self) -> list[str]:
        """The idempotency keys that have come, each once, in order of first use."""
        return self._books.keys

    @property
    def executions(self) -> dict[str, int]:
        """How often the model ran for each idempotency key. A replay does not run it."""
        return self._books.executions

    @property
    def connections(self) -> int:
        """How many TCP connections have been accepted."""
        return self._books.connections

    @property
    def open_connections(self) -> int:
        """How many TCP connections are open now."""
        return len(self._books.open)

    @property
    def open_streams(self) -> int:
        """How many streams are being sent now."""
        return self._books.open_streams

    def waits(self, key: str | None = None) -> list[float]:
        """Seconds a client let pass between two attempts, in order of the later one's arrival.

        From the end of one answer to the head of the next request. Attempts belong together by
        idempotency key, without one by path and body. `key` leaves out all others.
        """
        return self._books.waits(key)

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        """Wait until `condition` holds; it is asked again whenever the books change.

        Raises:
            AssertionError: it did not hold in time.
        """
        if not await self._books.until(condition, within_s):
            raise AssertionError(f"what was waited for did not happen within {within_s} s: {self!r}")

    def assert_executed_once(self, key: str | None = None) -> None:
        """The model ran exactly once for this idempotency key; `None` is for every key that came."""
        executions = self.executions
        if key is not None and key not in executions:
            raise AssertionError(f"no request came with idempotency key {key!r}; keys that came: {self.keys}")
        if not executions:
            raise AssertionError(f"no request came with an idempotency key, of {self.requests}")
        wrong = {k: n for k, n in executions.items() if n != 1 and key in (None, k)}
        if wrong:
            told = [call for call in self.calls if call.idempotency_key in wrong]
            raise AssertionError(_listed(f"the model has to run once per key, and ran {wrong}", told))

    def assert_waited(self, *, at_least: float, key: str | None = None) -> None:
        """The client waited so many seconds before each repeated attempt, and there was one.

        A millisecond less will do: some event loops count time in milliseconds.
        """
        told = [call for call in self.calls if key is None or call.idempotency_key == key]
        waits = self.waits(key)
        if not waits:
            raise AssertionError(_listed("no attempt was repeated, so nothing was waited for", told))
        if min(waits) < at_least - _TIMER_RESOLUTION_S:
            raise AssertionError(_listed(f"a wait of at least {at_least} s was expected, and there were {waits}", told))

    async def assert_no_open_connections(self, within_s: float = 1.0) -> None:
        """Every TCP connection is closed, or will be in so many seconds."""
        if not await self._books.until(lambda: not self._books.open, within_s):
            told = [call for call in self.calls if call.connection in self._books.open]
            raise AssertionError(_listed(f"{self.open_connections} connections are still open", told))

    async def assert_no_open_streams(self, within_s: float = 1.0) -> None:
        """No stream is being sent, or none will be in so many seconds."""
        if not await self._books.until(lambda: not self._books.open_streams, within_s):
            told = [call for call in self.calls if call.outcome == "running" and call.stream]
            raise AssertionError(_listed(f"{self.open_streams} streams are still open", told))

    async def _serve(self, request: web.BaseRequest, connection: int) -> web.StreamResponse:
        call = self._note(request, connection)
        wire = Wire(request)
        decision = self._service.decide_by_head(call)
        streams = 0
        try:
            if decision is None:
                call.raw = await wire.read()
                decision = self._service.decide(call)
            self._books.received(call)
            if decision.plan.before_s:
                await wire.silence(decision.plan.before_s)
            self._service.began(call, decision)
            streams = int(decision.plan.is_stream)
            self._books.streaming(streams)
            return await wire.play(decision.plan, before_end=partial(self._finish, call, decision))
        finally:
            self._books.streaming(-streams)
            if call.finished is None:
                self._finish(call, decision, "abandoned")

    def _note(self, request: web.BaseRequest, connection: int) -> Call:
        call = Call(
            number=len(self._books.calls) + 1,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            connection=connection,
            started=time.monotonic(),
            idempotency_key=request.headers.get(KEY_HEADER, "").strip() or None,
        )
        self._books.calls.append(call)
        return call

    def _finish(self, call: Call, decision: Decision | None, outcome: str | None = None) -> None:
        if decision is None:
            self._books.finished(call, "abandoned")
            return
        self._service.settle(call, decision)
        self._books.finished(call, outcome or decision.outcome)


def _listed(sentence: str, calls: Iterable[Call]) -> str:
    """The sentence, and below it the calls it is about."""
    return "\n  ".join((sentence, *map(repr, calls)))
