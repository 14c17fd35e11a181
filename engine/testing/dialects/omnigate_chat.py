"""OmniGate's two ways to chat: JSON and plain text of its own, and a twin of OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..answers import Answer
from ..words import count_words
from .chat import Ask, ChatFormat, text_pieces
from .framing import EventStream, Framing
from .omnigate_request import read_chat
from .openai import OpenAIChat
from .problem import Problem, RefusedError
from .request import Request

_USD_PER_TOKEN = 1e-06


class OmniGateChat(ChatFormat):
    """`POST /v1/chat`: one JSON object, or a stream of plain text without end mark.

    Only text has a place in them: reasoning, tool calls and refusals of an `Answer` are not sent.
    """

    def read(self, request: Request) -> Ask:
        return read_chat(request.body)

    def whole(self, answers: Sequence[Answer], ask: Ask, request: Request) -> object:
        (answer,) = answers
        facts, completion = answer.governance, count_words(answer.content)
        total = ask.prompt_words + completion
        counted = {"prompt_tokens": ask.prompt_words, "completion_tokens": completion, "total_tokens": total}
        usage = counted if answer.usage == "counted" else answer.usage
        body = {
            "id": f"chatcmpl-{request.number}",
            "provider": facts.get("provider", "openai"),
            "model": facts.get("model", ask.model),
            "content": answer.content or "",
            "cost_usd": facts.get("cost", round(total * _USD_PER_TOKEN, 9)),
            "finish_reason": "stop" if answer.finish_reason == "auto" else answer.finish_reason,
            "cached": facts.get("cached", False),
            "fallback_used": facts.get("fallback", False),
            "latency_ms": facts.get("latency_ms", 12),
        }
        return body if usage is None else {**body, "usage": usage}

    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        (answer,) = answers
        return EventStream(
            TextFraming(),
            comments=[],
            opening=[],
            deltas=[piece.encode() for piece in text_pieces(answer)],
            closing=[],
            done=b"",
            content_type="text/plain; charset=utf-8",
        )


@dataclass(frozen=True, slots=True)
class TextFraming(Framing):
    """No framing: an error is a mark in the text, and everything after it is the message."""

    def error(self, body: Any, *, event_name: str | None = None) -> bytes:
        return f"\n[error] {body}".encode()

    def wrap(self, error: Any) -> Any:
        return error if isinstance(error, str) else error.get("message", "")

    def garbage(self, data: str) -> bytes:
        return data.encode()

    def ping(self) -> bytes:
        return b""


class OmniGateTwin(OpenAIChat):
    """`POST /v1/chat/completions`: OpenAI's, for text alone, and with `[DONE]` after errors, too."""

    def read(self, request: Request) -> Ask:
        ask = super().read(request)
        for index, message in enumerate(request.body["messages"]):
            if message["role"] not in ("system", "developer", "user", "assistant"):
                raise _refused(f"messages[{index}].role '{message['role']}' is not supported")
            if not isinstance(message.get("content"), str):
                raise _refused(f"messages[{index}].content must be a string")
        if ask.choices > 1:
            raise _refused("n > 1 is not supported")
        return ask

    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        return replace(super().stream(answers, ask, request), done_after_error=True)


def _refused(message: str) -> RefusedError:
    return RefusedError(Problem(400, message, type="invalid_request_error"))
