"""Bounds what is under way, and how fast it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from penstock.engine.errors import ConfigurationError, WrongEventLoopError
from penstock.engine.exchange import CallContext, context_of

from .admission import held, longest_wait, too_late
from .breaker import check_admission
from .concurrency import AdaptiveConcurrency, fixed
from .gate import Gate, Slot, estimated_tokens
from .line import Line
from .outcome import Outcome
from .places import LIMITER
from .policy import checked_seconds
from .rates import PerMinute, Rate


class Limiter:
    """Lets so many requests be under way at a time, and so many start in a minute; the others wait in the order they
    came.

    A slot is held from the request to the end of its answer, a stream's to its last byte, and given back whatever
    happens. Nobody is overtaken: a request whose tokens are not there yet holds up those behind it. The wait is bounded
    by ``Timeouts.queue`` and the deadline.

    One object may be shared by several engines on one event loop, and is one limit for all of them; where a gateway
    counts by model, each model has a limiter of its own. On a plain aiohttp session nobody tells when an answer is
    over: there a slot is held until its head is here, and tokens stay as they were estimated.

    Tokens are taken by an estimate: a quarter of the bytes of the body, and ``max_tokens`` or
    ``max_completion_tokens`` where the body has one, for each request whatever its ``n``. When the answer is over, the
    difference to its usage is given back or taken. Of a request that was not sent all is given back; of one that
    failed without usage the estimate stands.

    Needs on the request: nothing. Adds: nothing. Runs the handler once, or not at all. Belongs inside `Retry`, so that
    a call that waits to try again holds no slot, and outside `Auth`, whose key may expire in the line.

    Args:
        concurrency: Requests under way at a time: a number, or one that finds itself. `None` is any number.
        requests_per_minute: Requests that may start in a minute: a number, which the headers of answers
            (``x-ratelimit-*-requests`` and Anthropic's) can lower and never raise; ``"auto"`` for what these headers
            say, no bound before they do; `None` for no bound.
        tokens_per_minute: The same for tokens, of prompt and answer together.
        burst: Seconds, at most 60; what a rate gives in that time may start at once. A request of more tokens than that
            starts when all of them are there, and the next one waits for as long as it takes to pay them back.

    Raises:
        ConfigurationError: An option cannot work, or there is no limit at all.
        QueueTimeoutError: On a request: it waited for ``Timeouts.queue``; nothing was sent.
        DeadlineExceededError: On a request: the deadline came first; nothing was sent.
        WrongEventLoopError: On a request: the limiter is in use on another event loop.
    """

    place: ClassVar[int] = LIMITER

    def __init__(
        self,
        concurrency: int | AdaptiveConcurrency | None = AdaptiveConcurrency(),  # noqa: B008  # frozen
        *,
        requests_per_minute: PerMinute = None,
        tokens_per_minute: PerMinute = None,
        burst: float = 10.0,  # Azure counts requests in windows of 1 or 10 s
    ) -> None:
        if not 0 < checked_seconds("Limiter(burst=...)", burst) <= 60:
            raise ConfigurationError(f"Limiter(burst=...) is above 0 and at most 60 s, not {burst!r}")
        options = fixed(concurrency) if isinstance(concurrency, int) else concurrency
        self._gate = Gate(
            options,
            Rate("Limiter(requests_per_minute=...)", requests_per_minute, burst),
            Rate("Limiter(tokens_per_minute=...)", tokens_per_minute, burst),
        )
        if options is None and not (self._gate.requests.is_bounded or self._gate.tokens.is_bounded):
            raise ConfigurationError("a Limiter without a limit does nothing: give it one, or leave it out")
        self._first_event = None if options is None else options.first_event
        self._line = Line()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Limiter: {self.in_flight} of {self.limit} under way, {self.waiting} waiting>"

    @property
    def limit(self) -> int | None:
        """How many may be under way now. `None` for any number."""
        return self._gate.concurrency.limit

    @property
    def in_flight(self) -> int:
        """How many are under way. More than `limit` after that has fallen."""
        return self._gate.concurrency.in_flight

    @property
    def waiting(self) -> int:
        """How many wait to start."""
        return len(self._line)

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        self._check_loop(context)
        tokens = estimated_tokens(request.body) if self._gate.tokens.is_bounded else 0
        within = longest_wait(context)
        if not await self._line.wait(partial(self._delay, context, tokens), within, context.clock):
            raise too_late(context, within, f"{self.in_flight} are under way, {self.waiting} wait")
        check_admission(context)
        slot = self._gate.enter(tokens, context.clock.monotonic())
        return await held(request, handler, context, _Held(self._gate, self._line, slot, context), self._first_event)

    def _delay(self, context: CallContext, tokens: int) -> float:
        return self._gate.delay(tokens, context.clock.monotonic())

    def _check_loop(self, context: CallContext) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None or not (self.in_flight or self.waiting):
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError("the limiter is in use on another event loop", context.model, phase="not_sent")


@dataclass(frozen=True, slots=True)
class _Held:
    """A slot of the gate. What changes there, the first in line has to look at."""

    gate: Gate
    line: Line
    slot: Slot
    context: CallContext

    def over(self, outcome: Outcome) -> None:
        self.gate.leave(self.slot, outcome, self.context.clock.monotonic())
        self.line.wake()

    def learn(self, headers: Mapping[str, str]) -> None:
        self.gate.learn(headers, self.context.clock.time(), self.context.clock.monotonic())
        self.line.wake()  # a limit that is found out may be higher than the one before

    def slow(self) -> None:
        self.gate.concurrency.throttled(self.slot.entered)
