"""The dialect: requests, answers, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ...accumulate import Accumulator
from ...body import excerpt, read_object
from ...decode import ForeignBody, stream_decoder
from ...errors import (
    Advice,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ProviderError,
)
from ...exchange import Operation, StreamDecoder
from ...members import text_of
from ...types import ChunkHead, Governance, LLMResponse, LLMResponseChunk, ModelInfo
from ...usage import read_usage
from ...verdict import Answer, Complaint, plain_headers
from ..base import Request
from ..openai import OpenAICompatibleGateway
from .facts import read_governance
from .sources import class_by_words, provider_advice, provider_status, with_source
from .text_stream import TextDecoder

# The server knows no idempotency keys.
COMPLETIONS = Operation("chat", "POST", "/v1/chat/completions", keys="ignored")
SIGNUP = Operation("signup", "POST", "/v1/signup", keys="ignored", once=True, anonymous=True)
# It overwrites the key of the provider (app/services/credentials.py), so that a second time changes nothing.
SET_PROVIDER_KEY = Operation("set_provider_key", "POST", "/v1/keys", keys="ignored", repeatable=True)
CREATE_API_KEY = Operation("create_api_key", "POST", "/v1/keys/api", keys="ignored", once=True)
ME = Operation("me", "GET", "/v1/me", repeatable=True)
METRICS = Operation("metrics", "GET", "/v1/metrics", repeatable=True)

_TEXT_TYPES = ("text/plain", "", "application/octet-stream")
_ROLES = ("system", "user", "assistant")
_REQUIRED = ("id", "provider", "model", "content")
_OF_GOVERNANCE = ("cost_usd", "cached", "fallback_used", "latency_ms")
_KNOWN_MEMBERS = frozenset({*_REQUIRED, *_OF_GOVERNANCE, "usage", "finish_reason"})


class OmniGateGateway(OpenAICompatibleGateway):
    """OmniGate at the address the user gives.

    Args:
        user_id: Who calls, unless a chat says otherwise: sent with every request as ``x-user-id``.

    Raises:
        ConfigurationError: The user id cannot stand in a header.
    """

    name = "omnigate"
    base_url = "http://localhost:8000"  # omnigate 0.1.0's default
    auth_header = "x-api-key"
    auth_scheme = ""
    needs_model = False  # what is not a chat has none; chats ask for it here
    chat = Operation("chat", "POST", "/v1/chat", keys="ignored")
    health = Operation("health", "GET", "/health", repeatable=True)

    def __init__(self, user_id: str | None = None) -> None:
        super().__init__()
        self._user_headers = _user_headers(user_id, ConfigurationError)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._user_headers

    def encode_chat(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        _check_messages(messages)
        return self._encode(self.chat, model, messages, {"stream_options": None, **params}, stream=stream)

    def encode_completions(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        """As `encode_chat`, for the twin of OpenAI's chat completions."""
        return self._encode(COMPLETIONS, model, messages, params, stream=stream)

    def encode_embeddings(self, model: str | None, inputs: Any, params: Mapping[str, Any]) -> Request:
        raise InvalidRequestError("OmniGate has no embeddings", gateway=self.name, phase="not_sent")

    def decode_chat(self, answer: Answer) -> LLMResponse:
        payload = read_object(answer, self.judge_event)
        try:
            require_texts(payload, _REQUIRED)
            finish_reason = text_of(payload, "finish_reason")
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise
        whole = LLMResponseChunk(
            delta_content=payload["content"],
            finish_reason=finish_reason or None,
            usage=read_usage(payload.get("usage")),
            extra={name: value for name, value in payload.items() if name not in _KNOWN_MEMBERS},
            head=ChunkHead(payload["id"], payload["model"], response_headers=plain_headers(answer.headers)),
        )
        accumulator = Accumulator()
        accumulator.add([whole])
        return accumulator.response(
            gateway_request_id=answer.headers.get("x-request-id"),
            governance=self.governance(answer.headers, payload),
        )

    def decode_completions(self, answer: Answer) -> LLMResponse:
        """The answer of a unary completion of the twin."""
        return super().decode_chat(answer)

    def decode_models(self, answer: Answer) -> tuple[ModelInfo, ...]:
        if answer.body.lstrip().startswith(b"["):  # omnigate 0.1.0 takes a bare list as well
            answer = replace(answer, body=b'{"data":%b}' % answer.body)
        return super().decode_models(answer)

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        """The decoder for a stream, by its content type: plain text of a chat, or events of a completion."""
        judge = partial(self._judge_in, head.headers)
        media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type in _TEXT_TYPES:
            return TextDecoder(head, judge=judge)
        if media_type == "text/event-stream":
            return stream_decoder(head, judge=judge)
        return ForeignBody(head, judge=judge)

    def verdict(self, status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        message = complaint.message or ""
        if status is not None and (error_class := class_by_words(message)) is not None:
            return error_class, None
        if (upstream := provider_status(message)) is not None:
            return ProviderError, provider_advice(upstream)
        if status == 402:
            return BudgetExceededError, None
        return super().verdict(status, complaint)

    def judge(self, answer: Answer) -> ModelEngineError:
        return with_source(super().judge(answer))

    def judge_event(self, complaint: Complaint) -> ModelEngineError:
        return self._judge_in({}, complaint)

    def governance(self, headers: Mapping[str, str], body: Any = None) -> Governance | None:
        return read_governance(headers, body)

    def _encode(
        self, operation: Operation, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        if not isinstance(model, str) or not model:
            raise InvalidRequestError("a chat names its model: give model=", param="model", phase="not_sent")
        given = dict(params)
        headers = _user_headers(given.pop("user_id", None), InvalidRequestError)
        body = super().encode_chat(model, messages, given, stream=stream).body or {}
        body = {name: value for name, value in body.items() if value is not None}
        return Request(operation, {**body, "stream": stream}, headers)

    def _judge_in(self, headers: Mapping[str, str], complaint: Complaint) -> ModelEngineError:
        """What an error inside a success with these headers means. It counts as a 502, as omnigate 0.1.0 has it."""
        error = super().judge_event(complaint)
        error.status = error.status or 502
        error.governance = self.governance(headers)
        return with_source(error)


def require_texts(payload: dict[str, Any], names: Iterable[str]) -> None:
    """Raise `MalformedResponseError` when one of these members is not a text."""
    for name in names:
        if text_of(payload, name) is None:
            raise MalformedResponseError(f"the answer has no {name}")


def _check_messages(messages: list[Any]) -> None:
    """Raise `InvalidRequestError` for what a chat does not take: it has no tools, and content is text."""
    for position, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            text = f"messages[{position}].role is system, user or assistant, not {role!r:.80}"
            raise InvalidRequestError(text, param=f"messages[{position}].role", phase="not_sent")
        if not isinstance(content, str):
            text = f"messages[{position}].content is text, not {type(content).__name__}"
            raise InvalidRequestError(text, param=f"messages[{position}].content", phase="not_sent")


def _user_headers(user_id: Any, error: type[ModelEngineError]) -> dict[str, str]:
    if user_id is None:
        return {}
    if not isinstance(user_id, str) or not user_id.strip() or not user_id.isprintable():
        raise error(f"user_id is a text that can stand in a header, not {user_id!r:.80}", phase="not_sent")
    return {"x-user-id": user_id}
