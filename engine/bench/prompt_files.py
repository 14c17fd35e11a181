"""Prompts from JSONL, as people have them: prompts, messages, conversations, bodies of batch files, recorded traces.

A line is an object with one of these:

    {"prompt": "Name a prime."}                                  also "text", "question", "input"
    {"messages": [{"role": "user", "content": "..."}]}
    {"turns": ["Name a prime.", "Another."], "think_s": 2}
    {"body": {"messages": [...], "temperature": 0}}              as in OpenAI's batch files
    {"input_length": 512, "output_length": 64}                   words are made up
    {"input_length": 700, "hash_ids": [17, 4]}                   the same for the same ids, by blocks of 512 tokens

and may have `timestamp` (when it came, for `Replay`), `output_tokens` or `output_length` (a bound on the answer), and
`params` (members of the body). A template wraps what a line says into members of the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..errors import ConfigurationError
from ..types import Messages
from .loads import MOST_AT_A_TIME, Replay
from .prompts import Prompt
from .synthetic import Length, Synthetic, block

_TEXT_NAMES = ("prompt", "text", "question", "input")
_OUTPUT_NAMES = ("output_tokens", "output_length", "max_tokens")
_BLOCK_TOKENS = 512  # of Mooncake's traces, which name the blocks of a prompt
_LATEST = 1e15  # of a timestamp: milliseconds since 1970 are below, for thirty thousand years
_TAKEN = frozenset({"messages", "model", "stream", "stream_options"})  # members of a body that no line decides
_UNITS = {"s": 1.0, "ms": 1e-3}


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The prompts of a file.

    Args:
        prompts: In order.
        moments_s: When each came, in seconds. `None` when no line says so.
    """

    prompts: tuple[Prompt, ...] = field(repr=False)
    moments_s: tuple[float, ...] | None = field(default=None, repr=False)

    def replay(self, *, speed: float = 1.0, cap: int = MOST_AT_A_TIME) -> Replay:
        """The load that was recorded.

        Raises:
            ConfigurationError: The lines do not say when they came.
        """
        if self.moments_s is None:
            raise ConfigurationError("there is no timestamp in the file: it cannot be replayed")
        return Replay(self.moments_s, speed, cap)


@dataclass(frozen=True, slots=True)
class Template:
    """A body to put prompts into: ``"{prompt}"`` in any text of it is the prompt, ``"{output_tokens}"`` the bound.

    A member that is nothing but ``"{output_tokens}"`` becomes the number. Members with the name ``messages`` are what
    is said, and all others are members of the body.
    """

    body: Mapping[str, Any]

    def __post_init__(self) -> None:
        if "messages" not in self.body or "{prompt}" not in str(self.body):
            raise ConfigurationError('a template of a body has "messages", with "{prompt}" somewhere in it')

    def filled(self, prompt: str, output_tokens: int | None) -> tuple[Messages, dict[str, Any]]:
        """What to say, and the other members of the body."""
        body = {name: _filled(value, prompt, output_tokens) for name, value in self.body.items()}
        return body.pop("messages"), {name: value for name, value in body.items() if value is not None}


def read_prompts(
    lines: Iterable[bytes | str],
    *,
    template: Template | None = None,
    output_field: str = "max_tokens",
    timestamp_unit: str = "s",
    seed: int = 0,
) -> PromptFile:
    """Read prompts.

    Args:
        lines: Of JSONL; blank ones are passed over.
        template: Wraps lines that are a text.
        output_field: The member that bounds the answer.
        timestamp_unit: ``s`` or ``ms``.
        seed: For words that are made up.

    Raises:
        ConfigurationError: A line is none of the shapes, or only some have a timestamp; it says which line.
    """
    if timestamp_unit not in _UNITS:
        raise ConfigurationError(f"timestamp_unit= is s or ms, not {timestamp_unit!r:.80}")
    reader = _Reader(template, output_field, seed)
    prompts: list[Prompt] = []
    moments: list[float] = []
    for number, line in _objects(lines):
        try:
            prompts.append(reader.prompt(line, len(prompts)))
            if "timestamp" in line:
                moments.append(_moment(line["timestamp"]) * _UNITS[timestamp_unit])
        except (ConfigurationError, TypeError, ValueError) as error:
            raise ConfigurationError(f"line {number} of the prompts: {error}") from None
    if not prompts:
        raise ConfigurationError("there is no prompt in the file")
    if moments and len(moments) != len(prompts):
        raise ConfigurationError(
            f"{len(moments)} of {len(prompts)} prompts have a timestamp: give all of them one, or none"
        )
    if moments:
        order = sorted(range(len(prompts)), key=moments.__getitem__)
        return PromptFile(tuple(prompts[each] for each in order), tuple(moments[each] for each in order))
    return PromptFile(tuple(prompts))


def _moment(value: Any) -> float:
    moment = float(value)
    if not abs(moment) < _LATEST:
        raise ConfigurationError(f"timestamp is {value!r:.80}, which is no moment")
    return moment


def _objects(lines: Iterable[bytes | str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"line {number} of the prompts is not JSON: {error}") from None
        yield number, {"prompt": value} if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Reader:
    template: Template | None
    output_field: str
    seed: int

    def prompt(self, line: Any, position: int) -> Prompt:
        """The prompt of a line."""
        if not isinstance(line, dict):
            raise ConfigurationError(f"it is {type(line).__name__}, not an object")
        params = dict(line.get("params") or {})
        if taken := sorted(_TAKEN & params.keys()):
            raise ConfigurationError(f"{taken[0]} is not for params")
        bound = next((line[name] for name in _OUTPUT_NAMES if line.get(name) is not None), None)
        turns = self._turns(line, params, bound, position)
        if bound is not None and not int(bound) > 0:
            raise ConfigurationError(f"an answer of {bound!r:.80} tokens cannot be asked for")
        if bound is not None and self.template is None:
            params.setdefault(self.output_field, int(bound))
        return Prompt(turns, params, position, float(line.get("think_s") or 0.0))

    def _turns(self, line: dict[str, Any], params: dict[str, Any], bound: Any, position: int) -> tuple[Messages, ...]:
        """What is said; members of a body go to `params`."""
        if isinstance(body := line.get("body"), dict) and "messages" in body:
            params.update((name, value) for name, value in body.items() if name not in _TAKEN)
            return (body["messages"],)
        if "messages" in line:
            return (line["messages"],)
        if isinstance(line.get("turns"), list):
            return tuple(line["turns"])
        text = next((line[name] for name in _TEXT_NAMES if isinstance(line.get(name), str)), None)
        if text is None and "input_length" in line:
            text = self._made_up(line, position)
        if text is None:
            raise ConfigurationError(f"it has none of {', '.join(_TEXT_NAMES)}, messages, turns, body, input_length")
        if self.template is None:
            return (text,)
        messages, members = self.template.filled(text, bound)
        params.update(members)
        return (messages,)

    def _made_up(self, line: dict[str, Any], position: int) -> str:
        """Words of a length. Prompts that share blocks in the trace share them here, for caches of prefixes."""
        length = int(line["input_length"])
        ids = line.get("hash_ids") or ()
        left = [min(_BLOCK_TOKENS, length - at * _BLOCK_TOKENS) for at in range(len(ids))]
        blocks = [block(str(each), tokens, self.seed) for each, tokens in zip(ids, left) if tokens > 0]
        if (rest := length - _BLOCK_TOKENS * len(ids)) > 0 or not blocks:
            blocks.append(Synthetic(Length(rest), seed=self.seed).text(position))
        return " ".join(blocks)


def _filled(value: Any, prompt: str, output_tokens: int | None) -> Any:
    if isinstance(value, str):
        if value == "{output_tokens}":
            return output_tokens
        return value.replace("{prompt}", prompt).replace("{output_tokens}", str(output_tokens))
    if isinstance(value, Mapping):
        return {name: _filled(each, prompt, output_tokens) for name, each in value.items()}
    return [_filled(each, prompt, output_tokens) for each in value] if isinstance(value, list) else value
