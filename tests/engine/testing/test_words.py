"""Words are cut and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.testing.words import count_words, split_words


def test_a_word_takes_the_space_before_it_along() -> None:
    assert split_words("Hello from  here.\n") == ["Hello", " from", "  here.", "\n"]


@given(st.text())
def test_the_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


def test_counts_words() -> None:
    assert [count_words(text) for text in ("a b  c", "", None)] == [3, 0, 0]
