"""What a limiter decides by: how many are under way, and how fast they start. Values in, values out: nothing waits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.engine.errors import (
    ConnectError,
    ConnectTimeoutError,
    ModelEngineError,
    OverloadedError,
    RateLimitError,
    TLSError,
)

from .concurrency import AdaptiveConcurrency, Concurrency
from .line import NEVER
from .outcome import Outcome
from .rate_headers import rate_window
from .rates import Rate

_BYTES_PER_TOKEN = 4  # of English text; OpenAI's rule of thumb
_MAX_TOKENS = rb'"max_(?:completion_)?tokens" ?: ?([0-9]{1,9})'
_THROTTLES = (RateLimitError, OverloadedError, ConnectError, ConnectTimeoutError)


@dataclass(frozen=True, slots=True)
class Slot:
    """What one request holds.

    Args:
        entered: What `Concurrency.enter` gave.
        started: When it started.
        tokens: What was estimated.
    """

    entered: int
    started: float
    tokens: int


class Gate:
    """A number of requests that may be under way, and two rates at which they may start.

    Args:
        options: How the number moves. `None` is any number.
        requests: Requests a minute.
        tokens: Tokens a minute.
    """

    def __init__(self, options: AdaptiveConcurrency | None, requests: Rate, tokens: Rate) -> None:
        self.concurrency = Concurrency(options)
        self.requests = requests
        self.tokens = tokens

    def delay(self, tokens: int, now: float) -> float:
        """Seconds until a request of so many tokens may start; `NEVER` for as soon as another is over."""
        if not self.concurrency.has_room:
            return NEVER
        return max(self.requests.delay(1, now), self.tokens.delay(tokens, now))

    def enter(self, tokens: int, now: float) -> Slot:
        """A request starts."""
        self.requests.take(1, now)
        self.tokens.take(tokens, now)
        return Slot(self.concurrency.enter(), now, tokens)

    def leave(self, slot: Slot, outcome: Outcome, now: float) -> None:
        """A request is over, in whatever way. Once for each."""
        if outcome.is_success:
            self.concurrency.succeeded(slot.entered)
        elif is_throttle(outcome.error):
            self.concurrency.throttled(slot.entered)
        self.concurrency.leave()
        requests, tokens = really_taken(slot, outcome)
        self.requests.settle(1, requests, slot.started, now)
        self.tokens.settle(slot.tokens, tokens, slot.started, now)

    def learn(self, headers: Mapping[str, str], received: float, now: float) -> None:
        """Take over what the gateway says about its rates, in an answer received at this Unix time."""
        for kind, rate in (("requests", self.requests), ("tokens", self.tokens)):
            if rate.is_bounded and (window := rate_window(headers, kind, received)) is not None:
                rate.learn(window, now)


def really_taken(slot: Slot, outcome: Outcome) -> tuple[int, int]:
    """Requests and tokens that a request has turned out to take, where it was taken for one and for `slot.tokens`.

    What was not sent takes nothing; of what failed without usage the estimate stands.
    """
    if outcome.usage is not None:
        return 1, outcome.usage.total_tokens
    if outcome.error is not None and outcome.error.phase == "not_sent":
        return 0, 0
    return 1, slot.tokens


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
