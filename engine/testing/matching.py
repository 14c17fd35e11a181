"""How a rule says which texts it means: exactly one, those with a piece in them, those a pattern finds."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contains:
    """Every text with this piece in it. Upper and lower case are two."""

    contains: str

    def __post_init__(self) -> None:
        if not self.contains:
            raise ValueError("contains('') would match every text; leave the matcher out instead")


@dataclass(frozen=True, slots=True)
class Regex:
    """Every text in which the pattern is found, anywhere (`re.search`)."""

    regex: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"regex {self.regex!r} is none: {error}") from None


Match = str | Contains | Regex
"""A text as it is, or one of the others."""


def is_match(match: Match, text: str | None) -> bool:
    """Whether a rule means this text. `None`, there is no text, is never meant."""
    if text is None:
        return False
    if isinstance(match, Contains):
        return match.contains in text
    if isinstance(match, Regex):
        return re.search(match.regex, text) is not None
    return match == text


# In a rule a matcher reads as a condition: rule(fail(503), message=contains("weather")).
contains = Contains
regex = Regex
