"""Whether a failed request is sent again, and when. Decisions are values: no clock, no socket, no sleep."""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.engine.errors import (
    AuthenticationError,
    ClockError,
    ConfigurationError,
    EmptyResponseError,
    IdempotencyInProgressError,
    ModelEngineError,
    OverloadedError,
    QueueTimeoutError,
    RateLimitError,
    StreamTruncatedError,
    TransportError,
)
from penstock.engine.hints import gateway_retries, should_retry

Ambiguous = Literal["keyed", "never", "always"]
"""What to do when the first request may have run: send again only with an idempotency key, never, or always."""

MAX_WAIT = 120.0  # seconds; the openai SDK's bound on Retry-After


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a random share of an interval that doubles (AWS Architecture Blog, "Exponential Backoff And
    Jitter").

    The wait before the n-th repetition is between 0 and ``min(maximum, initial * 2**(n - 1))`` seconds.

    Args:
        initial: Seconds, after failures that may pass at once.
        throttled: Seconds, after 429, 503 and 529, where an early repetition adds to the trouble.
        maximum: Seconds; no wait of ours is longer.

    Raises:
        ConfigurationError: One of them is not a number of seconds.
    """

    initial: float = 0.5
    throttled: float = 1.0
    maximum: float = 8.0  # the openai and anthropic SDKs' bound

    def __post_init__(self) -> None:
        for name in self.__slots__:
            checked_seconds(f"Backoff({name}=...)", getattr(self, name))

    def interval(self, error: ModelEngineError, attempt: int) -> float:
        """The longest wait after the `attempt`-th attempt (1 is the first) failed with `error`, in seconds."""
        first = self.throttled if is_throttled(error) else self.initial
        return float(min(self.maximum, first * 2 ** min(attempt - 1, 32)))


def is_throttled(error: ModelEngineError) -> bool:
    """Whether the gateway asks for less, so that an early repetition adds to the trouble."""
    return isinstance(error, (RateLimitError, OverloadedError, IdempotencyInProgressError))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a failure.

    Args:
        again: Whether to send again.
        wait: Seconds to wait before.
        why: The reason in a few words, for the ledger.
    """

    again: bool
    wait: float = 0.0
    why: str = ""


class Policy(Protocol):
    """What a user can replace: how often, on what, and how long to wait by ourselves."""

    async def gives_up(self, error: ModelEngineError, attempt: int) -> str | None:
        """Why not to send again after the `attempt`-th attempt (1 is the first) failed. `None` to go on."""
        ...

    async def wait(self, error: ModelEngineError, attempt: int) -> float:
        """Seconds to wait when the server gives no hint."""
        ...

    async def before_sleep(self, error: ModelEngineError, attempt: int, wait: float) -> None:
        """The call is about to wait."""
        ...


class AttemptsPolicy:
    """The default: a number of attempts, the advice on the error, and `Backoff`.

    Repetitions that the gateway says to have made behind its door count as attempts, unless it asks to come back
    later: tries over tries multiply (Site Reliability Engineering, "Handling Overload").

    Args:
        max_attempts: Requests in all, the first included. 1 turns repetition off.
        backoff: The waits.
        random: Gives numbers from 0 to below 1.
    """

    def __init__(
        self, max_attempts: int = 3, backoff: Backoff | None = None, random: Callable[[], float] = _random.random
    ) -> None:
        self.max_attempts = max_attempts
        self.backoff = backoff if backoff is not None else Backoff()
        self._random = random

    async def gives_up(self, error: ModelEngineError, attempt: int) -> str | None:
        if (final := advised_against(error)) is not None:
            return final
        if error.advice == "once" and attempt > 1:
            return "it has been tried once more already"
        behind = gateway_retries(error.headers)
        if behind and not error.retry_after and attempt + behind >= self.max_attempts:
            return f"{attempt} attempts were made, and the gateway has tried again by itself"
        return f"{attempt} attempts were made" if attempt >= self.max_attempts else None

    async def wait(self, error: ModelEngineError, attempt: int) -> float:
        if error.advice == "now" and attempt == 1:
            return 0.0
        if error.retry_after:
            return 0.0  # the server knows better; a hint of 0 comes with errors that never pass, and tells nothing
        return self._random() * self.backoff.interval(error, attempt)

    async def before_sleep(self, error: ModelEngineError, attempt: int, wait: float) -> None:
        return None


def advised_against(error: ModelEngineError) -> str | None:
    """Why the verdict itself speaks against sending again. `None` when it does not."""
    if isinstance(error, QueueTimeoutError):
        return "the time to wait for a slot is used up"
    if error.advice in ("now", "after", "once", "keyed", "wait_in_progress"):
        return None
    return {"refresh_auth": "the credential was refused", "reroute": "another route would be needed"}.get(
        error.advice, "the failure is final"
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision depends on, beside the failure itself.

    Args:
        attempt: The attempt that failed; 1 is the first.
        repeatable: Whether running the request twice does no harm.
        keyed: Whether it carries an idempotency key that the gateway is not known to ignore.
        once: Whether running it twice does harm whatever the rule.
        restart: Whether the reader of a stream that broke off wants it from its beginning.
        time_left: Seconds to the deadline. `None` when there is none.
        budget: Tokens that are left for sending again.
        price: Tokens that sending again would take.
    """

    attempt: int = 1
    repeatable: bool = False
    keyed: bool = False
    once: bool = False
    restart: bool = False
    time_left: float | None = None
    budget: float = math.inf
    price: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What no policy can override.

    Args:
        max_wait: Seconds; the longest hint of a server to follow.
        ambiguous: What to do when the first request may have run.
    """

    max_wait: float = MAX_WAIT
    ambiguous: Ambiguous = "keyed"


def decide(
    error: ModelEngineError, facts: Facts, rules: Rules, *, gives_up: str | None, wait: float, jitter: float
) -> Decision:
    """Whether to send again, and when.

    Args:
        error: The failure.
        facts: The circumstances.
        rules: What holds whatever the policy says.
        gives_up: Why the policy does not want to. `None` when it does.
        wait: Seconds the policy would wait.
        jitter: From 0 to 1, see `timed`.
    """
    why = forbidden(error, facts, rules.ambiguous) or gives_up
    if why is not None:
        return Decision(False, why=why)
    decision = timed(wait, error, max_wait=rules.max_wait, time_left=facts.time_left, jitter=jitter)
    if decision.again and facts.price > facts.budget:
        why = f"the retry budget is used up ({facts.budget:g} tokens are left, {facts.price:g} are needed)"
        return Decision(False, decision.wait, why)
    return decision


def forbidden(error: ModelEngineError, facts: Facts, ambiguous: Ambiguous) -> str | None:
    """Why no policy may send again. `None` when it may.

    After output has come nothing is sent again that the reader has not asked for, nor when the server says not to.
    When the first request may have run, a second one can charge twice: it is sent only when it does no harm, or by the
    rule for ambiguous failures. Who asks for a restart has chosen to pay twice.
    """
    if error.phase == "after_output" and not facts.restart:
        return "output had already come"
    if should_retry(error.headers) is False:
        return "the server says not to send it again"
    if facts.once and not has_not_run(error):
        return "it may have run, and must not run twice"
    if not may_have_run(error) or facts.repeatable or ambiguous == "always" or (ambiguous == "keyed" and facts.keyed):
        return None
    protection = "no idempotency key protects it" if ambiguous == "keyed" else "the rule is never to risk a second"
    return f"the first request may have run, and {protection}"


def has_not_run(error: ModelEngineError) -> bool:
    """Whether the request surely was not carried out: it was not sent, or turned away at the door.

    A 408 is about time, and a 409 may be about a first request that runs.
    """
    if error.phase == "not_sent" or isinstance(error, (RateLimitError, AuthenticationError)):
        return True
    return error.phase == "rejected" and 400 <= (error.status or 0) < 500 and error.status not in (408, 409)


def may_have_run(error: ModelEngineError) -> bool:
    """Whether the request was sent and its outcome is unknown: no answer, an empty one, or one that broke off."""
    if error.phase == "no_answer" or error.advice == "keyed":
        return True
    unknown = (TransportError, ClockError, StreamTruncatedError, EmptyResponseError)
    return error.phase == "before_output" and isinstance(error, unknown)


def timed(wait: float, error: ModelEngineError, *, max_wait: float, time_left: float | None, jitter: float) -> Decision:
    """The wait by the server's hint and the time there is.

    A hint is a lower bound: never earlier than told. Told longer than `max_wait`, or than the deadline leaves, there
    is no use in waiting at all: the error is raised at once, with the hint on it.

    Args:
        wait: Seconds that the policy would wait; what is no number counts as 0.
        error: The failure, with `retry_after`.
        max_wait: Seconds; the longest hint to follow.
        time_left: Seconds to the deadline. `None` when there is none.
        jitter: From 0 to 1; a hint is stretched by up to a tenth, so that all who were told the same do not come back
            at once.
    """
    hint = error.retry_after or 0.0
    if hint > max_wait:
        return Decision(
            False, hint, f"asked to wait {hint:g} s, longer than the {max_wait:g} s that are waited at most"
        )
    least = max(0.0, wait, hint)
    wait = max(least, hint * (1 + jitter / 10))
    if time_left is not None and least < time_left <= wait:
        wait = least  # the jitter is ours, and must not be what breaks the deadline
    if time_left is not None and wait >= time_left:
        return Decision(False, wait, f"the wait of {wait:.3g} s would pass the deadline")
    why = f"told to wait {hint:g} s" if hint and hint == least else "backed off"
    return Decision(True, wait, why)


def checked_seconds(name: str, value: object) -> float:
    """A number of seconds from 0 to 30 years.

    Raises:
        ConfigurationError: It is something else; `name` says what.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9:
        return value
    raise ConfigurationError(f"{name} is a number of seconds from 0, not {value!r:.80}")
