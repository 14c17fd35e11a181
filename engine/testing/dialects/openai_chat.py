"""Writing a chat completion, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import orjson

from ..answers import Answer, ToolCall
from ..words import count_words, split_words
from .chat import Ask, text_pieces
from .framing import EventFraming, EventStream

_FRAGMENT = 6  # characters of tool arguments in one delta
_FINGERPRINT = "fp_penstock"
_MARK = b"\0"  # stands for a delta; JSON has no such byte

Usage = Mapping[str, Any]


def chat_completion(answers: Sequence[Answer], ask: Ask, *, id: str, created: int) -> dict[str, Any]:
    """The answer as one object, one choice per answer. Usage is the first answer's affair."""
    completion: dict[str, Any] = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": _model(answers, ask),
        "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
    }
    usage = _usage(answers, ask)
    if usage is not None:
        completion["usage"] = usage
    completion["system_fingerprint"] = _FINGERPRINT
    return completion


def chat_completion_stream(answers: Sequence[Answer], ask: Ask, *, id: str, created: int) -> EventStream:
    """The answer as a stream.

    Order: a role frame for each choice, deltas with the choices in turn, a finish frame for each
    choice, the usage frame, `[DONE]`. The first answer decides about everything that belongs to the
    stream as a whole.
    """
    chunks = _Chunks(answers, ask, id, created)
    framing = EventFraming(answers[0].line_end.encode())
    return EventStream(
        framing,
        comments=[framing.comment(text) for text in answers[0].comments],
        opening=[framing.event(data) for data in chunks.opening()],
        deltas=chunks.deltas(framing),
        closing=[framing.event(data) for data in chunks.closing()],
        done=framing.event(b"[DONE]"),
    )


def without_text(body: Mapping[str, Any]) -> dict[str, Any]:
    """A completion, or a list of embeddings, that has lost what the model said."""
    emptied = dict(body)
    if "choices" in body:
        message = {"role": "assistant", "content": ""}
        emptied["choices"] = [{**choice, "message": message} for choice in body["choices"]]
    elif "data" in body:
        emptied["data"] = []
    return emptied


class _Chunks:
    """The chunks of one stream, as JSON.

    All that does not change from chunk to chunk is encoded once.
    """

    def __init__(self, answers: Sequence[Answer], ask: Ask, id: str, created: int) -> None:
        self._answers = answers
        self._usage_on = answers[0].usage_on
        self._usage = _usage(answers, ask)
        self._asked_for_usage = ask.include_usage and self._usage_on == "own_frame"
        head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": _model(answers, ask)}
        self._head = orjson.dumps({**head, "system_fingerprint": _FINGERPRINT})[:-1] + b',"choices":['
        self._sent = 0

    def opening(self) -> Iterator[bytes]:
        if self._answers[0].azure_first_frame:
            yield _AZURE_FIRST_FRAME
        for index, answer in enumerate(self._answers):
            content = b"null" if answer.content is None else b'""'
            yield self._chunk(index, b'{"role":"assistant","content":%b}' % content)

    def deltas(self, framing: EventFraming) -> list[bytes]:
        """The deltas as events, the choices in turn."""
        if self._usage_on == "every_frame":
            return [framing.event(data) for data in self._running()]
        # All but the delta is the same in every event of a choice, so a stream of thousands costs little.
        around = [framing.event(self._chunk(index, _MARK)).split(_MARK) for index in range(len(self._answers))]
        if len(around) == 1:
            ((before, after),) = around
            return [before + delta + after for delta in _deltas(self._answers[0])]
        return [around[index][0] + delta + around[index][1] for index, delta in self._in_turn()]

    def _running(self) -> Iterator[bytes]:
        """Chunks that tell the usage so far."""
        for index, delta in self._in_turn():
            self._sent += 1
            yield self._chunk(index, delta)

    def _in_turn(self) -> Iterator[tuple[int, bytes]]:
        turns = zip_longest(*map(_deltas, self._answers))
        for index, delta in chain.from_iterable(map(enumerate, turns)):
            if delta is not None:
                yield index, delta

    def closing(self) -> Iterator[bytes]:
        last = len(self._answers) - 1
        for index, answer in enumerate(self._answers):
            usage = self._usage if index == last and self._usage_on != "own_frame" else None
            yield self._chunk(index, b"{}", finish=_finish_reason(answer), usage=usage)
        if self._asked_for_usage and self._usage is not None:
            yield self._head + b'],"usage":%b}' % orjson.dumps(self._usage)

    def _chunk(self, index: int, delta: bytes, *, finish: str | None = None, usage: Usage | None = None) -> bytes:
        if usage is None and self._usage_on == "every_frame" and self._usage is not None:
            usage = _so_far(self._usage, self._sent)
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}]%b}' % (
            self._head,
            index,
            delta,
            b"null" if finish is None else orjson.dumps(finish),
            b',"usage":%b' % orjson.dumps(usage) if usage is not None or self._asked_for_usage else b"",
        )


def _deltas(answer: Answer) -> Iterator[bytes]:
    """The deltas of one choice, as JSON, without role and finish."""
    for piece in split_words(answer.reasoning or ""):
        yield b'{"%b":%b}' % (answer.reasoning_field.encode(), orjson.dumps(piece))
    for piece in text_pieces(answer):
        yield b'{"content":%b}' % orjson.dumps(piece)
    for piece in split_words(answer.refusal or ""):
        yield b'{"refusal":%b}' % orjson.dumps(piece)
    for index, call in enumerate(answer.tool_calls):
        for fragment in _fragments(index, call):
            indexed = {"index": index, **fragment} if answer.tool_index else fragment
            yield orjson.dumps({"tool_calls": [indexed]})


def _fragments(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    """Id, type and name come with the first fragment alone, the argument text in pieces."""
    yield {**_tool_call(index, call), "function": {"name": call.name, "arguments": ""}}
    text = call.arguments_text
    for start in range(0, len(text), _FRAGMENT):
        yield {"function": {"arguments": text[start : start + _FRAGMENT]}}


def _choice(index: int, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": answer.refusal}
    if answer.reasoning is not None:
        message[answer.reasoning_field] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call(number, call) for number, call in enumerate(answer.tool_calls)]
    return {"index": index, "finish_reason": _finish_reason(answer), "logprobs": None, "message": message}


def _tool_call(index: int, call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_text}
    return {"id": call.id or f"call_{index + 1}", "type": "function", "function": function}


def _model(answers: Sequence[Answer], ask: Ask) -> str | None:
    """The model that was asked, unless the gateway states that another one answered."""
    return answers[0].governance.get("model", ask.model)


def _finish_reason(answer: Answer) -> str | None:
    if answer.finish_reason != "auto":
        return answer.finish_reason
    return "tool_calls" if answer.tool_calls else "stop"


def _usage(answers: Sequence[Answer], ask: Ask) -> Usage | None:
    """What the answers cost, or what the first one says they cost."""
    if answers[0].usage != "counted":
        return answers[0].usage
    reasoning = sum(count_words(answer.reasoning) for answer in answers)
    said = sum(count_words(answer.content) + count_words(answer.refusal) for answer in answers)
    called = sum(count_words(call.arguments_text) + 1 for answer in answers for call in answer.tool_calls)
    completion = reasoning + said + called
    return {
        "prompt_tokens": ask.prompt_words,
        "completion_tokens": completion,
        "total_tokens": ask.prompt_words + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _so_far(usage: Usage, sent: int) -> Usage:
    """Running usage after `sent` deltas: absolute counts, never more than the whole."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:
        return usage
    completion = min(sent, completion)
    return {**usage, "completion_tokens": completion, "total_tokens": prompt + completion}


# Azure OpenAI sends the content filter's results for the prompt before the first chunk.
_AZURE_FIRST_FRAME = orjson.dumps(
    {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [
            {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
        ],
    }
)
