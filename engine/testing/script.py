"""The script: which step each request meets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate

from .rules import Asked, Rule
from .steps import OWN_ANSWER, STEPS, Fail, InProgress, ProviderError, Reset, Step


@dataclass(frozen=True, slots=True)
class Script:
    """Rules, steps in order, and what every other request meets.

    A request meets the first rule that it fits and that chance chooses; without one the next step; after
    the last step the default. A step is used up by one request, `fail(times=n)` and its like by n. Health
    checks, and requests that the gateway refuses by itself (no such path, wrong key, invalid body, an
    idempotency conflict), use up nothing.

    Args:
        seed: For all that is drawn, unless the gateway has one of its own.

    Raises:
        TypeError: something is not a step, or not a rule.
        ValueError: a step comes before a request is read, and a rule before it looks into bodies.
    """

    steps: tuple[Step, ...] = ()
    default: Step = OWN_ANSWER
    _: KW_ONLY
    rules: tuple[Rule, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for step in (*self.steps, self.default):
            if not isinstance(step, STEPS):
                raise TypeError(f"a script is made of steps, such as fail(429) or answer('Hi'), not of {step!r}")
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"rules are made by rule(fail(429), attempt=1), and {rule!r} is none")
        self._check_unread_resets()

    def _check_unread_resets(self) -> None:
        reads = [rule.reads_bodies for rule in self.rules]
        resets = [rule.resets_unread for rule in self.rules]
        resets.append(any(map(_resets_unread, (*self.steps, self.default))))
        if any(reads) and any(resets[reads.index(True) + 1 :]):
            raise ValueError(
                "reset('before_request_read') comes before the body is read, and a rule before it looks into bodies; "
                "put its rule first, or give it conditions on path and header alone"
            )

    @classmethod
    def of(cls, items: Iterable[Step | Rule], *, default: Step = OWN_ANSWER) -> Script:
        """The script of steps and rules in one list, in which the rules come first wherever they stand."""
        listed = tuple(items)
        rules = tuple(item for item in listed if isinstance(item, Rule))
        return cls(tuple(item for item in listed if not isinstance(item, Rule)), default, rules=rules)

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """Every step there is in it."""
        return (*self.steps, *(step for rule in self.rules for step in rule.steps), self.default)


def as_script(script: Script | Iterable[Step | Rule] | None) -> Script:
    """The same script as a `Script`; `None` is the empty one."""
    return script if isinstance(script, Script) else Script.of(script or ())


class Turn:
    """The step that a request meets; `take` uses it up."""

    def __init__(self, step: Step, source: _Turns | None) -> None:
        self.step = step
        self._source = source

    def take(self) -> Step:
        if self._source is not None:
            self._source.met += 1
        return self.step


class Playhead:
    """How far a script has been played.

    Args:
        seed: For rules with a probability.
    """

    def __init__(self, script: Script, seed: int = 0) -> None:
        self._rules = [(rule, _Turns(rule.steps, rule.times)) for rule in script.rules]
        self._steps = _Turns(script.steps, sum(map(_times, script.steps)))
        self._default = script.default
        self._seed = seed
        self._resets_unread = any(map(_resets_unread, script.all_steps))

    @property
    def steps_left(self) -> int:
        """How many steps no request has met yet; rules do not count."""
        return self._steps.left or 0

    @property
    def left(self) -> list[str]:
        """What was to be met and was not: steps, and rules with a number of times."""
        rules = [(place, rule, turns.left) for place, (rule, turns) in enumerate(self._rules, 1)]
        unmet = [f"rule {place}, {left} of {rule.times} times" for place, rule, left in rules if left]
        return self._steps.coming + unmet

    @property
    def has_rules(self) -> bool:
        return bool(self._rules)

    def meet(self, asked: Asked) -> Turn:
        """The step that this request meets."""
        for place, (rule, turns) in enumerate(self._rules):
            if turns.left != 0 and rule.fits(asked) and rule.is_drawn(asked, f"{self._seed}:{place}"):
                return Turn(turns.next, turns)
        return Turn(self._steps.next, self._steps) if self._steps.left else Turn(self._default, None)

    def meet_unread(self, asked: Asked) -> Turn | None:
        """The same, of a request whose body is not read; `None` unless it meets a step that comes before that."""
        if not self._resets_unread:
            return None
        turn = self.meet(asked)
        return turn if _resets_unread(turn.step) else None


class _Turns:
    """Steps in turn, each as often as it happens in a row, from the first again after the last.

    Args:
        times: So many requests can meet one; `None` has no end.
    """

    def __init__(self, steps: tuple[Step, ...], times: int | None) -> None:
        self._steps = steps
        self._ends = list(accumulate(map(_times, steps)))  # how many requests have met one when each is used up
        self._times = times
        self.met = 0

    @property
    def left(self) -> int | None:
        """How many requests can still meet one; `None` for any number."""
        return None if self._times is None else self._times - self.met

    @property
    def next(self) -> Step:
        return self._steps[bisect_right(self._ends, self.met % self._ends[-1])]

    @property
    def coming(self) -> list[str]:
        """Those that no request has met, and how often they were still to be met."""
        left = [(step, min(end - self.met, _times(step))) for step, end in zip(self._steps, self._ends)]
        return [repr(step) if count == 1 else f"{step!r}, {count} times" for step, count in left if count > 0]


def _times(step: Step) -> int:
    """How often a step happens in a row."""
    return step.times if isinstance(step, (Fail, InProgress, ProviderError)) else 1


def _resets_unread(step: Step) -> bool:
    return isinstance(step, Reset) and step.when == "before_request_read"
