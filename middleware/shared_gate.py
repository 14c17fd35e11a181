"""One gate for many processes: those who wait here, and the calls to Redis that let them through."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from penstock.engine.errors import ConfigurationError, ModelEngineError, copied

from .gate import Gate, Slot
from .line import NEVER
from .outcome import Outcome
from .rate_headers import rate_window
from .shared_limits import SharedLimits, share_of_window
from .shared_state import LONG_AGO, UNKNOWN_ENTRY, Answer, Question, RateAsked, Unsaid
from .shared_store import SharedStore, StoreAwayError

_log = logging.getLogger("penstock.middleware.shared_limiter")

_ROUND = 0.002  # seconds between two calls; what comes meanwhile goes together
_REPORT = 0.01  # seconds for which what nobody waits for may stay unsaid
_POLL = (0.025, 0.075)  # seconds until who waits for a slot of another process asks again
_RETURN = (0.5, 1.0)  # seconds until Redis is tried again
_AT_A_TIME = 100  # requests that one call asks for


@dataclass(frozen=True, slots=True)
class SharedSlot:
    """What one request holds, and in which spell of having Redis, or not having it, it got that."""

    slot: Slot
    spell: int


@dataclass(slots=True, eq=False)
class _Waiter:
    tokens: int
    turn: asyncio.Future[SharedSlot | None]

    def give_up(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


class SharedGate:
    """Who wants to start stands in a line here; one task speaks with Redis for all of them.

    A call to Redis carries whatever has gathered since the last one. While Redis cannot be asked the process takes its
    share of the limits by itself, and tries to come back.

    Attributes:
        in_flight: How many are under way here.
        is_alone: Whether Redis could not be asked when it was last tried.
        outages: How many times it has been found away.
        started_alone: How many have started without it.
        heard: What it said last. `None` before it has said anything.
    """

    def __init__(self, store: SharedStore, limits: SharedLimits, lease: float) -> None:
        self.in_flight = 0
        self.is_alone = False
        self.outages = 0
        self.started_alone = 0
        self.heard: Answer | None = None
        self._store = store
        self._limits = limits
        self._lease = lease
        self._worker = uuid.uuid4().hex
        self._line: OrderedDict[_Waiter, None] = OrderedDict()
        self._unsaid = Unsaid(*limits.asked())
        self._has_news = False  # something Redis does not know
        self._is_stirred = False  # something that can let the first in line through
        self._spell = 0
        self._loop: asyncio.AbstractEventLoop  # from the first `enter` on
        self._alone = limits.alone(None, 0, 0.0)  # of use only while `is_alone`
        self._rounds: asyncio.Task[None] | None = None
        self._return: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return len(self._line)

    async def enter(self, tokens: int, within: float) -> SharedSlot | None:
        """Wait for one's turn, at most so many seconds. `None` when it did not come.

        Cancelling leaves the line, wherever one stands in it.
        """
        self._loop = loop = asyncio.get_running_loop()
        waiter = _Waiter(tokens, loop.create_future())
        self._line[waiter] = None
        if len(self._line) == 1:
            self._stir()
        timer = None if within == NEVER else loop.call_later(within, waiter.give_up)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            turn = waiter.turn
            if not turn.cancelled() and turn.exception() is None and (slot := turn.result()) is not None:
                self.leave(slot, _NOT_SENT)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if self._line.pop(waiter, waiter) is None:
                self._stir()  # who comes next may want less

    def leave(self, held: SharedSlot, outcome: Outcome) -> None:
        """A request is over, in whatever way. Once for each."""
        self.in_flight -= 1
        slot = held.slot
        if held.spell != self._spell:
            slot = replace(slot, entered=UNKNOWN_ENTRY, started=LONG_AGO)
        if self.is_alone:
            self._alone.leave(slot, outcome, self._loop.time())
        else:
            self._unsaid.over(slot, outcome)
        self._stir()

    def slow(self, held: SharedSlot) -> None:
        """A stream was slower to begin than it may be."""
        if held.spell == self._spell:
            throttled = self._alone.concurrency.throttled if self.is_alone else self._unsaid.throttled.add
            throttled(held.slot.entered)

    def learn(self, headers: Mapping[str, str], received: float) -> None:
        """The gateway has said this, in an answer received at this Unix time."""
        for kind in ("requests", "tokens"):
            asked: RateAsked = getattr(self._unsaid, kind)
            if not asked.follows or (window := rate_window(headers, kind, received)) is None:
                continue
            if self.is_alone:
                share = share_of_window(window, self._limits.share_of(self.heard))
                getattr(self._alone, kind).learn(share, self._loop.time())
            else:
                asked.window = window
            self._stir()

    async def aclose(self) -> None:
        """Tell Redis what it does not know yet, and close the connection to it. Who still waits opens it again."""
        for task in (self._return, self._rounds):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        if self._has_news and not self.is_alone:
            with suppress(StoreAwayError, ConfigurationError):
                await self._store.ask(self._question(()))
        await self._store.aclose()
        if self._line or self.in_flight:
            self._stir()

    def _stir(self) -> None:
        """Something has happened that the rounds have to see."""
        self._has_news = self._is_stirred = True
        if self._loop.is_closed():  # a reply that outlived it is being collected
            return
        if self._nap is not None:
            _wake(self._nap)
        if self._rounds is None or self._rounds.done():
            self._rounds = self._loop.create_task(self._go_round())
        if self.is_alone and (self._return is None or self._return.done()):
            self._return = self._loop.create_task(self._come_back())

    @property
    def _is_busy(self) -> bool:
        return bool(self._line or self.in_flight or self._has_news)

    async def _go_round(self) -> None:
        try:
            while self._is_busy:
                began = self._loop.time()
                self._is_stirred = False
                wait = self._let_in_alone() if self.is_alone else await self._let_in()
                await self._pause(began, self._loop.time() + wait)
        except Exception as error:
            self._fail(error)

    async def _pause(self, began: float, turn: float) -> None:
        """Wait until the next round is due. What happens meanwhile can make that sooner."""
        while self._is_busy and (seconds := self._due(began, turn) - self._loop.time()) > 0:
            self._nap = self._loop.create_future()
            timer = self._loop.call_later(seconds, _wake, self._nap)
            try:
                await self._nap
            finally:
                timer.cancel()

    def _due(self, began: float, turn: float) -> float:
        if self._line and self._is_stirred:
            return began + _ROUND
        due = began + self._lease / 3  # two of three may be lost
        if self._line:
            due = min(due, turn)
        return min(due, began + _REPORT) if self._has_news else due

    async def _let_in(self) -> float:
        """Ask Redis. Returns seconds until the first in line should ask again."""
        waiters = list(islice(self._line, _AT_A_TIME))
        question = self._question([waiter.tokens for waiter in waiters])
        try:
            answer = await self._store.ask(question)
        except StoreAwayError as error:
            self._lose(question, error)
            return self._let_in_alone()
        self.heard = answer
        for waiter in waiters[: answer.granted]:
            self._start(waiter, Slot(answer.entered, answer.now, waiter.tokens))
        return random.uniform(*_POLL) if answer.wait == NEVER else answer.wait

    def _let_in_alone(self) -> float:
        """Take the share of one. Returns seconds until the first in line should look again."""
        now = self._loop.time()
        self._has_news = False
        while self._line:
            waiter = next(iter(self._line))
            if (wait := self._alone.delay(waiter.tokens, now)) > 0:
                return wait
            self.started_alone += 1
            self._start(waiter, self._alone.enter(waiter.tokens, now))
        return NEVER

    def _start(self, waiter: _Waiter, slot: Slot) -> None:
        self._line.pop(waiter, None)
        self.in_flight += 1
        held = SharedSlot(slot, self._spell)
        if waiter.turn.done():  # it has left the line while Redis was asked
            self.leave(held, _NOT_SENT)
        else:
            waiter.turn.set_result(held)

    def _question(self, wanted: list[int] | tuple[()]) -> Question:
        said, self._unsaid = self._unsaid, Unsaid(*self._limits.asked())
        self._has_news = False
        return Question(
            self._worker,
            self._lease,
            self.in_flight,
            wanted,
            self._limits.concurrency,
            said.requests,
            said.tokens,
            said.succeeded,
            sorted(said.throttled),
        )

    def _lose(self, question: Question, error: StoreAwayError) -> None:
        """Redis is away. What it may not have heard counts here, as far as that is more and not less."""
        now = self._loop.time()
        self.is_alone, self._spell = True, self._spell + 1
        self.outages += 1
        self._alone = self._limits.alone(self.heard, self.in_flight, now)
        _owe(self._alone, question, now)
        workers = self._limits.share_of(self.heard)
        _log.warning(
            "Redis is away (%s): this process takes 1/%d of the shared limits by itself until it is back",
            error,
            workers,
        )
        self._stir()

    async def _come_back(self) -> None:
        """Try Redis again, until it answers or nobody needs it."""
        while self._is_busy:
            await asyncio.sleep(random.uniform(*_RETURN))
            try:
                self.heard = await self._store.ask(self._question(()))
            except StoreAwayError:
                continue
            except ConfigurationError as error:
                self._fail(error)
                return
            now = self._loop.time()
            for kind in ("requests", "tokens"):
                if missing := getattr(self._alone, kind).missing(now):
                    getattr(self._unsaid, kind).settled.append((LONG_AGO, 0, missing))
            self.is_alone, self._spell = False, self._spell + 1
            _log.info("Redis is back: the limits are shared again")
            self._stir()
            return

    def _fail(self, error: Exception) -> None:
        """Nobody who waits can be let in."""
        self._has_news = False
        while self._line:
            waiter, _ = self._line.popitem(last=False)
            if not waiter.turn.done():
                waiter.turn.set_exception(copied(error) if isinstance(error, ModelEngineError) else error)


_NOT_SENT = Outcome(ModelEngineError("the call was given up", phase="not_sent"))


def _owe(gate: Gate, question: Question, now: float) -> None:
    for rate, asked in ((gate.requests, question.requests), (gate.tokens, question.tokens)):
        for _, taken, amount in asked.settled:
            if amount > taken:
                rate.take(amount - taken, now)


def _wake(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
