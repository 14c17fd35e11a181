"""What the journal keeps of a row, as values: nothing here opens a file or waits."""

from __future__ import annotations

from hashlib import sha1
from typing import Literal, NamedTuple
from uuid import UUID

Durability = Literal["normal", "full"]
"""What a power cut may take. ``normal``: what was committed in the last second. ``full``: nothing.

A process that dies takes nothing that was committed, whichever it is.
"""

State = Literal["new", "keyed", "done", "failed"]
"""How far a row got.

``new``: its key was taken back before anything was sent. ``keyed``: sent, or about to be; in doubt when the run that
keyed it has died. ``done``: answered. ``failed``: failed for good.
"""

Ending = Literal["done", "failed"]
"""The states that have a result."""


class Record(NamedTuple):
    """A row as the journal knows it.

    Attributes:
        position: Place in the input, from 0. Below 0 once the input no longer has the row.
        id: Unique in the journal.
        fingerprint: 16 bytes that stand for what is sent; who makes them says of what.
        generation: 0, and one more each time the row is sent anew under a new key.
        state: See `State`.
        keyed_at: When its key was first used, in whole seconds since 1970, rounded down.
    """

    position: int
    id: str
    fingerprint: bytes
    generation: int
    state: State
    keyed_at: int


class Settlement(NamedTuple):
    """How a keyed row ended.

    Attributes:
        position: Of the row, as it was keyed.
        state: ``done`` or ``failed``.
        line: Its result: one line of JSON, in UTF-8, without a line break. Not looked into.
    """

    position: int
    state: Ending
    line: bytes


class Line(NamedTuple):
    """A result, with the row it belongs to."""

    position: int
    id: str
    state: Ending
    line: bytes


class Settled(NamedTuple):
    """A result, with its number: 1 for the first that was committed, and never given twice in a journal.

    A row that is settled again gets a new number, and what stood under the old one is gone.
    """

    number: int
    state: Ending
    line: bytes


class Trace(NamedTuple):
    """Stands for the results at some positions: it changes when one is settled again, moved, taken out or put in.

    Traces of adjoining ranges add up. The numbers of results are never given twice, so sums of them, plain and by
    position, are enough.
    """

    results: int = 0
    numbers: int = 0
    places: int = 0

    def joined(self, other: Trace) -> Trace:
        """That of both ranges."""
        return Trace(self.results + other.results, self.numbers + other.numbers, self.places + other.places)


class Counts(NamedTuple):
    """How many rows a journal has in each state.

    Attributes:
        new: Whose keys were taken back.
        keyed: Under way, or in doubt.
        done: Answered.
        failed: Failed for good.
        absent: Which the input no longer has, whatever their state; counted here only.
    """

    new: int = 0
    keyed: int = 0
    done: int = 0
    failed: int = 0
    absent: int = 0


def key_of(journal_id: UUID, row_id: str, fingerprint: bytes, generation: int) -> str:
    """The idempotency key of a row: the same whenever it is asked for, so a lost record takes no key with it.

    A UUID of version 5 (RFC 9562, section 5.5), as text. `uuid.uuid5` takes three times as long to make one.
    """
    name = f"{generation}:{fingerprint.hex()}:{row_id}"
    digest = sha1(journal_id.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # its upper bits are 10
