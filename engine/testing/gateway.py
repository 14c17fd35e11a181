"""The gateway: a server to start, a script to play, books to read."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, get_args

from aiohttp import web

from .assertions import Assertions
from .authority import Authority
from .books import Books, Call
from .dialects import DIALECTS
from .idempotency import KEY_HEADER
from .listener import Listener
from .pace import Wheel
from .rules import Rule
from .script import Script, as_script
from .service import Decision, Idempotency, Service
from .steps import OWN_ANSWER, Step
from .wire import AfterAnswer, Wire

if TYPE_CHECKING:
    from typing_extensions import Self  # not installed with us from Python 3.13 on

_HOST = "127.0.0.1"  # loopback alone: what answers here is made up, and its key check guards nothing


class Gateway(Assertions):
    """A gateway on a port of this machine, for any client to talk to.

    Without a script it answers every request, and the same request always the same way. It runs on
    the loop that starts it and leaves no task behind when it stops.

    Args:
        dialect: What it speaks: `"openai"`, `"nim"` with the error envelope of NVIDIA's hosted one,
            `"modelgov"`, `"atrium"`, `"omnigate"` or `"keeptrusts"`.
        api_key: The key it asks for; `None` accepts every request.
        model: The model it lists. Chats may name any other.
        port: `0` takes a free one.
        script: The same as calling `script()`; a `Script`, as `load_script()` returns it, is taken as it is.
        seed: For all that is drawn: rules with a probability, and jitter. `None` takes the script's, and 0
            when it has none.
        idempotency: `"honour"` keeps the answer of each idempotency key and replays it, `"ignore"`
            runs every request. `None` does as the gateways of the dialect do: OpenAI, NIM and Modelgov
            honour keys, the others take no notice of them.
        keep_content: Whether a replay brings the text back. `None` does as the gateways of the dialect
            do: Modelgov's replays come without.
        keep_calls: How many calls the books keep, the last ones, and how many idempotency keys the gateway
            remembers; `None` is all. Bounds the memory of a gateway that runs for long.
        keep_bodies: `False` drops the body of a request when it has been answered.
        after_answer: `"close"` closes the connection after each answer and says so, `"close_unsaid"` does
            not say so.
        idle_close_s: Closes a kept connection on which so many seconds nothing came, as gateways do a
            little before their clients; `None` leaves it open for an hour.
        tls: Speaks TLS with a certificate made for this gateway, by an authority made for it; needs the
            package `trustme`, which the extra ``penstock[testing]`` brings. See `ssl_context()` and `ca_file`.

    Raises:
        ImportError: `tls=True`, and trustme is not installed.
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
        script: Script | Iterable[Step | Rule] | None = None,
        seed: int | None = None,
        idempotency: Idempotency | None = None,
        keep_content: bool | None = None,
        keep_calls: int | None = None,
        keep_bodies: bool = True,
        after_answer: AfterAnswer = "keep",
        idle_close_s: float | None = None,
        tls: bool = False,
    ) -> None:
        if dialect not in DIALECTS:
            raise ValueError(f"no dialect is called {dialect!r}; there are {', '.join(DIALECTS)}")
        if idempotency not in (None, "honour", "ignore"):
            raise ValueError(f"idempotency is 'honour' or 'ignore', not {idempotency!r}")
        if after_answer not in get_args(AfterAnswer):
            raise ValueError(f"after_answer is one of {', '.join(get_args(AfterAnswer))}, not {after_answer!r}")
        if keep_calls is not None and keep_calls < 1:
            raise ValueError(f"keep_calls is at least 1, not {keep_calls}")
        if idle_close_s is not None and (not isinstance(idle_close_s, (int, float)) or not idle_close_s > 0):
            raise ValueError(f"idle_close_s is a number above 0, not {idle_close_s!r}")
        self._books = Books(keep_calls, keep_bodies=keep_bodies)
        self._service = Service(
            DIALECTS[dialect](model),
            api_key=api_key,
            idempotency=idempotency,
            keep_content=keep_content,
            seed=seed,
            most_keys=keep_calls,
        )
        self._service.load(as_script(script))
        self._after_answer: AfterAnswer = after_answer
        self._idle_close_s = idle_close_s
        self._authority = Authority() if tls else None
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
                listener = Listener(self._serve, self._books, idle_close_s=self._idle_close_s)
                tls = None if self._authority is None else self._authority.server_context()
                self._port = await listener.listen(_HOST, self._wanted_port, tls)
                self._wheel = Wheel()
                self._listener = listener

    async def stop(self) -> None:
        """Stop listening and drop every connection, also those in the middle of an answer.

        The books can still be read. Stopping twice is harmless.
        """
        listener, self._listener, self._port = self._listener, None, None
        if listener is not None:
            await listener.close()
        if self._authority is not None:
            self._authority.remove_file()

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
        return f"{'http' if self._authority is None else 'https'}://{_HOST}:{self._port}"

    def ssl_context(self) -> ssl.SSLContext:
        """For a client in Python: trusts this gateway's authority and no other.

        Raises:
            RuntimeError: the gateway does not speak TLS.
        """
        return self._the_authority().client_context()

    @property
    def ca_file(self) -> str:
        """Path of this gateway's authority in PEM, for other clients (``SSL_CERT_FILE``, ``curl --cacert``).

        A temporary file, there from the first time it is asked for until the gateway stops.

        Raises:
            RuntimeError: the gateway does not speak TLS.
        """
        return self._the_authority().file()

    def _the_authority(self) -> Authority:
        if self._authority is None:
            raise RuntimeError("the gateway does not speak TLS; make it with Gateway(tls=True)")
        return self._authority

    def script(self, *steps: Step | Rule, default: Step = OWN_ANSWER) -> None:
        """Replace the script: rules, one step per request, then `default` for all that follow.

        A request meets the first rule that fits it, wherever rules stand in the list; see `Script`.

        Raises:
            TypeError: something is neither a step nor a rule.
            ValueError: a block is one that the dialect does not know.
        """
        self._service.load(Script.of(steps, default=default))

    @property
    def steps_left(self) -> int:
        """How many steps no request has met yet."""
        return self._service.playhead.steps_left

    def reset(self) -> None:
        """Forget script, calls and idempotency keys. Open connections stay open, and stay counted."""
        self._service.forget()
        self._books.clear()

    async def _serve(self, request: web.BaseRequest, connection: int) -> web.StreamResponse:
        call = self._note(request, connection)
        wire = Wire(request, self._wheel, self._after_answer)
        decision = self._service.decide_by_head(call)
        streams = 0
        try:
            if decision is None:
                call.raw = await wire.read()
                self._books.received(call)
                decision = self._service.decide(call)
            else:
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
            number=self._books.requests + 1,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            connection=connection,
            started=time.monotonic(),
            idempotency_key=request.headers.get(KEY_HEADER, "").strip() or None,
        )
        self._books.arrived(call)
        return call

    def _finish(self, call: Call, decision: Decision | None, outcome: str | None = None) -> None:
        if decision is None:
            self._books.finished(call, "abandoned")
            return
        self._service.settle(call, decision)
        self._books.finished(call, outcome or decision.outcome)
