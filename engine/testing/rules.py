"""Rules: what a request meets because of what it is, not because of when it comes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from .matching import Match, is_match
from .steps import STEPS, Reset, Step


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules look at.

    Args:
        number: Counted from 1 in order of arrival.
        model: The model it names; `None` when it names none.
        message: The text of the last message; `None` for a request that is no chat.
        attempt: See `Call.attempt`.
    """

    number: int
    path: str
    headers: Mapping[str, str] = field(repr=False)
    model: str | None = None
    message: str | None = None
    stream: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """Steps for the requests that fit every condition. A condition that is `None` fits all.

    Args:
        steps: Met in turn, one by each request that fits; after the last comes the first again.
        model, path: Of the request.
        message: The text of its last message. A request that is no chat has none, and does not fit.
        header: By name, in any case; `True` is there with any value, `False` is not there.
        stream: Whether a stream is asked for.
        attempt: The how many-th attempt it is, or one of several numbers; see `Call.attempt`.
        probability: The share of the fitting requests that meet the rule, above 0 up to 1. What is drawn
            follows from the seed, the place of the rule and the number of the request alone.
        times: So many requests meet the rule, then it is used up. `None` is no end.

    Raises:
        ValueError: there is no step, a number is out of range, or the rule looks into bodies and has a
            step that comes before a body is read.
    """

    steps: tuple[Step, ...]
    _: KW_ONLY
    model: Match | None = None
    message: Match | None = None
    header: Mapping[str, Match | bool] = field(default_factory=dict)
    path: Match | None = None
    stream: bool | None = None
    attempt: int | Sequence[int] | None = None
    probability: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a rule has at least one step, such as rule(fail(429), attempt=1)")
        for step in self.steps:
            if not isinstance(step, STEPS):
                raise TypeError(f"a rule is made of steps, such as fail(429) or answer('Hi'), not of {step!r}")
        if self.attempt is not None and (not self.attempts or min(self.attempts) < 1):
            raise ValueError(f"attempt counts from 1, and is {self.attempt!r}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is above 0 and at most 1, not {self.probability}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is at least 1, not {self.times}")
        if self.reads_bodies and self.resets_unread:
            raise ValueError(
                "reset('before_request_read') comes before the body is read, so its rule cannot look at model, "
                "message, stream or attempt"
            )

    @property
    def attempts(self) -> tuple[int, ...]:
        """The attempts that fit; none when any does."""
        if self.attempt is None:
            return ()
        return (self.attempt,) if isinstance(self.attempt, int) else tuple(self.attempt)

    @property
    def reads_bodies(self) -> bool:
        """Whether the request has to be read to know if it fits."""
        return any(condition is not None for condition in (self.model, self.message, self.stream, self.attempt))

    @property
    def resets_unread(self) -> bool:
        """Whether it has a step that comes before the request is read."""
        return any(isinstance(step, Reset) and step.when == "before_request_read" for step in self.steps)

    def fits(self, asked: Asked) -> bool:
        """Whether a request fulfils every condition but chance."""
        return (
            (self.model is None or is_match(self.model, asked.model))
            and (self.path is None or is_match(self.path, asked.path))
            and (self.message is None or is_match(self.message, asked.message))
            and (self.stream is None or self.stream == asked.stream)
            and (self.attempt is None or asked.attempt in self.attempts)
            and all(_has(asked, name, wanted) for name, wanted in self.header.items())
        )

    def is_drawn(self, asked: Asked, seed: object) -> bool:
        """Whether chance chooses this request: the same for the same seed and number, however often it is asked."""
        return self.probability >= 1 or random.Random(f"{seed}:{asked.number}").random() < self.probability


def _has(asked: Asked, name: str, wanted: Match | bool) -> bool:
    value = asked.headers.get(name)
    if isinstance(wanted, bool):
        return wanted == (value is not None)
    return is_match(wanted, value)


def rule(
    *steps: Step,
    model: Match | None = None,
    message: Match | None = None,
    header: Mapping[str, Match | bool] | None = None,
    path: Match | None = None,
    stream: bool | None = None,
    attempt: int | Sequence[int] | None = None,
    probability: float = 1.0,
    times: int | None = None,
) -> Rule:
    """A `Rule` of these steps: ``rule(fail(503), model="large", attempt=1)``."""
    return Rule(
        steps,
        model=model,
        message=message,
        header=header or {},
        path=path,
        stream=stream,
        attempt=attempt,
        probability=probability,
        times=times,
    )
