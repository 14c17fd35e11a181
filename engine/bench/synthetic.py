"""Prompts of a given length that no cache has seen, made without a tokenizer.

The words are short and frequent, and nearly every tokenizer has one token for each of them with the space before it:
`n` words come out as about `n` tokens. What the server counts is in its usage, and reported as such. Who has a
tokenizer may give its count, and lengths are then exact for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import accumulate
from typing import Any

from ..errors import ConfigurationError
from .prompts import Prompt

CountTokens = Callable[[str], int]

_FREQUENT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were all her she there would their we him been has when who will no more if out so up said what its about "
    "than into them can only other time new some could these two may first then do any like my now over such our man "
    "me even most made after also did many off before must well back through years much where your way down should "
    "because long each just state those people too mr how little good world make very year still see own work men day"
)
_SHELF_WORDS = 20_000  # that prompts are cut from; a longer prompt takes several times from it


_LONGEST = 10_000_000  # tokens: more than any model reads, and 60 MB of words


@dataclass(frozen=True, slots=True)
class Length:
    """How long something is, in tokens: always the same, or drawn evenly between two bounds.

    Args:
        low: The least.
        high: The most. `None` is `low`.
    """

    low: int
    high: int | None = None

    def __post_init__(self) -> None:
        top = self.low if self.high is None else self.high
        if not (isinstance(self.low, int) and isinstance(top, int) and 1 <= self.low <= top <= _LONGEST):
            text = f"a length is a number of tokens from 1 to {_LONGEST:,}, or two in order, not {self!r:.80}"
            raise ConfigurationError(text)

    @classmethod
    def parse(cls, text: str) -> Length:
        """A length as text: ``512``, or ``256-1024``.

        Raises:
            ConfigurationError: It is neither.
        """
        low, dash, high = text.partition("-")
        try:
            return cls(int(low), int(high) if dash else None)
        except ValueError:
            raise ConfigurationError(f"a length is written 512 or 256-1024, not {text!r:.80}") from None

    def draw(self, random_number: random.Random) -> int:
        return self.low if self.high is None else random_number.randint(self.low, self.high)


@dataclass(frozen=True)
class Synthetic:
    """Prompts by their length. The same number gives the same prompt, in every process.

    Args:
        input: Tokens of the prompt, the prefix not counted.
        output: Tokens of the answer, sent as `output_field`. `None` leaves it to the model.
        prefix: Tokens at the beginning that requests share, as they share a system prompt. 0 for none.
        prefixes: How many different ones there are; requests take them in turn.
        turns: Of a conversation; each has the length of a prompt.
        params: Members of the body.
        output_field: The member that bounds the answer.
        seed: For the words and the lengths.
        count_tokens: A tokenizer's count of a text, for exact lengths. It has to pickle for several processes.
    """

    input: Length
    output: Length | None = None
    prefix: int = 0
    prefixes: int = 1
    turns: int = 1
    params: dict[str, Any] = field(default_factory=dict)
    output_field: str = "max_tokens"
    seed: int = 0
    count_tokens: CountTokens | None = None

    def __post_init__(self) -> None:
        if self.prefix < 0 or self.prefixes < 1 or self.turns < 1:
            raise ConfigurationError("prefix= is a number from 0; prefixes= and turns= are numbers from 1")

    def prompt(self, number: int) -> Prompt:
        drawn = random.Random(f"{self.seed}/{number}")
        texts = [self._text(self.input.draw(drawn), drawn, f"{number}.{turn}") for turn in range(self.turns)]
        params = self.params if self.output is None else {**self.params, self.output_field: self.output.draw(drawn)}
        first: list[dict[str, str]] = [{"role": "user", "content": texts[0]}]
        if self.prefix:
            first.insert(0, {"role": "system", "content": self._prefixes[number % self.prefixes]})
        return Prompt((first, *texts[1:]), params, number)

    def text(self, number: int) -> str:
        """What the first turn of a prompt says, without the prefix."""
        drawn = random.Random(f"{self.seed}/{number}")
        return self._text(self.input.draw(drawn), drawn, f"{number}.0")

    @cached_property
    def _shelf(self) -> tuple[str, list[int]]:
        """Words in a row, twice as many as one prompt takes at a time, and where each begins."""
        words = random.Random(self.seed).choices(_FREQUENT.split(), k=_SHELF_WORDS) * 2
        return " ".join(words) + " ", [0, *accumulate(len(word) + 1 for word in words)]

    @cached_property
    def _prefixes(self) -> list[str]:
        draws = (random.Random(f"{self.seed}/prefix/{each}") for each in range(self.prefixes))
        return [self._text(self.prefix, draw, f"p{each}") for each, draw in enumerate(draws)]

    def _text(self, tokens: int, drawn: random.Random, mark: str) -> str:
        """Words for so many tokens. They begin with a mark: caches of prefixes find nothing that they know."""
        words = partial(self._words, drawn.randrange(_SHELF_WORDS), mark)
        if self.count_tokens is None:
            return words(tokens)
        return _fitted(words, tokens, self.count_tokens)

    def _words(self, start: int, mark: str, count: int) -> str:
        text, begins = self._shelf
        wholes, rest = divmod(count - 1, _SHELF_WORDS)
        end = text[: begins[_SHELF_WORDS]] * wholes + text[begins[start] : begins[start + rest]]
        return f"{mark} {end}".rstrip()


@lru_cache(maxsize=4096)
def block(name: str, tokens: int, seed: int = 0) -> str:
    """Words for so many tokens that are the same for the same name: a piece of a prompt that several share."""
    words = random.Random(f"{seed}/block/{name}").choices(_FREQUENT.split(), k=tokens - 1)
    return " ".join([f"b{name}", *words])


def _fitted(words: Callable[[int], str], tokens: int, count_tokens: CountTokens) -> str:
    """The longest text of at most so many tokens, and of one word at least."""
    low, high = 1, tokens
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(words(middle)) <= tokens:
            low = middle
        else:
            high = middle - 1
    return words(low)
