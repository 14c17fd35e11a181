"""How many requests may be under way at a time. Values in, values out: no clock, no loop, nothing that waits."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.engine.errors import ConfigurationError

from .policy import checked_seconds


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """A limit that finds itself: it grows slowly while all goes well, and falls at once when the gateway has too much
    (additive increase, multiplicative decrease, as TCP's congestion window, RFC 5681).

    It falls by `decrease` on 429, on 503 and 529, when no connection can be made, and when a stream is slower to
    begin than `first_event`. What was under way when it fell has been sent under the old limit and lowers it no
    further, so a burst of refusals counts once. It grows by 1 after as many successes as it is high, and only when it
    was reached meanwhile: a limit that nobody needs is not known to be right.

    Args:
        initial: Where it begins.
        minimum: It does not fall below.
        maximum: It does not grow above.
        decrease: What it is multiplied with, between 0 and 1.
        first_event: Seconds from sending to the first output of a stream above which it falls as well. `None` takes no
            notice, which is right where models think before they speak. Not for unary answers, whose time is that of
            the whole output, nor on a plain aiohttp session.

    Raises:
        ConfigurationError: One of them cannot work.
    """

    initial: int = 20
    minimum: int = 1
    maximum: int = 1000  # .NET's limit on concurrent requests
    decrease: float = 0.7  # botocore's; CUBIC's (RFC 9438 4.6)
    first_event: float | None = None

    def __post_init__(self) -> None:
        for name in ("initial", "minimum", "maximum"):
            checked_count(f"AdaptiveConcurrency({name}=...)", getattr(self, name))
        if not self.minimum <= self.initial <= self.maximum:
            text = f"{self.minimum} <= {self.initial} <= {self.maximum}"
            raise ConfigurationError(f"AdaptiveConcurrency begins between its minimum and its maximum, not {text}")
        share = self.decrease
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share < 1:
            raise ConfigurationError(f"AdaptiveConcurrency(decrease=...) is between 0 and 1, not {share!r}")
        if self.first_event is not None and not checked_seconds(
            "AdaptiveConcurrency(first_event=...)", self.first_event
        ):
            raise ConfigurationError("AdaptiveConcurrency(first_event=...) is longer than 0 s")


class Concurrency:
    """What is under way, and how much may be.

    Args:
        options: How the limit moves. `None` is no limit.

    Attributes:
        limit: Requests that may be under way. `None` is any number.
        in_flight: Requests that are. More than `limit` after it has fallen: then none is let in until it fits.
    """

    def __init__(self, options: AdaptiveConcurrency | None) -> None:
        if not (options is None or isinstance(options, AdaptiveConcurrency)):
            text = f"Limiter(concurrency=...) is a whole number, an AdaptiveConcurrency or None, not {options!r}"
            raise ConfigurationError(text)
        self.limit = None if options is None else options.initial
        self.in_flight = 0
        self._options = options
        self._falls = 0  # how often the limit has fallen
        self._successes = 0  # since it last moved
        self._was_reached = False  # since it last moved

    def __repr__(self) -> str:
        return f"<Concurrency {self.in_flight} of {self.limit}>"

    @property
    def has_room(self) -> bool:
        return self.limit is None or self.in_flight < self.limit

    def enter(self) -> int:
        """One more is under way. Returns what to hand back with its outcome."""
        self.in_flight += 1
        self._was_reached = self._was_reached or not self.has_room
        return self._falls

    def leave(self) -> None:
        """One is over."""
        self.in_flight -= 1

    def succeeded(self, entered: int) -> None:
        """What has entered with this number went well."""
        if self._options is None or self.limit is None or entered != self._falls:
            return
        self._successes += 1
        if self._successes >= self.limit:
            self._move(self.limit + self._was_reached, self._options)

    def throttled(self, entered: int) -> None:
        """What has entered with this number was too much for the gateway."""
        if self._options is None or self.limit is None or entered != self._falls:
            return
        self._falls += 1
        self._move(int(self.limit * self._options.decrease), self._options)

    def _move(self, limit: int, options: AdaptiveConcurrency) -> None:
        self.limit = max(options.minimum, min(options.maximum, limit))
        self._successes = 0
        self._was_reached = False


def fixed(limit: int) -> AdaptiveConcurrency:
    """A limit that does not move."""
    checked_count("Limiter(concurrency=...)", limit)
    return AdaptiveConcurrency(limit, limit, limit)


def checked_count(name: str, value: object) -> int:
    """A whole number from 1.

    Raises:
        ConfigurationError: It is something else; `name` says what.
    """
    if type(value) is int and value >= 1:
        return value
    raise ConfigurationError(f"{name} is a whole number from 1, not {value!r}")
