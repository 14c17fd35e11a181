"""What is tried: every step with every way to publish, and the cases that are killed at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .cases import Case
from .lives import Midwife
from .trial import Death, Trial

SMALL = Case(rows=60, concurrency=8)
TINY = Case(rows=12, concurrency=3)

_WAYS = {
    "rename": SMALL,
    "append": replace(SMALL, publish="append"),
    "append ordered": replace(SMALL, publish="append", ordered=True),
}


@dataclass(frozen=True)
class Place:
    """A step in a case.

    Args:
        step, nth: See `Watch`.
        is_resumed: Whether it is one of a life that goes on where another was killed.
    """

    step: str
    case: Case
    nth: int = 1
    is_resumed: bool = False

    def __str__(self) -> str:
        again = f", time {self.nth}" if self.nth > 1 else ""
        way = f"{self.case.publish}{' ordered' if self.case.ordered else ''}, {self.case.dialect}"
        return f"{self.step}{again} ({way}{', resumed' if self.is_resumed else ''})"

    def trial(self, folder: Path, midwife: Midwife) -> Trial:
        """What has to come to this place."""
        before = [Death("answer", self.case.rows // 2)] if self.is_resumed else []
        return Trial(self.case, folder, midwife, iter(before), step=self.step, nth=self.nth, on_resume=self.is_resumed)


_ANYWHERE = (
    "before the journal has its name",
    "after the journal has its name",
    "before a key record",
    "before a key record is committed",
    "after a key record",
    "before a result is written",
    "before a result is committed",
    "after a result is committed",
    "while the lock is given up",
)
_RESUMED = (
    "during a resume, journal opened",
    "during a resume, records read",
    "before a key record",
    "after a key record",
    "before a result is committed",
)
_RENAMING = (
    "before publishing",
    "half of a part",
    "before a part is on the disk",
    "before the identity is kept",
    "before a rename",
    "after a rename",
)
_APPENDING = (
    "half of a line appended",
    "appended, not on the disk",
    "appended, place not kept",
    "appended, place kept",
)
_APPENDING_RESUMED = (*_APPENDING, "before a tail is cut off", "after a tail is cut off")


def places() -> Iterator[Place]:
    """Every named step, wherever it can be come to."""
    for case in _WAYS.values():
        for step in _ANYWHERE:
            yield Place(step, case)
        for step in _RESUMED:
            yield Place(step, case, is_resumed=True)
    for step in _RENAMING:
        yield Place(step, SMALL)
        yield Place(step, replace(SMALL, bad_rows=True), nth=2 if "rename" in step or "disk" in step else 1)
    for case in (_WAYS["append"], _WAYS["append ordered"]):
        for step in _APPENDING:
            yield Place(step, case)
        for step in _APPENDING_RESUMED:
            yield Place(step, replace(case, bad_rows=True), is_resumed=True)
    ignoring = replace(SMALL, dialect="atrium")
    for step in ("after a key record", "before a result is committed", "after a result is committed"):
        for nth in (1, 5):
            yield Place(step, ignoring, nth)


def some_places() -> list[Place]:
    """Each named step once."""
    return list({place.step: place for place in places()}.values())


def every_deed(start: int = 1, stride: int = 1) -> Iterator[tuple[Case, Iterator[Place]]]:
    """For each way to publish, a life that ends itself before the first thing it asks for, the second, and so on: to
    be tried until there are no more.
    """
    for way in _WAYS.values():
        case = replace(way, rows=TINY.rows, concurrency=TINY.concurrency)
        yield case, map(partial(Place, "any", case), range(start, 10_000, stride))


_TELLING = {
    "the key record before sending": Place("after a result is committed", replace(SMALL, dialect="atrium"), 5),
    "the same key again": Place("before a result is committed", SMALL, 5),
    "what is in doubt is marked": Place("before a result is committed", replace(SMALL, dialect="atrium"), 5),
    "the tail is cut off": Place("half of a line appended", _WAYS["append"]),
    "files appear by a rename": Place("half of a line appended", SMALL),
}


def telling(removal: str, folder: Path, midwife: Midwife) -> Trial:
    """A batch that cannot do without this defence."""
    trial = _TELLING[removal].trial(folder, midwife)
    trial.without = removal
    return trial
