"""The requests of one stage, sorted by what became of them. What is counted, and over which time, is decided here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .histogram import Histogram
from .moments import Moments, Outcome

_SENT: tuple[Outcome, ...] = ("completed", "failed", "unfinished")


@dataclass(frozen=True, slots=True)
class Measured:
    """A stage without its warm-up.

    Args:
        completed, failed, unfinished, unsent: Requests, by their outcome.
        gaps: Between two reads with output that follow one another, of the completed ones together, in nanoseconds.
        began: When the first of them was due that was sent, in nanoseconds of the run.
        over: When the last of them was over.
        good: How many of the completed met every objective. `None` without objectives.
    """

    completed: tuple[Moments, ...]
    failed: tuple[Moments, ...]
    unfinished: tuple[Moments, ...]
    unsent: tuple[Moments, ...]
    gaps: Histogram
    began: int = 0
    over: int = 0
    good: int | None = None

    @classmethod
    def of(cls, requests: Iterable[Moments], gaps: Histogram, good: int | None = None) -> Measured:
        """Sort requests by their outcome."""
        sorted_out: dict[Outcome, list[Moments]] = {"completed": [], "failed": [], "unfinished": [], "unsent": []}
        for request in requests:
            sorted_out[request.outcome].append(request)
        sent = [each for outcome in _SENT for each in sorted_out[outcome]]
        began = min((each.scheduled for each in sent), default=0)
        over = max((end for each in sent if (end := each.end) is not None), default=began)
        parts = {outcome: tuple(each) for outcome, each in sorted_out.items()}
        return cls(**parts, gaps=gaps, began=began, over=over, good=good)

    @property
    def tried(self) -> int:
        """Requests that came to an end of their own."""
        return len(self.completed) + len(self.failed)

    @property
    def duration_s(self) -> float:
        return (self.over - self.began) / 1e9

    @property
    def tokens_from(self) -> dict[str, int]:
        """Completed requests by where their count of output tokens comes from."""
        return dict(Counter(request.tokens_from for request in self.completed))

    def times_in_flight(self) -> Iterator[int]:
        """How long each request was under way, in nanoseconds; those without an end until the last one's."""
        for request in (*self.completed, *self.failed, *self.unfinished):
            began = request.dispatched if request.sent is None else request.sent
            if began is not None:
                yield (self.over if request.end is None else request.end) - began
