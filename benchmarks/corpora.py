"""The streams that are measured: events as servers send them, made with a seed, with the text that is in them.

| corpus | as sent by | events |
|---|---|---|
| openai | vLLM and most servers that speak OpenAI's dialect | one ``content`` each, nothing else changes |
| obfuscated | OpenAI itself | the same with more members, and a padding of random length in ``obfuscation`` |
| reasoning | DeepSeek | the first half ``reasoning_content``, then ``content`` |
| tools | OpenAI | one call of a function, in pieces of its arguments |
| modelgov | Modelgov | ``{"delta": text}`` |
| varied | mockllm, and whoever means harm | another ``id`` in each event |
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SENTENCE = (
    "the of and to in is that it as was for on are with they be at one have this from or had by but some what there we "
    "can out other were all your when up use word how said an each she which do their time if will way about many then "
    "prime number stream token engine gateway answer question because therefore however nevertheless straightforward"
)
WORDS = re.findall(r"\w+", SENTENCE)
MARKS = (".", ",", "\n\n", '"quoted"', " naïve", " 東京", " 🙂", "\t", " C:\\temp", " <b>")  # one piece in twelve
CREATED = 1760000000
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Corpus:
    """A stream.

    Args:
        opening: Events before the first piece.
        pieces: Events with a piece of text each.
        ending: Events after the last piece, ``[DONE]`` among them.
        text: The pieces of text, joined.
    """

    opening: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    ending: tuple[bytes, ...]
    text: str

    @property
    def events(self) -> tuple[bytes, ...]:
        return self.opening + self.pieces + self.ending

    @property
    def payloads(self) -> list[bytes]:
        """The JSON in the events that have some."""
        return [event[6:-2] for event in self.events if event != DONE]


@functools.lru_cache(maxsize=64)
def corpus(name: str, pieces: int) -> Corpus:
    """The corpus of this name, with so many pieces. The same for the same arguments, everywhere."""
    chance = random.Random(f"{name} {pieces}")
    return CORPORA[name](chance, [_piece(chance) for _ in range(pieces)])


def chat_event(delta: dict[str, Any], finish_reason: str | None = None, **members: Any) -> bytes:
    """An event of OpenAI's dialect. `members` are further ones, or other values of those it has."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": "tiny"}
    return _event({**head, "choices": [choice], **members})


def _piece(chance: random.Random) -> str:
    return chance.choice(MARKS) if chance.random() < 1 / 12 else f" {chance.choice(WORDS)}"


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _ending(pieces: int, finish_reason: str = "stop") -> tuple[bytes, ...]:
    usage = {"prompt_tokens": 9, "completion_tokens": pieces, "total_tokens": pieces + 9}
    return (chat_event({}, finish_reason), chat_event({}, choices=[], usage=usage), DONE)


def _openai(chance: random.Random, pieces: list[str]) -> Corpus:
    opening = chat_event({"role": "assistant", "content": ""})
    events = tuple(chat_event({"content": piece}) for piece in pieces)
    return Corpus((opening,), events, _ending(len(pieces)), "".join(pieces))


def _obfuscated(chance: random.Random, pieces: list[str]) -> Corpus:
    def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        padding = "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=64))
        more = {"service_tier": "default", "system_fingerprint": "fp_560af6e559", "usage": None}
        return chat_event(delta, finish_reason, **more, obfuscation=padding[: chance.randint(1, 14)])

    opening = event({"role": "assistant", "content": "", "refusal": None})
    events = tuple(event({"content": piece}) for piece in pieces)
    return Corpus((opening,), events, (event({}, "stop"), *_ending(len(pieces))[1:]), "".join(pieces))


def _reasoning(chance: random.Random, pieces: list[str]) -> Corpus:
    half = len(pieces) // 2
    opening = chat_event({"role": "assistant", "content": None, "reasoning_content": ""})
    thoughts = [chat_event({"content": None, "reasoning_content": piece}) for piece in pieces[:half]]
    answer = [chat_event({"content": piece, "reasoning_content": None}) for piece in pieces[half:]]
    return Corpus((opening,), (*thoughts, *answer), _ending(len(pieces)), "".join(pieces))


def _tools(chance: random.Random, pieces: list[str]) -> Corpus:
    """The arguments are ``{"text": ...}``, with the pieces in it as JSON has them."""
    inside = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces[2:]]
    arguments = ['{"text":"', *inside, '"}']
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "say", "arguments": ""}}
    opening = chat_event({"role": "assistant", "content": None, "tool_calls": [call]})
    events = tuple(chat_event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments)
    return Corpus((opening,), events, _ending(len(pieces), "tool_calls"), "".join(arguments))


def _modelgov(chance: random.Random, pieces: list[str]) -> Corpus:
    usage = {"inputTokens": 9, "outputTokens": len(pieces), "totalTokens": len(pieces) + 9}
    done = _event({"done": True, "model": "tiny", "usage": usage, "requestId": "req_1"})
    return Corpus((), tuple(_event({"delta": piece}) for piece in pieces), (done, DONE), "".join(pieces))


def _varied(chance: random.Random, pieces: list[str]) -> Corpus:
    opening = chat_event({"role": "assistant", "content": ""})
    events = tuple(chat_event({"content": piece}, id=f"chatcmpl-{chance.getrandbits(64):x}") for piece in pieces)
    return Corpus((opening,), events, _ending(len(pieces)), "".join(pieces))


CORPORA: dict[str, Callable[[random.Random, list[str]], Corpus]] = {
    "openai": _openai,
    "obfuscated": _obfuscated,
    "reasoning": _reasoning,
    "tools": _tools,
    "modelgov": _modelgov,
    "varied": _varied,
}
