"""The limiter for many processes: one limit for all of them, kept in Redis or Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.engine.errors import ConfigurationError, ModelEngineError, WrongEventLoopError
from penstock.engine.exchange import CallContext, context_of

from .admission import held, longest_wait, too_late
from .breaker import check_admission
from .concurrency import AdaptiveConcurrency, checked_count, fixed
from .gate import estimated_tokens
from .outcome import Outcome
from .places import LIMITER
from .policy import checked_seconds
from .rates import PerMinute
from .shared_gate import SharedGate, SharedSlot
from .shared_limits import SharedLimits
from .shared_store import SharedStore

if TYPE_CHECKING:
    from typing_extensions import Self


class SharedLimiter:
    """`Limiter`, with one limit for any number of processes and machines. Redis or Valkey holds it (extra ``redis``).

    Processes that give the same `name` share one limit of concurrency, requests and tokens a minute; what one of them
    learns, from ``x-ratelimit-*`` headers or from a 429, all go by. The clock is the server's. Within a process the
    order is kept; between processes a slot that is free goes to who has less than its share, and whom a rate holds up
    has the next turn. Else all is as of `Limiter`, which is the page to read.

    What a process has under way counts for as long as the process is heard of; when it dies its slots are free after
    `lease`. A stream may be as long as it likes.

    While Redis cannot be reached each process takes its share by itself, 1/`workers` of each limit and at least 1 of
    it. That is said once, as a warning of the logger ``penstock.middleware.shared_limiter``, and counted in `outages`
    and `started_alone`. It goes back by itself; all that was taken alone then counts for all. A Redis that has lost
    everything begins with full buckets: one `burst` more may start.

    It sends no key and no prompt to Redis: numbers, and a random name for each process. Its connection is closed by
    `aclose`, which an engine calls when it is stopped; on a plain session use it as ``async with``. It is opened again
    when it is needed.

    Args:
        redis: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of `redis.asyncio`, which is left open and
            should repeat nothing by itself: a call whose answer is lost may have been counted.
        name: Which limit: for instance ``"openai/gpt-5"``. It is part of Redis' keys, so it has no secret in it.
        workers: Processes that share the limit, at most.
        concurrency: Requests under way at a time, of all processes: a number, or one that finds itself. `None` is any
            number.
        requests_per_minute: Requests that may start in a minute, of all processes; see `Limiter`.
        tokens_per_minute: The same for tokens, of prompt and answer together.
        burst: Seconds, at most 60; what a rate gives in that time may start at once.
        lease: Seconds, from 1 to 3600, after which the slots of a process that is not heard of are free.
        answer_within: Seconds for an answer of Redis, after which it is away.
        prefix: What all keys begin with.

    Raises:
        ConfigurationError: An option cannot work, there is no limit at all, or redis is not installed. On a request:
            Redis has never let us in, since it wants another password.
        QueueTimeoutError: On a request: it waited for ``Timeouts.queue``; nothing was sent.
        DeadlineExceededError: On a request: the deadline came first; nothing was sent.
        WrongEventLoopError: On a request: the limiter is in use on another event loop.
    """

    place: ClassVar[int] = LIMITER

    def __init__(
        self,
        redis: Any,
        name: str,
        *,
        workers: int,
        concurrency: int | AdaptiveConcurrency | None = AdaptiveConcurrency(),  # noqa: B008  # frozen
        requests_per_minute: PerMinute = None,
        tokens_per_minute: PerMinute = None,
        burst: float = 10.0,  # as of Limiter
        lease: float = 15.0,  # a loop that stands still for longer has other troubles
        answer_within: float = 1.0,
        prefix: str = "penstock",
    ) -> None:
        if not 0 < checked_seconds("SharedLimiter(burst=...)", burst) <= 60:
            raise ConfigurationError(f"SharedLimiter(burst=...) is above 0 and at most 60 s, not {burst!r}")
        if not 1 <= checked_seconds("SharedLimiter(lease=...)", lease) <= 3600:
            raise ConfigurationError(f"SharedLimiter(lease=...) is from 1 to 3600 s, not {lease!r}")
        if not checked_seconds("SharedLimiter(answer_within=...)", answer_within):
            raise ConfigurationError("SharedLimiter(answer_within=...) is longer than 0 s")
        options = fixed(concurrency) if isinstance(concurrency, int) else concurrency
        checked_count("SharedLimiter(workers=...)", workers)
        limits = SharedLimits(options, requests_per_minute, tokens_per_minute, burst, workers)
        if options is None and requests_per_minute is None and tokens_per_minute is None:
            raise ConfigurationError("a SharedLimiter without a limit does nothing: give it one, or leave it out")
        if not (isinstance(name, str) and name):
            raise ConfigurationError(f"SharedLimiter(name=...) says which limit it is, not {name!r:.80}")
        self.name = name
        self._first_event = None if options is None else options.first_event
        self._counts_tokens = tokens_per_minute is not None
        self._gate = SharedGate(SharedStore(redis, f"{prefix}:{name}", answer_within), limits, lease)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        alone = ", alone" if self.is_alone else ""
        return f"<SharedLimiter {self.name!r}: {self.in_flight} under way here, {self.waiting} waiting{alone}>"

    @property
    def limit(self) -> int | None:
        """How many may be under way in all processes, when it was last heard. `None` for any number, and before."""
        return None if self._gate.heard is None else self._gate.heard.limit

    @property
    def in_flight(self) -> int:
        """How many are under way in this process."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """How many wait to start in this process."""
        return self._gate.waiting

    @property
    def is_alone(self) -> bool:
        """Whether Redis could not be reached when it was last tried, so that this process takes its share by itself."""
        return self._gate.is_alone

    @property
    def outages(self) -> int:
        """How many times Redis has been found away."""
        return self._gate.outages

    @property
    def started_alone(self) -> int:
        """How many requests have started while Redis was away."""
        return self._gate.started_alone

    async def aclose(self) -> None:
        """Tell Redis the last of it, and close the connection. Twice is harmless."""
        await self._gate.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        self._check_loop(context)
        within = longest_wait(context)
        slot = await self._gate.enter(estimated_tokens(request.body) if self._counts_tokens else 0, within)
        if slot is None:
            raise too_late(context, within, f"{self.in_flight} are under way in this process, {self.waiting} wait")
        try:
            check_admission(context)
        except ModelEngineError as error:
            self._gate.leave(slot, Outcome(error))
            raise
        return await held(request, handler, context, _Held(self._gate, slot, context), self._first_event)

    def _check_loop(self, context: CallContext) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None or not (self.in_flight or self.waiting):
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError("the limiter is in use on another event loop", context.model, phase="not_sent")


@dataclass(frozen=True, slots=True)
class _Held:
    """A slot of the shared gate."""

    gate: SharedGate
    slot: SharedSlot
    context: CallContext

    def over(self, outcome: Outcome) -> None:
        self.gate.leave(self.slot, outcome)

    def learn(self, headers: Mapping[str, str]) -> None:
        self.gate.learn(headers, self.context.clock.time())

    def slow(self) -> None:
        self.gate.slow(self.slot)
