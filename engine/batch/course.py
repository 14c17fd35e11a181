"""How a run of a batch stands: what is under way in it, and whether and why it ends."""

from __future__ import annotations

from ..clock import Clock
from .counters import Counters
from .keeping import Errand
from .outlet import Outlet


class Course:
    """What the parts of a pipeline tell each other of the run.

    Args:
        outlet: Where results leave; closed when nothing more can come.
        clock: Where time comes from.

    Attributes:
        counters: What the run counts.
        failure: What stopped the run. `None` while nothing has.
        is_complete: Whether all of the input was gone through.
        is_draining: Whether no more rows are sent.
        is_fed: Whether all that is to be sent was written down.
        inside: Rows read whose result nobody has taken.
        unsettled: Rows read that have no result yet.
        in_flight: Rows whose call runs, by number.
    """

    def __init__(self, outlet: Outlet, clock: Clock) -> None:
        self.counters = Counters()
        self.failure: BaseException | None = None
        self.is_complete = False
        self.is_draining = False
        self.is_fed = False
        self.inside = 0
        self.unsettled = 0
        self.in_flight: dict[int, Errand] = {}
        self._outlet = outlet
        self._clock = clock
        self._started = clock.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """Since it began, until it ended."""
        return (self._clock.monotonic() if self._ended is None else self._ended) - self._started

    def leave(self, rows: int) -> None:
        """So many rows leave without a result."""
        self.inside -= rows
        self.unsettled -= rows

    def fail(self, failure: BaseException) -> None:
        """The run ends with this, unless it has failed already."""
        if self.failure is None:
            self.failure = failure

    def stop(self, failure: BaseException) -> None:
        """End the run with an error: what is in flight is finished first."""
        self.fail(failure)
        self.drain()

    def drain(self) -> None:
        """Send no more rows; see `Pipeline.drain`."""
        self.is_draining = True
        self.settle_up()

    def settle_up(self) -> None:
        """End the run when nothing more can come."""
        if self.is_fed and self.unsettled <= 0:
            self.is_complete = self.failure is None
        elif not self.is_draining or self.in_flight:
            return
        if self._ended is None:
            self._ended = self._clock.monotonic()
        self._outlet.close()
