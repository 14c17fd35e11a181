"""What is asked: one request after another, the same ones for the same number in every process."""

from __future__ import annotations

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
