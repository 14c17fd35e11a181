"""aiohttp-retry's option objects: read as a policy, and one of our own for those who keep their ``RetryClient``."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp_retry import RetryOptionsBase

from penstock.engine.errors import ClockError, ConfigurationError, ModelEngineError, RateLimitError, TransportError
from penstock.engine.hints import retry_hints

from .policy import Backoff, advised_against

if TYPE_CHECKING:
    from collections.abc import Mapping


class AiohttpRetryPolicy:
    """Goes by the attempts, statuses, exceptions, methods and waits of an option object. One instance for each call.

    ``attempts`` counts all requests, the first included, as it does there. Verdicts that are final stay final: a
    blocked prompt is not sent again for its status.

    Args:
        options: ``ExponentialRetry``, ``JitterRetry``, ``ListRetry``, ``FibonacciRetry``, ``RandomRetry`` or one of
            the user's. Copied, since some keep state from call to call.
        method: HTTP method of the request.
    """

    def __init__(self, options: RetryOptionsBase, method: str) -> None:
        self._options = copy.copy(options)
        self._method = method.upper()

    @staticmethod
    def check(options: object) -> None:
        """Raise `ConfigurationError` unless this is an option object."""
        if not isinstance(options, RetryOptionsBase):
            raise ConfigurationError(
                f"Retry takes an option object of aiohttp-retry as its policy, not {type(options).__name__}; "
                "tenacity's objects go into stop=, wait=, retry= and before_sleep="
            )

    async def gives_up(self, error: ModelEngineError, attempt: int) -> str | None:
        options = self._options
        if attempt >= options.attempts:
            return f"{attempt} attempts were made"
        if self._method not in options.methods:
            return f"the policy does not repeat {self._method}"
        if (final := advised_against(error)) is not None:
            return final
        if error.status is None:
            return None if self._covers_exception(error) else "the policy does not cover this failure"
        return None if self._covers_status(error.status) else f"the policy does not cover status {error.status}"

    async def wait(self, error: ModelEngineError, attempt: int) -> float:
        head = None if error.status is None else _Head(error.status, error.headers)
        return float(self._options.get_timeout(attempt, head))  # type: ignore[arg-type]

    async def before_sleep(self, error: ModelEngineError, attempt: int, wait: float) -> None:
        return None

    def _covers_status(self, status: int) -> bool:
        # A status below 400 failed for what it carries: an error event, an empty stream, a callback that turned it down.
        return (
            status < 400
            or status in self._options.statuses
            or (status >= 500 and self._options.retry_all_server_errors)
        )

    def _covers_exception(self, error: ModelEngineError) -> bool:
        wanted = tuple(self._options.exceptions)
        if not wanted or not isinstance(error, (TransportError, ClockError)):
            return True
        equivalent = asyncio.TimeoutError if isinstance(error, ClockError) else aiohttp.ClientConnectionError
        return any(issubclass(equivalent, kind) or issubclass(kind, equivalent) for kind in wanted)


@dataclass(frozen=True, slots=True)
class _Head:
    """What an option object may look at: status and headers of the failed response."""

    status: int
    headers: Mapping[str, str]


class RetryAfterOptions(RetryOptionsBase):
    """Options for aiohttp-retry's ``RetryClient`` that honour Retry-After, in all its forms.

    The wait is at least what ``retry-after-ms`` or ``retry-after`` says; without them a random share of an interval
    that doubles. The failed response is released before the wait, which ``RetryClient`` itself does not do.

    Args:
        attempts: Requests in all, the first included.
        statuses: Statuses to repeat, beside all 5xx.
        exceptions: Exceptions to repeat; aiohttp-retry repeats none when this is empty.
        methods: HTTP methods to repeat. `None` is all.
        retry_all_server_errors: Whether to repeat every 5xx.
        evaluate_response_callback: As in aiohttp-retry.
        backoff: The waits when the server gives no hint.
        max_wait: Seconds; told to wait longer, `get_timeout` raises `RateLimitError` with ``retry_after``.
        random_func: Gives numbers from 0 to below 1.
    """

    def __init__(
        self,
        attempts: int = 3,
        statuses: Iterable[int] | None = (408, 425, 429),
        exceptions: Iterable[type[Exception]] | None = (aiohttp.ClientConnectionError,),
        methods: Iterable[str] | None = None,
        retry_all_server_errors: bool = True,
        evaluate_response_callback: Callable[[aiohttp.ClientResponse], Awaitable[bool]] | None = None,
        *,
        backoff: Backoff | None = None,
        max_wait: float = 120.0,
        random_func: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            attempts=attempts,
            statuses=None if statuses is None else set(statuses),
            exceptions=None if exceptions is None else set(exceptions),
            methods=methods,
            retry_all_server_errors=retry_all_server_errors,
            evaluate_response_callback=evaluate_response_callback,
        )
        self._backoff = backoff if backoff is not None else Backoff()
        self._max_wait = max_wait
        self._random = random_func

    def get_timeout(self, attempt: int, response: Any = None) -> float:
        """Seconds to wait after the `attempt`-th attempt (1 is the first).

        Raises:
            RateLimitError: The server asks to wait longer than `max_wait`.
        """
        hint = None
        if response is not None:
            hint = retry_hints(response.headers, time.time()).after
            if (release := getattr(response, "release", None)) is not None:
                release()
        if hint is not None and hint > self._max_wait:
            raise RateLimitError(
                f"the server asks to wait {hint:g} s, longer than the {self._max_wait:g} s that are waited at most",
                status=response.status,
                retry_after=hint,
                phase="rejected",
            )
        error = ModelEngineError() if hint is None else RateLimitError()
        wait = self._random() * self._backoff.interval(error, attempt)
        return wait if hint is None else max(wait, hint * (1 + self._random() / 10))
