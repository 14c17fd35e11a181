"""Modelgov's chats: camelCase JSON, and a stream of `{"delta": ...}` frames of its own.

Only text has a place in them: reasoning, tool calls and refusals of an `Answer` are not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..answers import Answer
from ..words import count_words
from .chat import Ask, ChatFormat, text_pieces
from .framing import EventFraming, EventStream
from .modelgov_record import audit_id, governance_record, is_masked, model_name
from .modelgov_request import read_chat
from .request import Request


class ModelgovChat(ChatFormat):
    """`POST /v1/chat`. `model` is the one that answers."""

    def __init__(self, model: str) -> None:
        self._model = model

    def read(self, request: Request) -> Ask:
        return read_chat(request.body, model=self._model)

    def whole(self, answers: Sequence[Answer], ask: Ask, request: Request) -> object:
        (answer,) = answers
        tokens = ask.prompt_words + count_words(answer.content)
        body = {
            "message": {"role": "assistant", "content": answer.content or ""},
            "model": model_name(answer, self._model),
            **governance_record(answer, request, tokens=tokens),
            "safety": _safety(answer, request),
        }
        usage = _usage(answer, ask)
        return body if usage is None else {**body, "usage": usage}

    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        (answer,) = answers
        framing = ModelgovFraming(answer.line_end.encode(), error_name="error")
        end = {"done": True, "model": model_name(answer, self._model), "requestId": audit_id(answer, request)}
        usage = _usage(answer, ask)
        return EventStream(
            framing,
            comments=[framing.comment(text) for text in answer.comments],
            opening=[],
            deltas=[framing.event(b'{"delta":%b}' % orjson.dumps(piece)) for piece in text_pieces(answer)],
            closing=[framing.event(orjson.dumps(end if usage is None else {**end, "usage": usage}))],
            done=framing.event(b"[DONE]"),
            content_type="text/event-stream",
        )


class ModelgovFraming(EventFraming):
    """Errors are not wrapped: `event: error`, then `{"code": ..., "message": ...}`."""

    def wrap(self, error: Any) -> Any:
        return error


def _usage(answer: Answer, ask: Ask) -> Mapping[str, Any] | None:
    if answer.usage != "counted":
        return answer.usage
    return {"inputTokens": ask.prompt_words, "outputTokens": count_words(answer.content)}


def _safety(answer: Answer, request: Request) -> dict[str, bool]:
    safety = {"piiMasked": is_masked(answer), "injectionBlocked": False}
    if "grounded" in answer.governance:
        safety["grounded"] = answer.governance["grounded"]
    elif "context" in request.body:
        safety["grounded"] = True
    return safety
