"""tenacity's objects as a policy: `stop`, `wait`, `retry` and `before_sleep` mean here what they mean there."""

from __future__ import annotations

import inspect
from typing import Any

from tenacity import RetryAction, RetryCallState

from penstock.engine.errors import ModelEngineError
from penstock.engine.exchange import CallContext

from .policy import AttemptsPolicy, advised_against


class TenacityPolicy:
    """Asks tenacity's objects with a `RetryCallState` of this call. One instance for each call.

    They are asked in tenacity's order, `retry`, `wait`, `stop`, `before_sleep`, so that ``stop_before_delay`` knows
    the wait. Each may be a coroutine function.

    Args:
        default: Answers where an object is `None`.
        context: The call.
        stop: ``stop(state) -> bool``, for instance ``stop_after_attempt(5) | stop_after_delay(30)``.
        wait: ``wait(state) -> seconds``, for instance ``wait_exponential_jitter()``.
        retry: ``retry(state) -> bool``, for instance ``retry_if_exception_type(RateLimitError)``.
        before_sleep: ``before_sleep(state)``, for instance ``before_sleep_log(logger, logging.INFO)``.
    """

    def __init__(
        self, default: AttemptsPolicy, context: CallContext, *, stop: Any, wait: Any, retry: Any, before_sleep: Any
    ) -> None:
        self._default = default
        self._clock = context.clock
        self._stop = stop
        self._wait = wait
        self._retry = retry
        self._before_sleep = before_sleep
        # The hooks of tenacity name the function that is retried: here it is the operation.
        self._state = RetryCallState(_Controller(), _named(context.operation.name), (), {})  # type: ignore[arg-type]
        self._state.start_time = context.started

    async def gives_up(self, error: ModelEngineError, attempt: int) -> str | None:
        state = self._update(error, attempt)
        if self._retry is not None:
            if not await _maybe_awaited(self._retry(state)):
                return "tenacity's retry predicate says no"
        elif (final := advised_against(error)) is not None:
            return final
        state.upcoming_sleep = max(await self._backoff(error, attempt), error.retry_after or 0.0)
        if self._stop is None:
            return f"{attempt} attempts were made" if attempt >= self._default.max_attempts else None
        return "tenacity's stop says so" if await _maybe_awaited(self._stop(state)) else None

    async def wait(self, error: ModelEngineError, attempt: int) -> float:
        return self._state.upcoming_sleep

    async def before_sleep(self, error: ModelEngineError, attempt: int, wait: float) -> None:
        state = self._state
        state.upcoming_sleep = wait
        state.idle_for += wait
        state.next_action = RetryAction(wait)
        if self._before_sleep is not None:
            await _maybe_awaited(self._before_sleep(state))

    async def _backoff(self, error: ModelEngineError, attempt: int) -> float:
        if self._wait is None:
            return await self._default.wait(error, attempt)
        return float(await _maybe_awaited(self._wait(self._state)))

    def _update(self, error: ModelEngineError, attempt: int) -> RetryCallState:
        state = self._state
        state.attempt_number = attempt
        state.set_exception((type(error), error, error.__traceback__))
        state.outcome_timestamp = self._clock.monotonic()
        return state


class _Controller:
    """Stands where tenacity's hooks look for the object that retries."""

    def __init__(self) -> None:
        self.statistics: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "<penstock.Retry>"


def _named(operation: str) -> Any:
    def call() -> None: ...

    call.__name__ = call.__qualname__ = operation
    call.__module__ = "penstock"
    return call


async def _maybe_awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
