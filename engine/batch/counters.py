"""What a batch counts while it runs, and what it has counted when it is over. Values in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import type_name
from .results import BatchResult

LISTED_IDS = 100  # ids kept of the rows that somebody may have to look at; more are counted


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is, at one moment.

    Args:
        read: Rows read from the source so far.
        done: Rows that have an answer; those from the journal included.
        failed: Rows that failed for good; those from the journal included.
        from_journal: Rows whose result an earlier run got.
        in_flight: Rows whose call runs.
        queued: Rows read that wait to be sent.
        waiting: Rows that wait to be tried again.
        retries: Requests beyond the first of their row, sent again by the engine or with the row.
        requests: Requests sent.
        input_tokens, output_tokens: Of the answers of this run, where the gateway tells.
        cost: Of the answers of this run, by currency, where the gateway tells.
        errors: Rows that failed, by class of error.
        in_doubt: Rows that an earlier run may have had executed, with no result and no key to protect them, met so far.
        possibly_duplicated: Rows that may have been executed more than once.
        seconds: Since the run began.
        lanes: Rows that may be in flight now.
    """

    read: int
    done: int
    failed: int
    from_journal: int
    in_flight: int
    queued: int
    waiting: int
    retries: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost: Mapping[str, float]
    errors: Mapping[str, int]
    in_doubt: int
    possibly_duplicated: int
    seconds: float
    lanes: int

    @property
    def rows_per_second(self) -> float:
        """Rows that got their result in this run, by second. 0 before the first."""
        settled = self.done + self.failed - self.from_journal
        return settled / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class BatchSummary(BatchProgress):
    """What a run was, once it is over. Fields as in `BatchProgress`, and those below.

    Args:
        is_complete: Whether the whole input was gone through: not drained, nothing raised.
        absent: Rows of the journal that the input no longer has. `None` when the run did not come to its end, or has no
            journal.
        in_doubt_ids: Ids of the rows in doubt, the first 100.
        possibly_duplicated_ids: Ids of the rows that may have been executed more than once, the first 100.
    """

    is_complete: bool = False
    absent: int | None = None
    in_doubt_ids: tuple[str, ...] = ()
    possibly_duplicated_ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Listed:
    """A count, and the first ids of what was counted."""

    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, row_id: str) -> None:
        self.count += 1
        if len(self.ids) < LISTED_IDS:
            self.ids.append(row_id)


class Counters:
    """What a run counts."""

    def __init__(self) -> None:
        self.read = 0
        self.done = 0
        self.failed = 0
        self.from_journal = 0
        self.requests = 0
        self.repeated = 0  # requests beyond the first of their row
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.in_doubt = Listed()
        self.possibly_duplicated = Listed()

    def count_call(self, requests: int, *, is_first: bool) -> None:
        """A call is over that made so many requests; the first that made any for its row, or another."""
        self.requests += requests
        self.repeated += requests - 1 if is_first and requests else requests

    def count(self, result: BatchResult) -> None:
        """A row has its result."""
        if result.error is None:
            self.done += 1
        else:
            self.failed += 1
            self.errors[type_name(result.error)] += 1
        if result.possibly_duplicated:
            self.possibly_duplicated.add(result.row.id)
        if result.is_from_journal:
            self.from_journal += 1
            return
        if (usage := result.usage) is not None:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
        governance = result.governance
        if governance is not None and governance.cost is not None:
            currency = governance.currency or "unknown"
            self.cost[currency] = self.cost.get(currency, 0.0) + governance.cost

    def progress(self, *, in_flight: int, queued: int, waiting: int, seconds: float, lanes: int) -> BatchProgress:
        """The counts as a value, with what only the pipeline knows."""
        return BatchProgress(
            read=self.read,
            done=self.done,
            failed=self.failed,
            from_journal=self.from_journal,
            in_flight=in_flight,
            queued=queued,
            waiting=waiting,
            retries=self.repeated,
            requests=self.requests,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=dict(self.cost),
            errors=dict(self.errors),
            in_doubt=self.in_doubt.count,
            possibly_duplicated=self.possibly_duplicated.count,
            seconds=seconds,
            lanes=lanes,
        )
