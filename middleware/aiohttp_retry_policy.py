"""aiohttp-retry's option objects: read as a policy, and one of our own for those who keep their ``RetryClient``."""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp_retry import RetryOptionsBase
from multidict import CIMultiDict

from penstock.engine.errors import (
    ClockError,
    ConfigurationError,
    ConnectError,
    ConnectTimeoutError,
    DisconnectedError,
    ModelEngineError,
    StreamTruncatedError,
    TransportError,
    type_name,
)
from penstock.engine.hints import should_retry
from penstock.engine.verdict import Answer, Complaint, build_error, openai_verdict

from .policy import Backoff, advised_against, checked_seconds

# What aiohttp raises for the failures that have a class of ours; the first row that fits counts.
_AIOHTTP_NAMES: tuple[tuple[type[ModelEngineError], tuple[type[Exception], ...]], ...] = (
    (ConnectTimeoutError, (aiohttp.ConnectionTimeoutError,)),
    (ClockError, (aiohttp.SocketTimeoutError,)),
    (ConnectError, (aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError)),
    (
        DisconnectedError,
        (
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientOSError,
            aiohttp.ClientConnectionResetError,
            aiohttp.ClientPayloadError,
        ),
    ),
    (StreamTruncatedError, (aiohttp.ClientPayloadError,)),
    (TransportError, (aiohttp.ClientError,)),
)


class AiohttpRetryPolicy:
    """Goes by the attempts, statuses, exceptions, methods and waits of an option object. One instance for each call.

    ``attempts`` counts all requests, the first included, as it does there. ``exceptions`` may name aiohttp's, ours,
    or those of the operating system; none named is all. Verdicts that are final stay final: a blocked prompt is not
    sent again for its status.

    Args:
        options: ``ExponentialRetry``, ``JitterRetry``, ``ListRetry``, ``FibonacciRetry``, ``RandomRetry`` or one of
            the user's. Copied, since some keep state from call to call. Where they look at a response, they find its
            status and headers.
        method: HTTP method of the request.
    """

    def __init__(self, options: RetryOptionsBase, method: str) -> None:
        self._options = copy.copy(options)
        self._method = method.upper()
        self._wait = 0.0

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
            if not self._covers_exception(error):
                return f"the policy does not cover {type_name(error)}"
        elif not self._covers_status(error.status):
            return f"the policy does not cover status {error.status}"
        try:
            self._wait = self._timeout_after(error, attempt)
        except ModelEngineError:
            return "the policy refuses to wait as long as the server asks"
        return None

    async def wait(self, error: ModelEngineError, attempt: int) -> float:
        return self._wait

    async def before_sleep(self, error: ModelEngineError, attempt: int, wait: float) -> None:
        return None

    def _timeout_after(self, error: ModelEngineError, attempt: int) -> float:
        if isinstance(self._options, RetryAfterOptions):
            return self._options.timeout_after(error, attempt)
        head = None if error.status is None else _Head(error.status, CIMultiDict(error.headers))
        return float(self._options.get_timeout(attempt, head))  # type: ignore[arg-type]

    def _covers_status(self, status: int) -> bool:
        # Below 400 it failed for what it carries: an error event, an empty stream, or the callback turned it down.
        return (
            status < 400
            or status in self._options.statuses
            or (status >= 500 and self._options.retry_all_server_errors)
        )

    def _covers_exception(self, error: ModelEngineError) -> bool:
        wanted = tuple(self._options.exceptions)
        if not wanted or isinstance(error, wanted) or isinstance(error.__cause__, wanted):
            return True
        for ours, names in _AIOHTTP_NAMES:
            if isinstance(error, ours):
                return any(issubclass(name, wanted) for name in names)
        return True  # an answer that failed for what it carries


@dataclass(frozen=True, slots=True)
class _Head:
    """What an option object may look at: status and headers of the failed response. Look-ups ignore case."""

    status: int
    headers: Mapping[str, str]


class RetryAfterOptions(RetryOptionsBase):
    """Options for aiohttp-retry's ``RetryClient`` that honour Retry-After, in all its forms.

    The wait is at least what ``retry-after-ms`` or ``retry-after`` says; without them a random share of an interval
    that doubles. The failed response is released before the wait, which ``RetryClient`` itself does not do.

    ``RetryClient`` makes a new request for each attempt: `Idempotency` in its session gives each its own key. To
    protect a POST, send the key as a header.

    Args:
        attempts: Requests in all, the first included.
        statuses: Statuses to repeat, beside all 5xx.
        exceptions: Exceptions to repeat; aiohttp-retry repeats none when this is empty. The default is those after
            which nothing was sent, so that no POST runs twice.
        methods: HTTP methods to repeat. `None` is all.
        retry_all_server_errors: Whether to repeat every 5xx.
        evaluate_response_callback: As in aiohttp-retry.
        backoff: The waits when the server gives no hint.
        max_wait: Seconds; the longest hint to follow.
        random_func: Gives numbers from 0 to below 1.
    """

    def __init__(
        self,
        attempts: int = 3,
        statuses: Iterable[int] | None = (408, 425, 429),
        exceptions: Iterable[type[Exception]] | None = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError),
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
        self._max_wait = checked_seconds("RetryAfterOptions(max_wait=...)", max_wait)
        self._random = random_func

    def get_timeout(self, attempt: int, response: Any = None) -> float:
        """Seconds to wait after the `attempt`-th attempt (1 is the first).

        Raises:
            ModelEngineError: The server says not to repeat, or asks to wait longer than `max_wait`; the wait is in
                ``retry_after``.
        """
        if response is not None:
            response.release()
            return self.timeout_after(_judged(response), attempt)
        # Asked inside of `RetryClient`'s except block. With `Classify` in its session the failure is one of ours.
        failure = sys.exc_info()[1]
        return self.timeout_after(failure if isinstance(failure, ModelEngineError) else ModelEngineError(), attempt)

    def timeout_after(self, error: ModelEngineError, attempt: int) -> float:
        """As `get_timeout`, after a failure that is typed already; raises that one."""
        hint = error.retry_after or 0.0
        if hint > self._max_wait or should_retry(error.headers) is False:
            raise error
        return max(self._random() * self._backoff.interval(error, attempt), hint * (1 + self._random() / 10))


def _judged(response: aiohttp.ClientResponse) -> ModelEngineError:
    answer = Answer(response.status, response.headers, b"", time.time())
    complaint = Complaint("the request was refused, and the body of the answer was not read")
    error_class, advice = openai_verdict(response.status, complaint)
    return build_error(error_class, answer, complaint, advice)
