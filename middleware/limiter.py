"""Bounds what is under way, and how fast it starts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from penstock.engine.errors import (
    ConfigurationError,
    ConnectError,
    ConnectTimeoutError,
    DeadlineExceededError,
    ModelEngineError,
    OverloadedError,
    QueueTimeoutError,
    RateLimitError,
    TLSError,
    WrongEventLoopError,
)
from penstock.engine.exchange import CallContext, context_of

from .breaker import check_admission
from .concurrency import AdaptiveConcurrency, Concurrency, fixed
from .line import NEVER, Line
from .outcome import Outcome, observed
from .places import LIMITER
from .policy import checked_seconds
from .rate_headers import rate_window
from .rates import PerMinute, Rate

_BYTES_PER_TOKEN = 4  # of English text; OpenAI's rule of thumb
_MAX_TOKENS = rb'"max_(?:completion_)?tokens" ?: ?([0-9]{1,9})'
_THROTTLES = (RateLimitError, OverloadedError, ConnectError, ConnectTimeoutError)


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
        self._options = fixed(concurrency) if isinstance(concurrency, int) else concurrency
        self._concurrency = Concurrency(self._options)
        self._requests = Rate("Limiter(requests_per_minute=...)", requests_per_minute, burst)
        self._tokens = Rate("Limiter(tokens_per_minute=...)", tokens_per_minute, burst)
        if self._options is None and not (self._requests.is_bounded or self._tokens.is_bounded):
            raise ConfigurationError("a Limiter without a limit does nothing: give it one, or leave it out")
        self._line = Line()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Limiter: {self.in_flight} of {self.limit} under way, {self.waiting} waiting>"

    @property
    def limit(self) -> int | None:
        """How many may be under way now. `None` for any number."""
        return self._concurrency.limit

    @property
    def in_flight(self) -> int:
        """How many are under way. More than `limit` after that has fallen."""
        return self._concurrency.in_flight

    @property
    def waiting(self) -> int:
        """How many wait to start."""
        return len(self._line)

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        self._check_loop(context)
        tokens = estimated_tokens(request.body) if self._tokens.is_bounded else 0
        await self._turn(context, tokens)
        check_admission(context)
        started = context.clock.monotonic()
        self._requests.take(1, started)
        self._tokens.take(tokens, started)
        slot = _Slot(self._concurrency.enter(), started, tokens)
        try:
            reply = await observed(request, handler, context, partial(self._leave, slot, context))
        except ModelEngineError as error:
            self._learn(error.headers, context)
            raise
        self._learn(reply.headers, context)
        await self._time_first_event(reply, slot, context)
        return reply

    async def _turn(self, context: CallContext, tokens: int) -> None:
        """Wait for a slot, and for what the rates give."""
        queue, left = context.timeouts.queue, context.time_left
        within = min(NEVER if queue is None else queue, NEVER if left is None else left)
        if await self._line.wait(partial(self._delay, context, tokens), within, context.clock):
            return
        error: ModelEngineError
        if left == within:
            error = DeadlineExceededError("the deadline came before the call's turn", phase="not_sent")
        else:
            told = f"{self.in_flight} are under way, {self.waiting} wait"
            error = QueueTimeoutError(f"the call's turn did not come within {queue:g} s: {told}", phase="not_sent")
        error.model_name, error.gateway = context.model, context.target.gateway
        raise error

    def _delay(self, context: CallContext, tokens: int) -> float:
        if not self._concurrency.has_room:
            return NEVER
        now = context.clock.monotonic()
        return max(self._requests.delay(1, now), self._tokens.delay(tokens, now))

    def _leave(self, slot: _Slot, context: CallContext, outcome: Outcome) -> None:
        """The attempt is over, in whatever way. Called once."""
        now = context.clock.monotonic()
        if outcome.is_success:
            self._concurrency.succeeded(slot.entered)
        elif is_throttle(outcome.error):
            self._concurrency.throttled(slot.entered)
        self._concurrency.leave()
        if outcome.usage is not None:
            self._tokens.settle(slot.tokens, outcome.usage.total_tokens, slot.started, now)
        elif outcome.error is not None and outcome.error.phase == "not_sent":
            self._requests.settle(1, 0, slot.started, now)
            self._tokens.settle(slot.tokens, 0, slot.started, now)
        self._line.wake()

    def _learn(self, headers: Mapping[str, str], context: CallContext) -> None:
        """Take over what the gateway says about its rates."""
        for kind, rate in (("requests", self._requests), ("tokens", self._tokens)):
            if rate.is_bounded and (window := rate_window(headers, kind, context.clock.time())) is not None:
                rate.learn(window, context.clock.monotonic())
        self._line.wake()  # a limit that is found out may be higher than the one before

    async def _time_first_event(self, reply: Any, slot: _Slot, context: CallContext) -> None:
        """Count a stream that is slow to begin as too much for the gateway."""
        seconds = None if self._options is None else self._options.first_event
        if seconds is None or not context.stream:
            return
        try:
            await reply.commit()  # what is outside of here waits for this in any case
        except BaseException:
            reply.release()
            raise
        if context.clock.monotonic() - slot.started > seconds:
            self._concurrency.throttled(slot.entered)

    def _check_loop(self, context: CallContext) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None or not (self.in_flight or self.waiting):
            self._loop = loop
        elif self._loop is not loop:
            raise WrongEventLoopError("the limiter is in use on another event loop", context.model, phase="not_sent")


@dataclass(frozen=True, slots=True)
class _Slot:
    """What one request holds.

    Args:
        entered: What `Concurrency.enter` gave.
        started: When it started.
        tokens: What was estimated.
    """

    entered: int
    started: float
    tokens: int


def is_throttle(error: ModelEngineError | None) -> bool:
    """Whether an error means that there was too much. A refused TLS handshake does not: it fails at any rate."""
    return isinstance(error, _THROTTLES) and not isinstance(error, TLSError)


def estimated_tokens(body: Any) -> int:
    """Tokens that a request may take: a quarter of its bytes, and what the body allows for the answer.

    Of a body that is not bytes, as on a plain aiohttp session, only the size is known, and of some not even that.
    """
    if not isinstance(body, bytes):
        return (getattr(body, "size", None) or 0) // _BYTES_PER_TOKEN
    found = re.search(_MAX_TOKENS, body)
    return len(body) // _BYTES_PER_TOKEN + (int(found[1]) if found else 0)
