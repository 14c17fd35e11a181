"""One attempt on the wire.

It knows aiohttp, clocks and bounds. It does not know gateways: what the bytes mean is the decoder's matter, and
whether to try again is Retry's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from weakref import WeakSet

import aiohttp

from .errors import (
    ConfigurationError,
    DeadlineExceededError,
    EngineClosedError,
    FirstEventTimeoutError,
    ModelEngineError,
    WrongEventLoopError,
    type_name,
)
from .exchange import CallContext, Exchange
from .failures import FOREIGN, translate
from .pool import Linger
from .reply import TransportReply
from .session import GivenSession, OwnSession, Session
from .timers import NEVER, TaskLimit, Watchdog
from .types import Attempt

MAX_BODY_BYTES = 64 * 1024 * 1024  # of a unary answer: 2,048 base64 embeddings of 4,096 numbers are 45 MB
_LAST_WORD = 0.01  # seconds for who waits at the deadline to say for what, before the call is ended over its head


@dataclass(frozen=True)
class _Opened:
    """What exists while the engine runs."""

    session: Session
    watchdog: Watchdog
    linger: Linger


class Transport:
    """Makes attempts over one aiohttp session.

    Args:
        session: The user's session, used as it is and left open. `None` makes one of our own.
        max_body_bytes: Bound on a unary body, decompressed.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_body_bytes = max_body_bytes
        self._given = session
        self._opened: _Opened | None = None
        self._sending: set[TaskLimit] = set()
        self._replies: WeakSet[TransportReply] = WeakSet()  # one that everybody has lost is closed by its `__del__`

    def start(self) -> None:
        """Open the session, on the running loop.

        Raises:
            ConfigurationError: The given session is closed.
            WrongEventLoopError: The given session belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        watchdog = Watchdog(loop)
        linger = Linger(watchdog)
        given = self._checked(loop)
        session = OwnSession(linger, watchdog) if given is None else GivenSession(given)
        self._opened = _Opened(session, watchdog, linger)

    async def stop(self) -> None:
        """End what is under way, then close the session, if it is ours."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        for limit in tuple(self._sending):
            limit.interrupt(EngineClosedError("the engine was stopped before an answer came", phase="no_answer"))
        for reply in tuple(self._replies):
            reply.abandon(EngineClosedError("the engine was stopped while the answer was being read"))
        opened.linger.close()
        opened.watchdog.close()
        await opened.session.close()

    async def __call__(self, exchange: Exchange) -> TransportReply:
        """Send the request and wait for the head of the answer, whatever its status.

        Raises:
            TransportError: No connection, or it was lost; `phase` says how far it got.
            ClockError: `Timeouts.connect`, `write`, `first_event`, `answer` or `deadline` ran out.
            EngineClosedError: The engine was stopped, before or meanwhile.
        """
        context = exchange.context
        opened = self._opened
        if opened is None:
            raise context.stamp(EngineClosedError("the engine has been stopped", phase="not_sent"))
        if opened.session.closed:
            raise context.stamp(EngineClosedError("the session the engine was given has been closed", phase="not_sent"))
        clock = context.clock
        attempt = Attempt(len(context.attempts) + 1, clock.monotonic())
        context.attempts.append(attempt)
        limit = _limit(exchange, opened.watchdog)
        self._sending.add(limit)
        error: ModelEngineError | None = None
        try:
            with limit:
                send = partial(opened.session.send, exchange)
                response = await (send() if context.wire is None else context.wire(send))
                attempt.status = response.status
                attempt.request_id = context.shown_id(response.headers.get("x-request-id"))
                return TransportReply(
                    exchange,
                    response,
                    attempt,
                    linger=opened.linger,
                    watchdog=opened.watchdog,
                    replies=self._replies,
                    max_body_bytes=self.max_body_bytes,
                )
        except ModelEngineError as ours:
            error = ours  # of a middleware in the user's session
        except FOREIGN as foreign:
            error = translate(foreign, "no_answer")
        except BaseException as other:
            attempt.error, attempt.phase = type_name(other), "no_answer"
            raise
        finally:
            self._sending.discard(limit)
            if attempt.status is None:
                attempt.ended = clock.monotonic()
        error = limit.error or error
        assert error is not None
        # Raised outside of the except block: the context would hold aiohttp's request with its headers.
        try:
            raise context.stamp(error)
        finally:
            del error, limit  # they hold this frame, and with it the request

    def limited(self, context: CallContext) -> TaskLimit:
        """A limit at the deadline of a call, whatever it waits for; it can be interrupted before."""
        assert self._opened is not None
        watchdog, left = self._opened.watchdog, context.time_left
        due = NEVER if left is None else watchdog.time() + left + _LAST_WORD
        return TaskLimit(watchdog, due, _too_late)

    def _checked(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession | None:
        """The session we were given, if it can be used on this loop."""
        if self._given is not None:
            if self._given.closed:
                raise ConfigurationError("the session given as session= is closed")
            if getattr(self._given, "_loop", loop) is not loop:
                raise WrongEventLoopError("the session given as session= belongs to another event loop")
        return self._given


def _too_late() -> ModelEngineError:
    return DeadlineExceededError("the call took longer than its deadline allows")


def _limit(exchange: Exchange, watchdog: Watchdog) -> TaskLimit:
    """Bounds connecting, writing the request and waiting for the head together."""
    context = exchange.context
    now = watchdog.time()
    left = context.time_left
    deadline = NEVER if left is None else now + left
    seconds = context.timeouts.until_head(stream=context.stream)
    silence = NEVER if seconds is None else now + seconds

    def make_error() -> ModelEngineError:
        if deadline <= silence:
            return DeadlineExceededError("the call took longer than its deadline allows", phase="no_answer")
        return FirstEventTimeoutError(f"the gateway sent no answer within {seconds:g} s", phase="no_answer")

    return TaskLimit(watchdog, min(deadline, silence), make_error)
