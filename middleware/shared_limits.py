"""What processes share, and the part of it that one of them takes when it is by itself. Values in, values out."""

from __future__ import annotations

from dataclasses import dataclass

from .concurrency import AdaptiveConcurrency
from .gate import Gate
from .rate_headers import RateWindow
from .rates import PerMinute, Rate
from .shared_state import Answer, RateAsked


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """The limits of all processes together.

    Args:
        concurrency: How the number under way moves. `None` is any number.
        requests: Requests a minute.
        tokens: Tokens a minute.
        burst: Seconds; what a rate gives in that time may start at once.
        workers: Processes that share them, at most.

    Raises:
        ConfigurationError: A rate is neither positive nor a word that means something.
    """

    concurrency: AdaptiveConcurrency | None
    requests: PerMinute
    tokens: PerMinute
    burst: float
    workers: int

    def __post_init__(self) -> None:
        self._gate(self.concurrency, self.requests, self.tokens)  # which checks them

    def asked(self) -> tuple[RateAsked, RateAsked]:
        """The two rates, as Redis is asked for them."""
        return _asked(self.requests, self.burst), _asked(self.tokens, self.burst)

    def alone(self, heard: Answer | None, in_flight: int, now: float) -> Gate:
        """The share of one process, at least 1 of each: of the limits that were heard of last, else of its own.

        Its rates begin with nothing that may start at once: the others may have taken all of that.
        """
        workers = self.share_of(heard)
        requests, tokens = (0.0, 0.0) if heard is None else (heard.requests * 60, heard.tokens * 60)
        gate = self._gate(
            _share_of_concurrency(self.concurrency, None if heard is None else heard.limit, workers),
            _share_of_rate(requests or self.requests, workers),
            _share_of_rate(tokens or self.tokens, workers),
        )
        gate.concurrency.in_flight = in_flight
        gate.requests.empty(now)
        gate.tokens.empty(now)
        return gate

    def share_of(self, heard: Answer | None) -> int:
        """Among how many the limits are shared."""
        return self.workers if heard is None else max(self.workers, heard.workers)

    def _gate(self, concurrency: AdaptiveConcurrency | None, requests: PerMinute, tokens: PerMinute) -> Gate:
        return Gate(
            concurrency,
            Rate("SharedLimiter(requests_per_minute=...)", requests, self.burst),
            Rate("SharedLimiter(tokens_per_minute=...)", tokens, self.burst),
        )


def share_of_window(window: RateWindow, workers: int) -> RateWindow:
    """The part of what the gateway says that belongs to one of so many processes."""
    remaining = None if window.remaining is None else window.remaining // workers
    return RateWindow(max(1, window.limit // workers), remaining, window.reset)


def _asked(per_minute: PerMinute, burst: float) -> RateAsked:
    second = per_minute / 60 if isinstance(per_minute, (int, float)) else 0.0
    return RateAsked(second, burst, per_minute is not None)


def _share_of_rate(per_minute: PerMinute, workers: int) -> PerMinute:
    return max(1.0, per_minute / workers) if isinstance(per_minute, (int, float)) else per_minute


def _share_of_concurrency(
    options: AdaptiveConcurrency | None, limit: int | None, workers: int
) -> AdaptiveConcurrency | None:
    if options is None:
        return None
    share = max(1, (limit or options.initial) // workers)
    return AdaptiveConcurrency(share, 1, share, options.decrease, options.first_event)
