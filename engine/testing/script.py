"""The script: which step each request meets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .steps import OWN_ANSWER, STEPS, Fail, InProgress, ProviderError, Step


@dataclass(frozen=True, slots=True)
class Script:
    """Steps in order, one per request, and what every later request meets.

    A step is used up by one request, `fail(times=n)` and its like by n. Health checks, and requests that the
    gateway refuses by itself (no such path, wrong key, invalid body, an idempotency conflict), use
    up nothing.
    """

    steps: tuple[Step, ...] = ()
    default: Step = OWN_ANSWER

    def __post_init__(self) -> None:
        for step in (*self.steps, self.default):
            if not isinstance(step, STEPS):
                raise TypeError(f"a script is made of steps, such as fail(429) or answer('Hi'), not of {step!r}")


def as_script(script: Script | Iterable[Step] | None) -> Script:
    """The same script as a `Script`; `None` is the empty one."""
    if isinstance(script, Script):
        return script
    return Script(tuple(script or ()))


class Playhead:
    """How far a script has been played."""

    def __init__(self, script: Script) -> None:
        self._steps: list[Step] = []
        for step in reversed(script.steps):
            self._steps.extend([step] * (step.times if isinstance(step, (Fail, InProgress, ProviderError)) else 1))
        self._default = script.default

    @property
    def steps_left(self) -> int:
        return len(self._steps)

    def peek(self) -> Step:
        """The step that the next request will meet."""
        return self._steps[-1] if self._steps else self._default

    def take(self) -> Step:
        """The step that this request meets."""
        return self._steps.pop() if self._steps else self._default
