"""Sends a request again when that can help, as long as no output has come."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.engine.errors import ConfigurationError, ModelEngineError, ServerError, type_name
from penstock.engine.exchange import PLAIN_SESSION, CallContext, context_of
from penstock.engine.failures import FOREIGN, translate
from penstock.engine.types import Attempt
from penstock.engine.verdict import Answer

from .idempotency import is_keyed
from .places import RETRY
from .policy import Ambiguous, AttemptsPolicy, Backoff, Decision, Policy, checked_seconds, forbidden, timed

if TYPE_CHECKING:
    from aiohttp_retry import RetryOptionsBase
    from tenacity import RetryCallState

MAX_WAIT = 120.0  # seconds; the openai SDK's bound on Retry-After


class Retry:
    """Repeats a failed request, with the same body and key, until its answer is committed.

    A stream is committed at its first meaningful event, a unary answer when it has been read and decoded. Until then
    an error status, a lost connection, an error event inside a success, an empty stream and a timeout are treated
    alike: by the advice of the verdict. After that nothing is sent again.

    The server's word comes first: ``x-should-retry``, then ``retry-after-ms`` or ``retry-after`` as the least time to
    wait; else the wait is a random share of an interval that doubles (`Backoff`). Told longer than `max_wait`, or
    than the deadline leaves, the error is raised at once and carries the wait in ``retry_after``. A policy of the
    user's may be stricter than the server, and never laxer: told not to repeat, or to wait, no policy does otherwise.

    Needs on the request: nothing. Adds: the waits and their reasons to the ledger. Runs the handler up to
    `max_attempts` times, and releases a failed answer before it waits. Belongs inside `Idempotency` and outside
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
        random: Callable[[], float] = _random.random,
    ) -> None:
        if max_attempts is not None and (type(max_attempts) is not int or max_attempts < 1):
            raise ConfigurationError(f"Retry(max_attempts=...) is a whole number from 1, not {max_attempts!r}")
        if ambiguous not in ("keyed", "never", "always"):
            raise ConfigurationError(f"Retry(ambiguous=...) is 'keyed', 'never' or 'always', not {ambiguous!r}")
        self._max_wait = checked_seconds("Retry(max_wait=...)", max_wait)
        self._ambiguous: Ambiguous = ambiguous
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

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        policy: Policy | None = None  # made after the first failure: a call that succeeds pays nothing for it
        attempt = 0
        while True:
            attempt += 1
            reply, raised, error = await self._attempt(request, handler, context)
            if error is None:
                return reply
            try:
                policy = policy or self._start(request, context)
                decision = await self._decide(error, attempt, request, context, policy)
                if context.attempts:  # there are none when it failed on the way to the first
                    context.attempts[-1].why = decision.why
                if not decision.again:
                    if raised is None:
                        return reply
                    raise context.stamp(raised) if isinstance(raised, ModelEngineError) else raised
            except BaseException:
                _release(reply)
                raise
            if context.attempts:
                context.attempts[-1].wait = decision.wait
            _release(reply)
            del reply, raised  # a failed answer is not held over the wait
            await policy.before_sleep(error, attempt, decision.wait)
            await context.clock.sleep(decision.wait)

    async def _attempt(
        self, request: Any, handler: Callable[[Any], Awaitable[Any]], context: CallContext
    ) -> tuple[Any, BaseException | None, ModelEngineError | None]:
        """One attempt: its reply, what it raised, and the failure as a typed error. No failure, and the reply
        stands.
        """
        entries, started = len(context.attempts), context.clock.monotonic()
        reply: Any = None
        raised: BaseException | None = None
        error: ModelEngineError | None
        try:
            reply = await handler(request)
            error = await self._committed(reply, context)
        except ModelEngineError as failure:
            raised = error = failure
        except FOREIGN as failure:
            if context.target is not PLAIN_SESSION:
                _release(reply)
                raise  # a bug of somebody's middleware: what is the network's has its type already
            raised, error = failure, translate(failure, "no_answer" if reply is None else "before_output")
        except BaseException:
            _release(reply)
            raise
        if error is not None and context.target is PLAIN_SESSION and len(context.attempts) == entries:
            _write_ledger(context, started, error)  # on a plain session nobody else does
        return reply, raised, error

    async def _committed(self, reply: Any, context: CallContext) -> ModelEngineError | None:
        """Wait for the answer to stand. The error when it is one by its status, as can be on a plain session."""
        if (commit := getattr(reply, "commit", None)) is not None:
            await commit()
        elif reply.status >= 400:
            return context.target.judge(Answer(reply.status, reply.headers, b"", context.clock.time()))
        evaluate = getattr(self._options, "evaluate_response_callback", None)
        if evaluate is not None and not await evaluate(reply):
            error = ServerError("the answer was turned down by evaluate_response_callback", status=reply.status)
            return context.stamp(error)
        return None

    async def _decide(
        self, error: ModelEngineError, attempt: int, request: Any, context: CallContext, policy: Policy
    ) -> Decision:
        why = forbidden(
            error,
            repeatable=context.operation.repeatable,
            keyed=context.operation.keys != "ignored" and is_keyed(request, context),
            ambiguous=self._ambiguous,
            once=context.operation.once,
        )
        if why is None and getattr(request.body, "consumed", False):  # a generator, on a plain session
            why = "the body of the request can be read only once"
        if why is None:
            why = await policy.gives_up(error, attempt)
        if why is not None:
            return Decision(False, why=why)
        wait = await policy.wait(error, attempt)
        return timed(wait, error, max_wait=self._max_wait, time_left=context.time_left, jitter=self._random())


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
