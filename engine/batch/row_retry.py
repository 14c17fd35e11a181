"""Whether a row whose call has failed is tried again, and when. Decisions are values: nothing here waits."""

from __future__ import annotations

import random as _random
from collections.abc import Callable
from dataclasses import dataclass

from penstock.middleware.policy import (
    Ambiguous,
    Backoff,
    Decision,
    Facts,
    Rules,
    advised_against,
    checked_seconds,
    decide,
)

from ..errors import ConfigurationError, ModelEngineError, QueueTimeoutError

DEFAULT_ATTEMPTS = 3  # calls, each of which the engine tries three times by itself
_BACKOFF = Backoff(2.0, 5.0, 60.0)
MAX_WAIT = 3600.0  # seconds; a batch has time, and a quota an hour is usual


@dataclass(frozen=True, slots=True)
class RowRetry:
    """How often the call of a row is made, and what is waited between two of them.

    It is the budget of the row and none of the engine's: the engine's own `Retry` has given up before each wait here.
    A hint of the server (``Retry-After``) is the least that is waited.

    Args:
        attempts: Calls for a row in all, the first included. 1 turns it off.
        backoff: The waits, longer than those of the engine: what it has not overcome takes longer to pass.
        max_wait: Seconds; a row that is told to wait longer has failed.
        random: Gives numbers from 0 to below 1.

    Raises:
        ConfigurationError: One of them cannot work.
    """

    attempts: int = DEFAULT_ATTEMPTS
    backoff: Backoff = _BACKOFF
    max_wait: float = MAX_WAIT
    random: Callable[[], float] = _random.random

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigurationError(f"RowRetry(attempts=...) is a whole number from 1, not {self.attempts!r:.80}")
        if not isinstance(self.backoff, Backoff):
            raise ConfigurationError(f"RowRetry(backoff=...) is a Backoff, not {self.backoff!r:.80}")
        checked_seconds("RowRetry(max_wait=...)", self.max_wait)

    def decide(
        self, error: ModelEngineError, calls: int, *, is_keyed: bool, ambiguous: Ambiguous, time_left: float | None
    ) -> Decision:
        """Whether the row goes back, and after how many seconds.

        Args:
            error: Why its last call failed.
            calls: Calls made for it so far.
            is_keyed: Whether it has an idempotency key that the gateway is not known to ignore.
            ambiguous: What to do when a request may have run.
            time_left: Seconds the row still has. `None` for any.
        """
        wait = self.random() * self.backoff.interval(error, calls)
        facts = Facts(calls, keyed=is_keyed, time_left=time_left)
        rules = Rules(self.max_wait, ambiguous)
        return decide(error, facts, rules, gives_up=self._gives_up(error, calls), wait=wait, jitter=self.random())

    def _gives_up(self, error: ModelEngineError, calls: int) -> str | None:
        if calls >= self.attempts:
            return f"{calls} calls were made"
        if error.advice == "once":
            return "the engine has tried it once more already"
        # In a batch there is nobody who waits for this very row: it may stand in line again.
        return None if isinstance(error, QueueTimeoutError) else advised_against(error)


def may_pass(error: ModelEngineError) -> bool:
    """Whether a row that failed so may succeed on another day without being changed."""
    return error.advice not in ("never", "reroute")
