"""The one page to read: what goes through the stack, and what a middleware is.

    stream_call() -> Exchange -> middleware -> middleware -> transport
                                                                |
               <- chunks <- Reply <- middleware <- middleware <-+

A middleware has the shape of aiohttp's own client middlewares, ``async def __call__(self, request, handler) ->
reply``, and touches only what both carriers have: ``method, url, headers, body`` of the request, ``status, headers,
content, release()`` of the reply. So one object serves in the engine and in a plain
``aiohttp.ClientSession(middlewares=...)``.

What differs between gateways reaches a middleware as facts (`Target`, `Operation`), never as a name to compare.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from multidict import CIMultiDict
from yarl import URL

from .clock import SYSTEM_CLOCK, Clock
from .credential import Credential
from .errors import ModelEngineError, type_name
from .redact import MASK, redact_value
from .types import Attempt, Governance, LLMResponseChunk, Timeouts, UsageInfo
from .verdict import Answer, Judge, judge_openai

if TYPE_CHECKING:
    from .event_decoder import Pattern
    from .lane import Lane

T = TypeVar("T")

KeySupport = Literal["honoured", "unknown", "ignored", "refused"]
"""What a gateway does with an idempotency key: runs the request once, is not known to care, is known not to care (so
the key protects nothing), or refuses the request.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a gateway can be asked to do.

    Args:
        name: The operation, in the words of OTel's ``gen_ai.operation.name`` where it has one (``chat``,
            ``embeddings``).
        method: HTTP method.
        path: Path after the root of the base URL.
        keys: What the gateway does with an idempotency key on this operation.
        repeatable: Whether running it twice does no harm, as for reads. Others are sent again after a lost answer
            only with a key.
        once: Whether running it twice does harm, as for opening an account. Sent again only when it surely has not run.
        anonymous: Whether it is for callers without a key; the credential is not sent.
    """

    name: str
    method: str = "POST"
    path: str = ""
    keys: KeySupport = "unknown"
    repeatable: bool = False
    once: bool = False
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Facts about where a request goes.

    Args:
        gateway: Name of the dialect, for messages and telemetry; not for decisions.
        judge: The gateway's verdict table.
        origin: The only origin that gets the credential.
        credential: Where the key comes from. `None` sends none.
        auth_header: Header that carries the key.
        auth_scheme: Word before the key, ``""`` for none.
        allow_http: Whether the key may go over plain ``http://`` to another machine.
    """

    gateway: str
    judge: Judge
    origin: URL | None = None
    credential: Credential | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    allow_http: bool = False


Wire = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Is called with what makes the request, and gives its response or raises as that does. Both are aiohttp's."""


@dataclass(slots=True)
class CallContext:
    """What belongs to one logical call and survives its attempts.

    Args:
        target: Where it goes.
        operation: What is asked for.
        model: The model asked for. `None` where the operation has none.
        stream: Whether the answer is to be streamed.
        deadline: Monotonic time after which the call has failed. `None` for never.
        idempotency_key: The key the request carries, once there is one.
        attempts: The ledger.
        notes: For middlewares to leave things for each other, by their own names.
    """

    target: Target
    operation: Operation
    model: str | None = None
    stream: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    deadline: float | None = None
    clock: Clock = SYSTEM_CLOCK
    started: float = 0.0
    idempotency_key: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set, repr=False)
    """What must not appear in any text: filled by `Auth` with the keys that were sent."""
    governance: Governance | None = None
    """What the head of the answer says about the gateway's decision."""
    broken: ModelEngineError | None = None
    """What broke off the stream that is to be begun anew: `Retry` decides on it as on a failed attempt."""
    wire: Wire | None = field(default=None, repr=False)
    """What stands between the transport and its session, inside all clocks. `None` for nothing."""
    notes: dict[str, Any] = field(default_factory=dict)
    _call_id: str | None = field(default=None, repr=False)

    @property
    def call_id(self) -> str:
        """A random id (UUIDv4) of the call, made when it is first asked for."""
        if self._call_id is None:
            self._call_id = str(uuid.uuid4())
        return self._call_id

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline, not below 0. `None` when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - self.clock.monotonic())

    def stamp(self, error: ModelEngineError) -> ModelEngineError:
        """Write on an error which call it belongs to, and the failure into the ledger; take every secret out of its
        texts.

        Returns the same error.
        """
        error.gateway = error.gateway or self.target.gateway
        error.model_name = error.model_name or self.model
        error.idempotency_key = error.idempotency_key or self.idempotency_key
        error.headers = dict(error.headers)
        texts = redact_value([getattr(error, name) for name in _TEXTS], self.secrets, depth=_DEPTH)
        for name, text in zip(_TEXTS, texts):
            setattr(error, name, text)
        error.args = (error.message,)
        # It may be aiohttp's, with bytes that came: Python 3.10 sets it even after the except block.
        error.__context__ = None
        if self.attempts:
            entry = self.attempts[-1]
            if entry.error is None:
                entry.error, entry.phase = type_name(error), error.phase
            entry.request_id = redact_value(entry.request_id, self.secrets)
        error.attempts = tuple(self.attempts)
        return error

    def redacted(self, value: T) -> T:
        """A value without any secret, for what shows itself."""
        shown: T = redact_value(value, self.secrets, depth=_DEPTH)
        return shown

    def shown_id(self, text: str | None) -> str | None:
        """An id that a gateway gave. A success is looked at quickly: only for a key that stands in it as it is."""
        return MASK if text is not None and any(secret in text for secret in self.secrets if secret) else text


# What a gateway writes on an error
_TEXTS = ("message", "code", "type", "param", "request_id", "headers", "body", "governance")
_DEPTH = 33  # levels of a body that are kept, and the list around it

PLAIN_SESSION = Target("a plain aiohttp session", judge_openai)
_CONTEXT = "penstock_context"  # attribute under which a context rides on a request of a plain session


def context_of(request: Any) -> CallContext:
    """The context of a request: of an `Exchange` its own; of a request in a plain aiohttp session one made at first
    use.
    """
    context: CallContext | None = getattr(request, "context", None) or getattr(request, _CONTEXT, None)
    if context is None:
        method = request.method.upper()
        repeatable = method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")  # RFC 9110 9.2.2
        context = CallContext(PLAIN_SESSION, Operation("request", method, request.url.path, repeatable=repeatable))
        context.started = context.clock.monotonic()
        setattr(request, _CONTEXT, context)
    return context


class Exchange:
    """One logical request on its way through the stack.

    The body is bytes, encoded once: every attempt sends the same. `headers` may be changed by middlewares; each
    attempt sends what is there when it reaches the transport.
    """

    __slots__ = ("body", "context", "decoder", "headers", "method", "url")

    def __init__(
        self,
        method: str,
        url: URL,
        *,
        headers: CIMultiDict[str] | None = None,
        body: bytes | None = None,
        context: CallContext,
        decoder: Callable[[Answer], Any],
    ) -> None:
        self.method = method
        self.url = url
        self.headers: CIMultiDict[str] = headers if headers is not None else CIMultiDict()
        self.body = body
        self.context = context
        self.decoder = decoder
        """What reads a success: the whole `Answer` of a unary call; for a stream its head, giving a `StreamDecoder`."""

    def __repr__(self) -> str:
        size = 0 if self.body is None else len(self.body)
        return f"<Exchange {self.method} {self.url.with_query(None)} {self.context.operation.name}, {size} bytes>"


class StreamDecoder(Protocol):
    """Bytes of a streamed answer in, chunks out. Does no I/O and knows no time."""

    failure: ModelEngineError | None
    """Set once the stream has failed; chunks decoded before it are still returned."""
    finished: bool
    """Whether the terminal mark has been seen: nothing of interest follows."""
    governance: Governance | None
    """What the stream itself has said about the gateway's decision so far. `None` when nothing."""

    @property
    def usage(self) -> UsageInfo | None:
        """Token counts that have come so far. `None` while there are none."""
        ...

    @property
    def pattern(self) -> Pattern | None:
        """What the next event may be like, so that it need not be fed. `None` where it has to be."""
        ...

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        """Decode one read. Never raises for what the gateway sent: see `failure`."""
        ...

    def abort(self) -> list[LLMResponseChunk]:
        """The body has broken off: returns what was held back. Sets `failure` only for what the stream itself has
        told.
        """
        ...

    def close(self) -> list[LLMResponseChunk]:
        """The body has ended cleanly: returns what that completes, and sets `failure` when the answer is not
        complete.
        """
        ...


class Reply(Protocol):
    """An opened answer: its head is here, its body is still on the wire.

    In a plain aiohttp session the reply is a ``ClientResponse``, which has `status`, `headers`, `content` and
    `release()`, and nothing below them.
    """

    lane: Lane
    """What a read touches: see there."""

    @property
    def usage(self) -> UsageInfo | None:
        """Token counts that have come so far. `None` while there are none, and where the gateway does not tell."""
        ...

    @property
    def failure(self) -> ModelEngineError | None:
        """What ended the answer, once it is over. `None` for one that was complete, or was left early."""
        ...

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> Any:
        """The body, with ``await readany() -> bytes``, empty at its end."""
        ...

    def release(self) -> Any:
        """Give the connection back, or close it when the body is not at its end. Twice is harmless."""
        ...

    def abandon_soon(self) -> None:
        """As `release`, callable from any thread; it happens in a later turn of the loop."""
        ...

    async def commit(self) -> None:
        """Wait until the answer stands: a unary body is read and decoded, a stream's first meaningful chunk has come.

        Chunks before it are kept. Until then everything that can go wrong is raised here, so that the call can still
        be repeated. Twice is harmless.
        """
        ...

    async def result(self) -> Any:
        """The decoded answer of a unary call."""
        ...

    async def chunks(self) -> list[LLMResponseChunk]:
        """The chunks of the next read, never an empty list before the end; an empty list at the end of the stream."""
        ...

    def arrival(self) -> Awaitable[None] | None:
        """Done when there is more to say; decoding is done before the reader wakes, so that a read costs one change of
        tasks and no chain of coroutines. `None` where `chunks` has to be asked. A single chunk may be in the `lane`.

        What is raised where one waits for it is to be told to `lost`.
        """
        ...

    def arrived(self) -> list[LLMResponseChunk]:
        """After an `arrival`: the chunks of it. Where there are none, `chunks` says why."""
        ...

    def lost(self, error: BaseException) -> bool:
        """Whether what ended the wait for an `arrival` is what `chunks` will raise: the connection's failure, or that
        this is another event loop. Anything else is the reader's, and ends the stream.
        """
        ...

    def push(self, deliver: Callable[[list[LLMResponseChunk]], bool]) -> Awaitable[None] | None:
        """Give the chunks of each read to `deliver` as they arrive, without waking a task, until it returns false; a
        single one may go to the lane's `sink` instead.

        What is returned is done when that has ended: by `deliver`, or because there is something else to say, which
        `chunks` then says. `None` where it cannot be done.
        """
        ...

    def pause(self) -> None:
        """What arrives is given to nobody any more, but kept."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once, when the answer is over in whatever way and its connection is given back."""
        ...


RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

Handler = Callable[[RequestT], Awaitable[ReplyT]]
"""What a middleware calls to go on: the next middleware, or the transport. May be called zero, one or more times."""


class Middleware(Protocol):
    """One layer of the stack.

    It may change the request, call the handler zero, one or more times, and must return a reply or raise. A reply
    that it does not return it must ``release()``. Nothing of it runs per chunk.
    """

    place: ClassVar[int]
    """Where it belongs, outermost first, see `penstock.middleware.stack`. Classes without one stand where they are
    put.
    """

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]], /) -> Any: ...
