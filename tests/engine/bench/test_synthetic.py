"""Made-up prompts: of the length that is asked for, the same everywhere, and new to every cache."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from penstock.engine.bench.prompts import Prompt
from penstock.engine.bench.synthetic import Length, Synthetic
from penstock.errors import ConfigurationError


def said(prompt: Prompt, turn: int = 0) -> list[str]:
    messages: Any = prompt.turns[turn]
    return [message["content"] for message in messages] if turn == 0 else [messages]


@given(some.integers(1, 70_000), some.integers(0, 1000))
def test_a_length_is_so_many_words(tokens: int, number: int) -> None:
    (text,) = said(Synthetic(Length(tokens)).prompt(number))
    assert len(text.split(" ")) == tokens


def test_the_same_number_gives_the_same_prompt_in_every_process() -> None:
    prompts = Synthetic(Length(5, 50), Length(10, 20), seed=4)
    elsewhere = pickle.loads(pickle.dumps(prompts))
    assert [prompts.prompt(number) for number in range(20)] == [elsewhere.prompt(number) for number in range(20)]


def test_no_prompt_begins_as_another_does() -> None:
    prompts = Synthetic(Length(30))
    assert len({said(prompts.prompt(number))[0].split()[0] for number in range(500)}) == 500


def test_lengths_are_drawn_between_their_bounds() -> None:
    prompts = Synthetic(Length(10, 12), Length(3, 4), output_field="max_completion_tokens")
    drawn = [prompts.prompt(number) for number in range(100)]
    assert {len(said(prompt)[0].split()) for prompt in drawn} == {10, 11, 12}
    assert {prompt.params["max_completion_tokens"] for prompt in drawn} == {3, 4}


def test_a_prefix_is_shared_by_those_who_take_it_in_turn() -> None:
    prompts = Synthetic(Length(5), prefix=40, prefixes=2)
    systems = [said(prompts.prompt(number))[0] for number in range(4)]
    assert systems[0] == systems[2] != systems[1] == systems[3]
    assert {len(system.split()) for system in systems} == {40}


def test_a_conversation_has_its_turns() -> None:
    prompt = Synthetic(Length(5), turns=3).prompt(0)
    assert len(prompt.turns) == 3
    assert len({text for turn in range(3) for text in said(prompt, turn)}) == 3


def test_a_tokenizers_count_is_met() -> None:
    (text,) = said(Synthetic(Length(100), count_tokens=len).prompt(1))
    assert 90 < len(text) <= 100


@pytest.mark.parametrize(("text", "expected"), [("512", Length(512)), ("256-1024", Length(256, 1024))])
def test_a_length_can_be_written(text: str, expected: Length) -> None:
    assert Length.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "9-3", "many", "1-2-3", "-5"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="a length is"):
        Length.parse(text)


def test_a_prefix_below_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="prefix="):
        Synthetic(Length(5), prefix=-1)
