"""A cassette that is read: its interactions, and which of them answers a request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CassetteError, CassetteMismatchError
from .lines import VERSION, Answered, Asked, BadLineError, Ended, Event, Left, Read, decoded, version_of
from .matching import Match, difference, key_of, nearest


@dataclass(frozen=True)
class Interaction:
    """A request, and what came of it, in its order.

    Args:
        line: Of its request in the file, counted from 1.
    """

    number: int
    line: int
    asked: Asked
    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take what happened next.

        Raises:
            BadLineError: It cannot happen there.
        """
        if isinstance(event, (Read, Ended)) and self.head is None:
            raise BadLineError("belongs to an answer, and none is above it")
        self.events.append(event)

    @property
    def head(self) -> Answered | None:
        """`None` when it failed before one came."""
        first = self.events[0] if self.events else None
        return first if isinstance(first, Answered) else None

    @property
    def body(self) -> list[Event]:
        """What came after the head; at its end what ended it."""
        rest = self.events[1:] if self.head is not None else self.events
        last = self.events[-1].at if self.events and not isinstance(self.events[-1], Asked) else 0.0
        return [*rest, Left(last)]  # reached only when nothing is told of the end


def load(path: Path) -> list[Interaction]:
    """The interactions of a cassette in the order of their requests.

    A last line without its end, as a crash leaves it, does not count.

    Raises:
        CassetteError: There is no such file, it cannot be read, or it is not a cassette; the message names the line.
    """
    try:
        first, *lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CassetteError(f"the cassette {path} cannot be read: {error.strerror}", phase="not_sent") from None
    if (version := version_of(first)) != VERSION:
        why = "is not a cassette" if version is None else f"is of version {version}, and this is for {VERSION}"
        raise CassetteError(f"{path} {why}", phase="not_sent")
    interactions: dict[int, Interaction] = {}
    for at, line in enumerate(lines[:-1], start=2):
        if not line.strip():
            continue
        try:
            number, event = decoded(line)
            if isinstance(event, Asked):
                if number in interactions:
                    raise BadLineError(f"a request {number} is above already")
                interactions[number] = Interaction(number, at, event)
            else:
                interactions[number].add(event)
        except BadLineError as error:
            raise CassetteError(f"{path}, line {at}: {error}", phase="not_sent") from None
        except KeyError:
            raise CassetteError(f"{path}, line {at}: belongs to no request above it", phase="not_sent") from None
    return list(interactions.values())


class Library:
    """Hands out the interactions of a cassette, each once, those of equal requests in their order. From any thread."""

    def __init__(self, path: Path, match: Match) -> None:
        self._path = path
        self._interactions = load(path)
        self._lock = threading.Lock()
        self._played: set[int] = set()
        self._find = self._finder(match)

    @property
    def unplayed(self) -> list[Interaction]:
        """What nobody has asked for yet."""
        return [each for each in self._interactions if each.number not in self._played]

    def take(self, asked: Asked) -> Interaction:
        """The next interaction that answers this request.

        Raises:
            CassetteMismatchError: There is none, or none any more.
        """
        with self._lock:
            found = self._find(asked)
            if found is not None:
                self._played.add(found.number)
                return found
        raise self._mismatch(asked)

    def _finder(self, match: Match) -> Callable[[Asked], Interaction | None]:
        if callable(match):
            alike = match
            return lambda asked: next((each for each in self.unplayed if alike(each.asked, asked)), None)
        fields = match
        waiting: dict[Hashable, deque[Interaction]] = {}
        for each in self._interactions:
            waiting.setdefault(key_of(each.asked, fields), deque()).append(each)

        def find(asked: Asked) -> Interaction | None:
            line = waiting.get(key_of(asked, fields))
            return line.popleft() if line else None

        return find

    def _mismatch(self, asked: Asked) -> CassetteMismatchError:
        path, where = self._path, f"{asked.method} {asked.url}"
        at = nearest([each.asked for each in self._interactions], asked)
        if at is None:
            return CassetteMismatchError(f"nothing is recorded in {path}, and {where} was asked", phase="not_sent")
        near = self._interactions[at]
        diff = difference(near.asked, asked)
        if not diff:
            text = f"every recorded answer to {where} in {path} has been played; the last request is in line"
            return CassetteMismatchError(f"{text} {near.line}", phase="not_sent")
        played = ", which has been played" if near.number in self._played else ""
        text = f"no recorded request in {path} is like {where}; the nearest is in line {near.line}{played}:\n{diff}\n"
        return CassetteMismatchError(text, phase="not_sent")
