"""What is asked: one request after another, the same ones for the same number in every process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import ConfigurationError
from ..types import Messages


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, or a conversation.

    Args:
        turns: What is said, with the model's answer after each turn but the last. Each is a text, a message or several.
        params: Members of the body, for all turns.
        position: In the input.
        think_s: Seconds between an answer and the next turn.
    """

    turns: tuple[Messages, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    position: int | None = None
    think_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.turns:
            raise ConfigurationError("a conversation has at least one turn")
        for said in self.turns:
            _check_messages(said)
        if not 0 <= self.think_s < math.inf:
            raise ConfigurationError(f"think_s is a number of seconds, not {self.think_s!r:.80}")


def _check_messages(said: Any) -> None:
    """What no request can be made of is refused now: a run of nothing else would send nothing."""
    is_one = isinstance(said, (str, Mapping))
    are_several = isinstance(said, Sequence) and all(isinstance(each, Mapping) for each in said)
    if not said or not (is_one or are_several):
        raise ConfigurationError(f"what is said is a text, a message or a list of messages, not {said!r:.80}")


class Prompts(Protocol):
    """Where requests come from. Pickles, for the processes that send them."""

    def prompt(self, number: int) -> Prompt:
        """What to ask in the request with this number, from 0 on and without an end."""
        ...


class PromptList:
    """Prompts in order, and from the beginning again after the last."""

    def __init__(self, prompts: Sequence[Prompt | Messages]) -> None:
        if not prompts:
            raise ConfigurationError("there is no prompt")
        self._prompts = [
            each if isinstance(each, Prompt) else Prompt((each,), position=position)
            for position, each in enumerate(prompts)
        ]

    def __len__(self) -> int:
        return len(self._prompts)

    def prompt(self, number: int) -> Prompt:
        return self._prompts[number % len(self._prompts)]
