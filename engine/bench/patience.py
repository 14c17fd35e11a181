"""When a stage is given up, because it would only go on to say what it has said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give a stage up.

    Args:
        failures: So many requests have failed in a row ...
        failing_s: ... and none has been completed for so many seconds: the server is dead.
        overrun_s: A request has waited so many seconds for a place under the cap: the load is more than the server can
            take, and the longer it goes on the less the figures say. `None` never gives up for that.
    """

    failures: int = 50
    failing_s: float = 5.0
    overrun_s: float | None = 10.0
