"""What every process of a run has to know, and what one can ask of those who run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .patience import Patience
from .progress import Progress
from .prompts import Prompts
from .recording import Stage, StageRecord


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process of a run has to know. Pickles.

    Args:
        engine: Keyword arguments of `MeasuredEngine`, with ``model_or_config``.
        prompts: What to ask.
        raw: Whether to keep the moment of each read with output.
        patience: When to give a stage up.
    """

    engine: Mapping[str, Any] = field(repr=False)  # has the key
    prompts: Prompts
    raw: bool = False
    patience: Patience = field(default_factory=Patience)


class Crew(Protocol):
    """Who runs stages: this process, or several."""

    async def start(self) -> None: ...

    async def run(self, stage: Stage, position: int, origin: int) -> StageRecord: ...

    def stop(self) -> None:
        """End the stage that runs; its record is what was measured."""
        ...

    def progress(self) -> Progress:
        """How far the stage that runs has come."""
        ...

    async def close(self) -> None: ...
