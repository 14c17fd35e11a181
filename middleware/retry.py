"""Sends a request again when that can help, as long as no output has come."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from yarl import URL

from penstock.engine.errors import ConfigurationError, ModelEngineError, ServerError, type_name
from penstock.engine.exchange import PLAIN_SESSION, CallContext, context_of
from penstock.engine.failures import FOREIGN, translate
from penstock.engine.types import Attempt
from penstock.engine.verdict import Answer

from .budget import RetryBudget
from .idempotency import is_keyed
from .places import RETRY
from .policy import (
    MAX_WAIT,
    Ambiguous,
    AttemptsPolicy,
    Backoff,
    Decision,
    Facts,
    Policy,
    Rules,
    checked_seconds,
    decide,
    forbidden,
    has_not_run,
    may_have_run,
)

if TYPE_CHECKING:
    from aiohttp_retry import RetryOptionsBase
    from tenacity import RetryCallState

COUNT_HEADER = "X-Stainless-Retry-Count"
"""How many attempts came before this one, as the openai SDK tells it; sent with repetitions."""


class Retry:
    """Repeats a failed request, with the same body and key, until its answer is committed.

    A stream is committed at its first meaningful event, a unary answer when it has been read and decoded. Until then
    an error status, a lost connection, an error event inside a success, an empty stream and a timeout are treated
    alike: by the advice of the verdict. After that nothing is sent again.

    The server's word comes first: ``x-should-retry``, then ``retry-after-ms`` or ``retry-after`` as the least time to
    wait; else the wait is a random share of an interval that doubles (`Backoff`). Told longer than `max_wait`, or
    than the deadline leaves, the error is raised at once and carries the wait in ``retry_after``. A policy of the
    user's may be stricter than the server, and never laxer: told not to repeat, or to wait, no policy does otherwise.

    Repetitions are paid from a `RetryBudget`, so that a gateway in trouble is not asked three times as much. Each
    tells the gateway how many came before it (``X-Stainless-Retry-Count``, the openai SDK's header), and repetitions
    that a gateway says to have made by itself count as attempts.

    Needs on the request: nothing. Adds: the count, and the waits and their reasons to the ledger. Runs the handler up
    to `max_attempts` times, and releases a failed answer before it waits. Belongs inside `Idempotency` and outside
    `Auth` and `Classify`.

    On a plain aiohttp session an error event inside a success cannot be seen, and a body that can be read only once
    (a generator) is sent once. Without `Classify` there, the status decides, and the last answer or exception is given
    on as it is; aiohttp itself then sends a read once more after a lost connection.

    Args:
        policy: An option object of aiohttp-retry (``ExponentialRetry(...)``, ...): its attempts, statuses, exceptions,
            methods and waits are used. Its ``evaluate_response_callback`` is asked about each success, in the engine
            with the `Reply`; a success it turns down at the last attempt is given back.
        max_attempts: Requests in all, the first included. 1 turns repetition off.
        backoff: The waits when the server gives no hint.
        max_wait: Seconds; the longest hint of a server to follow.
        ambiguous: What to do when the first request may have run: ``"keyed"`` sends it again only with an idempotency
            key, ``"never"`` and ``"always"`` do as they say. Reads are always sent again.
        stop: tenacity's, in place of `max_attempts`.
        wait: tenacity's, in place of `backoff`.
        retry: tenacity's, in place of the advice of the verdict. It is asked with the typed error as the outcome.
        before_sleep: tenacity's, called before each wait.
        budget: What repetitions are paid from. `None` makes one for each origin.
        random: Gives numbers from 0 to below 1.

    Raises:
        ConfigurationError: An option cannot work, or options exclude each other.
    """

    place: ClassVar[int] = RETRY

    def __init__(
        self,
        policy: RetryOptionsBase | None = None,
        *,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        max_wait: float = MAX_WAIT,
        ambiguous: Ambiguous = "keyed",
        stop: Callable[[RetryCallState], bool] | None = None,
        wait: Callable[[RetryCallState], float] | None = None,
        retry: Callable[[RetryCallState], bool | Awaitable[bool]] | None = None,
        before_sleep: Callable[[RetryCallState], Awaitable[None] | None] | None = None,
        budget: RetryBudget | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if max_attempts is not None and (type(max_attempts) is not int or max_attempts < 1):
            raise ConfigurationError(f"Retry(max_attempts=...) is a whole number from 1, not {max_attempts!r}")
        if ambiguous not in ("keyed", "never", "always"):
            raise ConfigurationError(f"Retry(ambiguous=...) is 'keyed', 'never' or 'always', not {ambiguous!r}")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise ConfigurationError(f"Retry(backoff=...) is a Backoff, not {backoff!r:.80}")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise ConfigurationError(f"Retry(budget=...) is a RetryBudget, not {budget!r:.80}")
        if not callable(random):
            raise ConfigurationError(
                f"Retry(random=...) is a function that gives numbers from 0 to 1, not {random!r:.80}"
            )
        self._rules = Rules(checked_seconds("Retry(max_wait=...)", max_wait), ambiguous)
        self._budget = budget
        self._budgets: dict[URL, RetryBudget] = {}
        self._random = random
        self._options = policy
        tenacity_objects = {"stop": stop, "wait": wait, "retry": retry, "before_sleep": before_sleep}
        is_tenacity = any(option is not None for option in tenacity_objects.values())
        default = AttemptsPolicy(3 if max_attempts is None else max_attempts, backoff, random)
        self._start: Callable[[Any, CallContext], Policy]
        if policy is not None:
            if max_attempts is not None or backoff is not None or is_tenacity:
                raise ConfigurationError("Retry takes an aiohttp-retry policy or its own options, not both")
            self._start = _aiohttp_retry_policy(policy)
        elif is_tenacity:
            self._start = _tenacity_policy(default, tenacity_objects)
        else:
            self._start = lambda request, context: default

    @property
    def ambiguous(self) -> Ambiguous:
        """What it does when the first request may have run."""
        return self._rules.ambiguous

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        course = _Course(request, context, self._budget_of(request.url))
        if (broken := context.broken) is not None:  # the stream is wanted from its beginning: that is a repetition, too
            context.broken = None
            course.attempt = len(context.attempts)
            decision = await self._decide(broken, course, restart=True)
            if not decision.again:
                raise context.stamp(broken)
            await course.wait(broken, decision)
        while True:
            course.attempt += 1
            reply, raised, error = await self._attempt(request, handler, context)
            course.note(error)
            if error is None:
                return reply
            try:
                decision = await self._decide(error, course)
                if not decision.again:
                    if raised is None:
                        return reply
                    try:
                        raise context.stamp(raised) if isinstance(raised, ModelEngineError) else raised
                    finally:
                        del raised, error, course  # they hold this frame, and with it the request
            except BaseException:
                _release(reply)
                raise
            _release(reply)
            del reply, raised  # a failed answer is not held over the wait
            await course.wait(error, decision)

    async def _attempt(
        self, request: Any, handler: Callable[[Any], Awaitable[Any]], context: CallContext
    ) -> tuple[Any, BaseException | None, ModelEngineError | None]:
        """One attempt: its reply, what it raised, and the failure as a typed error. No failure, and the reply
        stands.
        """
        is_plain = context.target is PLAIN_SESSION
        entries, started = len(context.attempts), context.clock.monotonic() if is_plain else 0.0
        reply: Any = None
        raised: BaseException | None = None
        error: ModelEngineError | None
        try:
            reply = await handler(request)
            if not is_plain:
                await reply.commit()
            error = await self._turned_down(reply, context) if is_plain or self._options is not None else None
        except ModelEngineError as failure:
            raised = error = failure
        except FOREIGN as failure:
            if not is_plain:
                _release(reply)
                raise  # a bug of somebody's middleware: what is the network's has its type already
            raised, error = failure, translate(failure, "no_answer" if reply is None else "before_output")
        except BaseException:
            _release(reply)
            raise
        if error is not None and is_plain and len(context.attempts) == entries:
            _write_ledger(context, started, error)  # on a plain session nobody else does
        try:
            return reply, raised, error
        finally:
            del raised, error  # as above

    async def _turned_down(self, reply: Any, context: CallContext) -> ModelEngineError | None:
        """The error when a reply is one by its status, as can be on a plain session, or by the user's policy."""
        if context.target is PLAIN_SESSION and reply.status >= 400:
            return context.target.judge(Answer(reply.status, reply.headers, b"", context.clock.time()))
        evaluate = getattr(self._options, "evaluate_response_callback", None)
        if evaluate is not None and not await evaluate(reply):
            error = ServerError("the answer was turned down by evaluate_response_callback", status=reply.status)
            return context.stamp(error)
        return None

    async def _decide(self, error: ModelEngineError, course: _Course, *, restart: bool = False) -> Decision:
        """Whether to send again, with the reason written into the ledger."""
        course.policy = course.policy or self._start(course.request, course.context)
        facts, attempt = course.facts(error, restart=restart), course.attempt
        gives_up = forbidden(error, facts, self._rules.ambiguous)
        if gives_up is None and getattr(course.request.body, "consumed", False):  # a generator, on a plain session
            gives_up = "the body of the request can be read only once"
        if gives_up is None:
            gives_up = await course.policy.gives_up(error, attempt)
        wait = jitter = 0.0
        if gives_up is None:
            wait, jitter = await course.policy.wait(error, attempt), self._random()
        decision = decide(error, facts, self._rules, gives_up=gives_up, wait=wait, jitter=jitter)
        if course.context.attempts:  # there are none when it failed on the way to the first
            course.context.attempts[-1].why = decision.why
        return decision

    def _budget_of(self, url: URL) -> RetryBudget:
        if self._budget is not None:
            return self._budget
        origin = url.origin()
        budget = self._budgets.get(origin)
        if budget is None:
            budget = self._budgets[origin] = RetryBudget()
        return budget


class _Course:
    """The attempts of one call, as they go."""

    __slots__ = ("_budget", "_is_doubtful", "_paid", "attempt", "context", "policy", "request")

    def __init__(self, request: Any, context: CallContext, budget: RetryBudget) -> None:
        self.request = request
        self.context = context
        self.attempt = 0
        self.policy: Policy | None = None  # made after the first failure: a call that succeeds pays nothing for it
        self._budget = budget
        self._paid: float | None = None  # tokens, for the last repetition
        self._is_doubtful = False  # whether an attempt may have run whose answer did not come

    def facts(self, error: ModelEngineError, *, restart: bool) -> Facts:
        operation = self.context.operation
        return Facts(
            self.attempt,
            repeatable=operation.repeatable,
            keyed=operation.keys != "ignored" and is_keyed(self.request, self.context),
            once=operation.once,
            restart=restart,
            time_left=self.context.time_left,
            budget=self._budget.left,
            price=self._budget.price(error),
        )

    def note(self, error: ModelEngineError | None) -> None:
        """An attempt is over: with an answer, or with this failure."""
        if self._is_doubtful and self.context.attempts and (error is None or not has_not_run(error)):
            self.context.attempts[-1].possibly_duplicated = True
        if error is None:
            self._budget.give_back(self._paid)

    async def wait(self, error: ModelEngineError, decision: Decision) -> None:
        """Prepare the next attempt, and wait for its time."""
        context, operation = self.context, self.context.operation
        if context.attempts:
            entry = context.attempts[-1]  # of the last request: what failed after it may never have been one
            entry.wait = (entry.wait or 0.0) + decision.wait
        is_protected = operation.repeatable or (operation.keys == "honoured" and is_keyed(self.request, context))
        self._is_doubtful |= not is_protected and (may_have_run(error) or error.phase == "after_output")
        if context.notes.setdefault(COUNT_HEADER, COUNT_HEADER not in self.request.headers):
            self.request.headers[COUNT_HEADER] = str(self.attempt)
        self._paid = self._budget.price(error)
        self._budget.take(self._paid)
        assert self.policy is not None
        await self.policy.before_sleep(error, self.attempt, decision.wait)
        await context.clock.sleep(decision.wait)


def _release(reply: Any) -> None:
    if reply is not None:
        reply.release()


def _write_ledger(context: CallContext, started: float, error: ModelEngineError) -> None:
    number = len(context.attempts) + 1
    entry = Attempt(
        number, started, context.clock.monotonic(), error.status, error.request_id, type_name(error), error.phase
    )
    context.attempts.append(entry)


def _aiohttp_retry_policy(options: RetryOptionsBase) -> Callable[[Any, CallContext], Policy]:
    from .aiohttp_retry_policy import AiohttpRetryPolicy

    AiohttpRetryPolicy.check(options)
    return lambda request, context: AiohttpRetryPolicy(options, request.method)


def _tenacity_policy(default: AttemptsPolicy, objects: Mapping[str, Any]) -> Callable[[Any, CallContext], Policy]:
    for name, option in objects.items():
        if option is not None and (isinstance(option, type) or not callable(option)):
            raise ConfigurationError(f"Retry({name}=...) takes an object of tenacity, or a function, not {option!r}")
    from .tenacity_policy import TenacityPolicy

    return lambda request, context: TenacityPolicy(default, context, **objects)
