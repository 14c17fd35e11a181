"""Streams and answers of the OpenAI family, written and read without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from multidict import CIMultiDict

from penstock.engine.accumulate import Accumulator
from penstock.engine.decode import stream_decoder
from penstock.engine.errors import ModelEngineError
from penstock.engine.exchange import StreamDecoder
from penstock.engine.types import LLMResponse, LLMResponseChunk, UsageInfo
from penstock.engine.verdict import Answer

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
COUNTS = UsageInfo(9, 5, 14)


def head(content_type: str | None = "text/event-stream", **headers: str) -> Answer:
    fields: CIMultiDict[str] = CIMultiDict(headers)
    if content_type is not None:
        fields["Content-Type"] = content_type
    return Answer(200, fields, b"", received=0.0)


def unary(body: Any, content_type: str = "application/json", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(200, CIMultiDict({"Content-Type": content_type, **headers}), raw, received=0.0)


def choice(index: int | None = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    members = {"index": index, "delta": delta, "finish_reason": finish}
    return members if index is not None else {"delta": delta, "finish_reason": finish}


def chunk(*choices: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "model": "tiny", "choices": list(choices), **members}


def text(content: str, finish: str | None = None, **members: Any) -> dict[str, Any]:
    return chunk(choice(content=content, finish=finish), **members)


def completion(message: dict[str, Any] | None, finish: str | None = "stop", **members: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **members}


def sse(*payloads: Any) -> bytes:
    """The events of a stream: objects as JSON, bytes as they are."""
    return b"".join(each if isinstance(each, bytes) else b"data: " + orjson.dumps(each) + b"\n\n" for each in payloads)


@dataclass
class Run:
    """What came out of a decoder."""

    chunks: list[LLMResponseChunk] = field(default_factory=list)
    failure: ModelEngineError | None = None
    finished: bool = False

    @property
    def response(self) -> LLMResponse:
        accumulator = Accumulator()
        accumulator.add(self.chunks)
        return accumulator.response()

    @property
    def outcome(self) -> tuple[Any, ...]:
        failure = self.failure
        what = re.sub("[0-9]+ bytes received", "", str(failure))  # which do depend on the reads
        return (self.chunks, type(failure), what, failure and failure.body, self.finished)


def run(data: bytes | Iterable[bytes], decoder: StreamDecoder | None = None) -> Run:
    """Feed a whole body and its end."""
    decoder = decoder or stream_decoder(head())
    result = Run()
    for piece in [data] if isinstance(data, bytes) else data:
        result.chunks += decoder.feed(piece)
    result.chunks += decoder.close()
    result.failure, result.finished = decoder.failure, decoder.finished
    return result


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(borders, borders[1:])]


def only(*payloads: Any) -> list[LLMResponseChunk]:
    """The chunks of a stream that ends well."""
    result = run(sse(*payloads, DONE))
    assert result.failure is None
    return result.chunks


def fragment(index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    members = {"index": index, "id": id, "type": "function" if name else None}
    function = {"name": name, "arguments": arguments}
    return {
        **{member: value for member, value in members.items() if value is not None},
        "function": {member: value for member, value in function.items() if value is not None},
    }
