"""Many requests in little memory: rows of numbers, and a `Moments` made when one is asked for.

A million requests are 300 MB here and twice as much as objects, which the garbage collector would go through again and
again while others are measured. An array also pickles as it lies, from the processes that measured to the one that
reports.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, overload

from .moments import COLUMNS, Moments

_WORDS = ("outcome", "tokens_from", "failure")  # few different values: each is kept once, and a row has its place
_OBJECTS = ("request_id", "stamps", "stamp_events")
_FLAGS = ("is_warm_up", "was_held_back", "new_connection")
_NUMBERS = tuple(name for name in COLUMNS if name not in (*_WORDS, *_OBJECTS))
_NONE = -(2**63)  # no moment and no count
_WIDTH = len(_NUMBERS) + len(_WORDS)
_BLOCK = 4096  # requests whose columns are made at a time

_numbers_of = attrgetter(*_NUMBERS)
_words_of = attrgetter(*_WORDS)
_objects_of = attrgetter(*_OBJECTS)


class MomentsTable(Sequence[Moments]):
    """A list of `Moments` that one can append to. What it gives out are copies."""

    def __init__(self, requests: Iterable[Moments] = ()) -> None:
        self._rows: array[int] = array("q")
        self._known: dict[Any, int] = {}
        self._objects: tuple[list[Any], ...] = tuple([] for _ in _OBJECTS)
        for moments in requests:
            self.append(moments)

    def __repr__(self) -> str:
        return f"<MomentsTable of {len(self)} requests>"

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MomentsTable):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, at: int) -> Moments: ...
    @overload
    def __getitem__(self, at: slice) -> list[Moments]: ...
    def __getitem__(self, at: int | slice) -> Moments | list[Moments]:
        if isinstance(at, slice):
            return [self[each] for each in range(len(self))[at]]
        index = range(len(self))[at]
        return next(self._made(index, index + 1))

    def __iter__(self) -> Iterator[Moments]:
        for start in range(0, len(self), _BLOCK):
            yield from self._made(start, min(start + _BLOCK, len(self)))

    def append(self, moments: Moments) -> None:
        known = self._known
        self._rows.extend([_NONE if value is None else value for value in _numbers_of(moments)])
        self._rows.extend([known.setdefault(word, len(known)) for word in _words_of(moments)])
        for objects, value in zip(self._objects, _objects_of(moments)):
            objects.append(value)

    def extend(self, other: MomentsTable) -> None:
        """Append all requests of another."""
        known = self._known
        places = [known.setdefault(word, len(known)) for word in other._known]
        rows = other._rows[:]
        for column in range(len(_NUMBERS), _WIDTH):
            rows[column::_WIDTH] = array("q", [places[place] for place in rows[column::_WIDTH]])
        self._rows.extend(rows)
        for mine, theirs in zip(self._objects, other._objects):
            mine.extend(theirs)

    def _made(self, start: int, end: int) -> Iterator[Moments]:
        """The requests of some rows."""
        rows = self._rows[start * _WIDTH : end * _WIDTH]
        words = list(self._known)
        columns: dict[str, Sequence[Any]] = {}
        for at, name in enumerate(_NUMBERS):
            columns[name] = _column(rows[at::_WIDTH], is_flag=name in _FLAGS)
        for at, name in enumerate(_WORDS, len(_NUMBERS)):
            columns[name] = [words[place] for place in rows[at::_WIDTH]]
        for name, objects in zip(_OBJECTS, self._objects):
            columns[name] = objects[start:end]
        return map(Moments, *(columns[name] for name in COLUMNS))


def _column(numbers: array[int], *, is_flag: bool) -> Sequence[Any]:
    if is_flag:
        return [None if number == _NONE else bool(number) for number in numbers]
    return [None if number == _NONE else number for number in numbers] if _NONE in numbers else numbers
