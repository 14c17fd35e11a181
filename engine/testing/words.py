"""Words: the tokens of the pretend model."""

from __future__ import annotations

import re

# A word takes the white space before it along, as the tokens of real models do.
_WORD = re.compile(r"\s*\S+|\s+")


def split_words(text: str) -> list[str]:
    """Cut `text` into words; the pieces joined are the text again."""
    return _WORD.findall(text)


def count_words(text: str | None) -> int:
    """The number of words in `text`; none in `None`."""
    return len(text.split()) if text else 0
