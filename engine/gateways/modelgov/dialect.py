"""What Modelgov says on the wire and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...body import excerpt, read_object
from ...decode import ForeignBody
from ...errors import (
    Advice,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ReplayedWithoutContentError,
)
from ...exchange import Operation, StreamDecoder
from ...members import kind_of, list_of, object_of, text_of
from ...types import EmbeddingResponse, Governance, LLMResponse, ModelInfo
from ...verdict import Answer, Complaint, judge_event, judge_openai, plain_headers, status_of_type
from ..base import Gateway, Request
from .arguments import to_headers, to_members
from .record import AUDIT_HEADER, governance_of, governance_of_error, is_replay, trace_id_of, usage_of
from .stream import ModelgovStreamDecoder
from .verdicts import modelgov_verdict, status_of_code

# A proxy may have put a general type, or none, on an event stream; gateway 1.7.2 puts none on its empty ones.
_STREAM_TYPES = ("text/event-stream", "", "text/plain", "application/octet-stream")


class ModelgovGateway(Gateway):
    """A Modelgov gateway: its policy chooses the model, by ``userId``, ``userType``, ``feature`` and ``modelClass``.

    Calls take ``user_id``, ``user_type`` and ``feature`` as keyword arguments; a model is sent as ``modelClass``.
    """

    name = "modelgov"
    key_variables = ("MODELGOV_API_KEY",)
    needs_model = False
    chat = Operation("chat", "POST", "/v1/chat", keys="honoured")
    chat_stream = Operation("chat", "POST", "/v1/chat", keys="refused")
    embeddings = Operation("embeddings", "POST", "/v1/embeddings", keys="honoured")
    documents = Operation("extract_document", "POST", "/v1/documents/extract", keys="honoured")
    explain = Operation("explain", "POST", "/v1/explain", keys="ignored", repeatable=True)
    usage = Operation("get_usage", "GET", "/v1/usage", repeatable=True)
    usage_summary = Operation("get_usage_summary", "GET", "/v1/usage/summary", repeatable=True)
    usage_transactions = Operation("get_usage_transactions", "GET", "/v1/usage/transactions", repeatable=True)
    models = Operation("get_provider_health", "GET", "/v1/admin/providers/health", repeatable=True)
    health = Operation("health", "GET", "/health", repeatable=True, anonymous=True)
    ready = Operation("ready", "GET", "/ready", repeatable=True, anonymous=True)

    def encode_chat(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        members = dict(params)
        if members.pop("stream", stream) not in (stream, None):
            raise InvalidRequestError(
                f"stream is always {stream} in this method: leave it out", param="stream", phase="not_sent"
            )
        members = {**members, "messages": messages, "stream": True if stream else None}
        return _keyed_by_class(self.chat_stream if stream else self.chat, model, members)

    def encode_embeddings(self, model: str | None, inputs: Any, params: Mapping[str, Any]) -> Request:
        return _keyed_by_class(self.embeddings, model, {**params, "input": inputs})

    def encode_document(self, params: Mapping[str, Any]) -> Request:
        """The request for the text of a document."""
        return _request(self.documents, params)

    def encode_explain(self, params: Mapping[str, Any]) -> Request:
        """The request for what would be decided about a chat."""
        return _request(self.explain, params)

    def decode_object(self, answer: Answer) -> dict[str, Any]:
        """As `Gateway.decode_object`.

        Raises:
            ReplayedWithoutContentError: It is a replay, and the text of message or document, or the vectors, were not
                kept.
        """
        payload = read_object(answer, self.judge_event)
        if is_replay(answer.headers) and _is_emptied(payload):
            raise self._without_content(answer, payload)
        return payload

    def decode_chat(self, answer: Answer) -> LLMResponse:
        payload = self.decode_object(answer)
        try:
            message = object_of(payload, "message")
            content = text_of(message or {}, "content")
            if content is None:
                raise MalformedResponseError("the answer has no message with a content")
            model, audit_id = text_of(payload, "model"), text_of(payload, "requestId")
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise
        return LLMResponse(
            content=content,
            model=model,
            usage=usage_of(payload.get("usage")),
            request_id=audit_id,
            provider_metadata=_metadata(answer, payload, ("message", "model", "usage")),
            gateway_request_id=answer.headers.get("x-request-id") or answer.headers.get(AUDIT_HEADER),
            governance=self.governance(answer.headers, payload),
        )

    def decode_embeddings(self, answer: Answer) -> EmbeddingResponse:
        payload = self.decode_object(answer)
        try:
            if payload.get("embeddings") is None:
                raise MalformedResponseError("the answer has no embeddings")
            vectors = tuple(_vector(vector) for vector in list_of(payload, "embeddings"))
            model = text_of(payload, "model")
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise
        return EmbeddingResponse(
            embeddings=vectors,
            model=model,
            usage=usage_of(payload.get("usage")),
            provider_metadata=_metadata(answer, payload, ("embeddings", "model", "usage")),
            gateway_request_id=answer.headers.get("x-request-id") or answer.headers.get(AUDIT_HEADER),
            governance=self.governance(answer.headers, payload),
        )

    def decode_models(self, answer: Answer) -> tuple[ModelInfo, ...]:
        """The models whose health the gateway watches, with it in `ModelInfo.extra`: there is no other list of them."""
        payload = self.decode_object(answer)
        try:
            return tuple(_model(card) for card in list_of(payload, "models"))
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type in _STREAM_TYPES:
            return ModelgovStreamDecoder(head, self.judge_event)
        return ForeignBody(head, judge=self.judge_event)

    def verdict(self, status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        return modelgov_verdict(status, complaint)

    def judge(self, answer: Answer) -> ModelEngineError:
        error = judge_openai(answer, self.verdict)
        error.request_id = trace_id_of(error.body) or error.request_id
        error.governance = governance_of_error(answer.headers, error.body)
        return error

    def judge_event(self, complaint: Complaint) -> ModelEngineError:
        error = judge_event(complaint, self.verdict)
        error.status = status_of_type(complaint) or status_of_code(complaint.code)
        error.request_id = trace_id_of(error.body)
        error.governance = governance_of_error({}, error.body)
        return error

    def governance(self, headers: Mapping[str, str], body: Any = None) -> Governance | None:
        return governance_of(headers, body)

    def _without_content(self, answer: Answer, payload: dict[str, Any]) -> ReplayedWithoutContentError:
        """The error for a replay that is empty; what it cost stands in ``governance.extra["usage"]``."""
        governance = self.governance(answer.headers, payload) or Governance()
        if "usage" in payload:
            governance = replace(governance, extra={**governance.extra, "usage": payload["usage"]})
        return ReplayedWithoutContentError(
            "the gateway replays the answer of an earlier run and has not kept its content",
            status=answer.status,
            request_id=governance.audit_id,
            governance=governance,
            body=payload,
        )


def _keyed_by_class(operation: Operation, model: str | None, params: Mapping[str, Any]) -> Request:
    """A request in which the model, where one is named, stands for a class that is not given."""
    request = _request(operation, params)
    body = dict(request.body or {})
    if model:
        body.setdefault("modelClass", model)
    return replace(request, body=body)


def _request(operation: Operation, params: Mapping[str, Any]) -> Request:
    members = dict(params)
    headers = to_headers(members.pop("request_id", None))
    return Request(operation, to_members(members), headers)


def _is_emptied(payload: dict[str, Any]) -> bool:
    """Whether the content that an answer has to have is empty."""
    message = payload.get("message")
    contents = [payload.get("embeddings", True), payload.get("text", True)]
    contents.append(message.get("content") if isinstance(message, dict) else True)
    return not all(contents)


def _metadata(answer: Answer, payload: dict[str, Any], named: tuple[str, ...]) -> dict[str, Any]:
    metadata = {name: value for name, value in payload.items() if name not in named}
    metadata["response_headers"] = plain_headers(answer.headers)
    return metadata


def _vector(vector: Any) -> list[float]:
    if isinstance(vector, list) and all(type(number) in (float, int) for number in vector):
        return [float(number) for number in vector]
    raise MalformedResponseError("an embedding is not a list of numbers")


def _model(card: Any) -> ModelInfo:
    if not isinstance(card, dict):
        raise MalformedResponseError(f"a model is {kind_of(card)}, not an object")
    name = text_of(card, "model")
    if not name:
        raise MalformedResponseError("a model has no name")
    extra = {name: value for name, value in card.items() if name not in ("model", "provider")}
    return ModelInfo(id=name, owned_by=text_of(card, "provider"), extra=extra)
