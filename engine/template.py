"""The constant text around the one string that changes from event to event, and the reading of that string alone.

Most events of a model's stream differ in a single JSON string:

    data: {"id":"c-1","choices":[{"index":0,"delta":{"content":" prime"},"finish_reason":null}]}
    |------------------------- head --------------------------|-hole-|---------- tail ----------|

A template is learned from one whole event. As long as events have the same head and tail, character for character, it
is enough to scan the string in between, with the scanner that `json` itself uses, and to compare what follows with the
tail and the next head at once. That is sound because

* the text before the hole is the same, so a JSON parser is in the same state there, waiting for a string;
* the scanner ends at the string's own closing quote, refuses what no JSON string may have, line ends among it, and
  unescapes the rest; what it lets through and the general decoder does not, a lone surrogate and bytes that are no
  UTF-8, is looked for where a string is not ASCII;
* the text after it is the same, so the parser ends in the same state, and the event at the same blank line;
* that the hole is where it seems to be is proved when the template is learned: with another string in its place the
  event decodes to the same object, but for that member.

So an event that fits decodes to the learned object with another text, and what the decoder made of the learned object
holds for it, too, as far as it does not depend on what came in between: that is the decoder's matter. What does not fit
is not touched.

A read is scanned as Latin-1 text, in which each character is a byte: it costs a copy, and a character from beyond it
does not make all others of the read wider. All that the scanner and the comparison look for is ASCII.

A second hole is for OpenAI's ``obfuscation``, a padding that is thrown away.
"""

from __future__ import annotations

import re
from itertools import islice
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import orjson

Path = tuple["str | int", ...]
"""Where a member stands in a decoded object: names and positions, from the outside in."""

_PADDING: Path = ("obfuscation",)
_LONGEST = 16 * 1024  # characters of an event to learn from; longer ones are not repeated by the thousand
_MOST_PLACES = 8  # at which a member's name may stand in an event before the search is given up
_LONGEST_STRING = 512  # bytes in a read of one event; more than one event would be scanned twice
_PROBE = "a text that no event has"


def byte_text(data: bytes) -> str:
    """Bytes as text that has a character for each of them, for `Template.read`."""
    return str(data, "latin-1")


class Template:
    """What is constant in the events of a stream.

    Args:
        head: Text of an event up to and including the opening quote of the hole.
        tail: Text after its closing quote, up to and including the blank line, or to the padding's opening quote.
        rest: Text after the padding's closing quote, up to and including the blank line. `None` without a padding.
    """

    __slots__ = ("_event", "_head", "_joint", "_rest", "_tail")

    def __init__(self, head: str, tail: str, rest: str | None = None) -> None:
        self._event = (head, tail, rest)
        self._head = byte_text(head.encode())
        self._tail = byte_text(tail.encode())
        self._rest = None if rest is None else byte_text(rest.encode())
        self._joint = (self._tail if self._rest is None else self._rest) + self._head

    @classmethod
    def learn(cls, event: str, path: Path) -> Template | None:
        """The template of an event. `None` when it is not one line of data, or the hole cannot be found for certain.

        Args:
            event: The text of the event, with its blank line.
            path: Where the string stands that changes.
        """
        if not (event.startswith("data:") and event.endswith("\n\n")) or len(event) > _LONGEST:
            return None
        if "\n" in event[:-2] or "\r" in event:
            return None
        hole = _place_of(event, path)
        if hole is None:
            return None
        start, end = hole
        padding = _place_of(event, _PADDING) if f'"{_PADDING[0]}"' in event else None
        if padding is None:
            return cls(event[:start], event[end:])
        if padding[0] < end:
            return None
        return cls(event[:start], event[end : padding[0]], event[padding[1] :])

    def read(self, text: str, start: int) -> tuple[list[str], int]:
        """The strings in the hole, of the events from `start` on as far as they fit, and where the first one begins
        that does not.

        Args:
            text: Whole events, as `byte_text`.
            start: Where an event begins.
        """
        strings: list[str] = []
        head, joint, append, scan = self._head, self._joint, strings.append, scanstring
        if not text.startswith(head, start):
            return strings, start
        if self._rest is not None:
            return self._read_padded(text, start)
        at, step = start + len(head), len(joint)
        try:
            while True:
                string, end = scan(text, at, True)
                if not string.isascii():
                    string = _decoded(text, at, end)
                if text[end : end + step] == joint:  # a slice is cheaper than startswith() with a position
                    append(string)
                    at = end + step
                elif text.startswith(self._tail, end):
                    append(string)
                    return strings, end + len(self._tail)
                else:
                    break
        except ValueError:
            pass  # no JSON string: the general decoder says what is wrong with it
        return strings, at - len(head)

    def single(self, limit: int) -> SingleEvent:
        """What reads the string of a read that is one event.

        Args:
            limit: Bytes of the longest read to look at; others are left alone.
        """
        longest = len(self._head) + len(self._tail) + len(self._rest or "")
        return SingleEvent(*self._event, min(limit, longest + _LONGEST_STRING))

    def read_all(self, data: bytes) -> tuple[list[str], int] | None:
        """The strings in the hole, when all whole events of a read fit, and where the event begins that is not whole.

        `None` when one does not fit, or none is whole.
        """
        end = len(data) if data.endswith(b"\n\n") else data.rfind(b"\n\n") + 2
        if end < 2:
            return None
        strings, position = self.read(byte_text(data if end == len(data) else data[:end]), 0)
        return (strings, end) if position == end else None

    def _read_padded(self, text: str, start: int) -> tuple[list[str], int]:
        """As `read`, of events that have a padding."""
        strings: list[str] = []
        head, tail, joint, rest, scan = self._head, self._tail, self._joint, self._rest or "", scanstring
        at, size, step = start + len(head), len(tail), len(joint)
        try:
            while True:
                string, end = scan(text, at, True)
                if not string.isascii():
                    string = _decoded(text, at, end)
                if text[end : end + size] != tail:
                    break
                begin = end + size
                padding, end = scan(text, begin, True)
                if not padding.isascii():
                    _decoded(text, begin, end)
                if text[end : end + step] == joint:
                    strings.append(string)
                    at = end + step
                elif text.startswith(rest, end):
                    strings.append(string)
                    return strings, end + len(rest)
                else:
                    break
        except ValueError:
            pass
        return strings, at - len(head)


class SingleEvent:
    """Reads the string of reads that are exactly one event that fits: what `Template` would give, for the reads of a
    stream of single tokens, and for half the time.

    Attributes:
        head: Bytes of the event before the string.
        tail: Text between the string and the padding, with both quotes. `None` without a padding.
        last: Bytes after the last closing quote.
        longest: Bytes of the longest read to look at.

    Every stream has its own, which is not in the processor's cache when the next event of a stream comes: it is small.
    """

    __slots__ = ("_end", "_start", "head", "last", "longest", "tail")

    def __init__(self, head: str, tail: str, rest: str | None, longest: int) -> None:
        self.head = head.encode()
        self.tail = None if rest is None else tail
        self.last = (tail if rest is None else rest).encode()
        self.longest = longest
        self._start = len(self.head)
        self._end = -len(self.last)

    def read(self, data: bytes) -> str | None:
        """The string. `None` when the read may be something else."""
        if not (data.startswith(self.head) and data.endswith(self.last)) or len(data) > self.longest:
            return None
        try:
            text = str(data[self._start : self._end], "utf-8")  # with the closing quote
            string, end = scanstring(text, 0, True)
            if (tail := self.tail) is not None:
                if not text.startswith(tail, end):
                    return None
                _, end = scanstring(text, end + len(tail), True)
        except ValueError:
            return None
        if end != len(text) or "\\u" in text:  # it may be a lone surrogate
            return None
        found: str = string
        return found


def _place_of(event: str, path: Path) -> tuple[int, int] | None:
    """Where in an event the string under this path stands: after its opening quote, after its closing one. `None` when
    there is none, or it cannot be told from others.
    """
    try:
        decoded = orjson.loads(event[5:])
        string = _member(decoded, path)
        if not isinstance(string, str):
            return None
        for match in islice(re.finditer(rf'"{path[-1]}"[ \t]*:[ \t]*"', event), _MOST_PLACES):
            start = match.end()
            found, end = scanstring(event, start, True)
            if found == string and _is_proved(event, decoded, path, start, end):
                return start, end
    except (ValueError, LookupError, TypeError):
        pass
    return None


def _is_proved(event: str, decoded: Any, path: Path, start: int, end: int) -> bool:
    """Whether another string in this place changes this member, and nothing else."""
    probed = orjson.loads(f"{event[5:start]}{_PROBE}{event[end - 1 :]}")
    owner, name = _member(probed, path[:-1]), path[-1]
    if owner[name] != _PROBE:
        return False
    owner[name] = _member(decoded, path)
    return bool(probed == decoded)


def _member(decoded: Any, path: Path) -> Any:
    for step in path:
        decoded = decoded[step]
    return decoded


def _decoded(text: str, start: int, end: int) -> str:
    """A string that is not ASCII, scanned anew.

    Args:
        text: As `byte_text`.
        start: After its opening quote.
        end: After its closing one.

    Raises:
        ValueError: It is no UTF-8, or has a lone surrogate.
    """
    raw = text[start : end - 1].encode("latin-1").decode()
    if "\\" not in raw:
        return raw
    string: str = scanstring(f'{raw}"', 0, True)[0]
    string.encode()
    return string
