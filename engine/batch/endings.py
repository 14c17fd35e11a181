"""What becomes of a row whose call is over: a result, or another call after a while."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.middleware.policy import Ambiguous, may_have_run

from ..clock import Clock
from ..errors import EngineStateError, ModelEngineError, NoWorkersError
from ..gateways import Gateway
from ..types import Attempt
from .course import Course
from .errands import Outcome, Prepared
from .journal import Journal
from .keeping import Errand, never_ran
from .outlet import Outlet
from .records import Settlement
from .results import BatchResult
from .row_retry import RowRetry
from .supply import Supply
from .waiting import WaitingRoom


class Endings:
    """Ends calls of rows.

    Args:
        course: How the run stands.
        supply: Where a row goes back to that was not sent.
        outlet: Where results go.
        waiting: Where rows wait to be tried again.
        journal: Where results are written down. `None` keeps none.
        gateway: What reads answers.
        retry: When a failed row is tried again.
        ambiguous: What to do when a request may have run, the rule of the engine.
        clock: Where time comes from.
    """

    def __init__(
        self,
        *,
        course: Course,
        supply: Supply,
        outlet: Outlet,
        waiting: WaitingRoom[Errand],
        journal: Journal | None,
        gateway: Gateway,
        retry: RowRetry,
        ambiguous: Ambiguous,
        clock: Clock,
    ) -> None:
        self._course = course
        self._supply = supply
        self._outlet = outlet
        self._waiting = waiting
        self._journal = journal
        self._gateway = gateway
        self._retry = retry
        self._ambiguous: Ambiguous = ambiguous
        self._clock = clock

    def done(self, prepared: Prepared, outcome: Outcome) -> None:
        """A call is over: its row has its result, or waits to be tried again."""
        course = self._course
        errand = course.in_flight.pop(prepared.token, None)
        if errand is None:
            return  # the run has been given up meanwhile
        error = outcome.error
        course.counters.count_call(len(outcome.attempts), is_first=not errand.attempts)
        errand.attempts.extend(outcome.attempts)
        errand.may_have_run |= error is None or bool(outcome.attempts and not never_ran(error, outcome.attempts))
        if error is not None:
            if isinstance(error, (EngineStateError, NoWorkersError)):
                self._supply.add((errand,))  # it goes with those that were not sent, or stays in doubt
                course.stop(error)
                return
            if self._goes_back(errand, error):
                course.settle_up()  # a run that drains does not wait for it: it has not failed for good
                return
        self._settle(errand, outcome)

    def _goes_back(self, errand: Errand, error: ModelEngineError) -> bool:
        left = None if errand.due is None else errand.due - self._clock.monotonic()
        decision = self._retry.decide(
            error, errand.calls, is_keyed=errand.is_keyed, ambiguous=self._ambiguous, time_left=left
        )
        if errand.attempts:
            errand.attempts[-1].why = f"{errand.attempts[-1].why or ''}; row: {decision.why}".lstrip("; ")
        if decision.again:
            errand.is_doubtful |= may_have_run(error) and not errand.is_protected
            self._waiting.add(errand, decision.wait)
        return decision.again

    def _settle(self, errand: Errand, outcome: Outcome) -> None:
        error = outcome.error
        here = errand.attempts if errand.was_in_doubt else outcome.attempts  # what came after the one in doubt
        is_ran_twice = errand.is_doubtful and (error is None or not never_ran(error, here))
        attempts = _numbered(errand.attempts)
        if error is not None:
            error.attempts, error.row_id = attempts, errand.row.id
        result = BatchResult(
            errand.row,
            outcome.body,
            error,
            attempts,
            errand.key,
            is_ran_twice or any(attempt.possibly_duplicated for attempt in attempts),
            False,
            outcome.status,
            outcome.request_id,
            outcome.governance,
            outcome.usage,
            self._gateway,
            self._journal is not None,
        )
        committed = None
        if self._journal is not None:
            settlement = Settlement(errand.row.position, "done" if error is None else "failed", result.line())
            committed = self._journal.settle(settlement)
        course = self._course
        course.unsettled -= 1
        self._outlet.put(errand.number, result, committed)
        if course.unsettled <= 0 or course.is_draining:
            course.settle_up()


def _numbered(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """The attempts of several calls as one ledger."""
    for number, attempt in enumerate(attempts, 1):
        attempt.number = number
    return tuple(attempts)
