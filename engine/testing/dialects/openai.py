"""The OpenAI-compatible dialect.

Shapes follow the OpenAI API reference (chat completions, embeddings, models, errors); the variants
that other servers write are options of `Answer`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

from ..steps import Answer
from .dialect import Ask, Dialect, EventStream, RefusedError, Route
from .openai_chat import chat_completion, chat_completion_stream
from .openai_embeddings import embedding_list
from .openai_request import read_chat_request
from .sse import sse_comment, sse_event

CREATED = 1_760_000_000  # seconds since the epoch; fixed, so that answers are the same every time

_ENVELOPES: dict[int, tuple[str, str, str | None]] = {
    400: ("The request is not valid.", "invalid_request_error", None),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    402: ("Payment is required.", "billing_error", None),
    403: ("This key may not do that.", "permission_error", None),
    404: ("Not found.", "invalid_request_error", None),
    408: ("The request timed out.", "timeout_error", None),
    409: ("The request is in conflict with another.", "conflict_error", None),
    422: ("The request cannot be processed.", "invalid_request_error", None),
    429: ("Rate limit reached.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", None),
    502: ("The provider failed.", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "overloaded_error", None),
    504: ("The provider did not answer in time.", "server_error", None),
    529: ("Overloaded.", "overloaded_error", None),
}
"""Status -> usual message, type and code."""


class OpenAI(Dialect):
    """`/v1/chat/completions` and what goes with it, bearer keys, `{"error": {...}}`."""

    name = "openai"

    def make_routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/v1/chat/completions"),
            Route("POST", "/v1/embeddings", lambda body, _: embedding_list(body)),
            Route("GET", "/v1/models", lambda _body, _: self.list_models(), runs_model=False),
            Route("GET", "/v1/models/*", lambda _, model: self.find_model(model), runs_model=False),
            Route("GET", "/health", lambda _body, _: {"status": "ok"}, scripted=False, runs_model=False),
            Route("GET", "/v1/health/ready", lambda _body, _: {"status": "ready"}, scripted=False, runs_model=False),
        )

    def is_authorised(self, headers: Mapping[str, str], api_key: str) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), api_key.encode())

    def read_chat(self, body: Any) -> Ask:
        return read_chat_request(body)

    def chat_body(self, answers: Sequence[Answer], ask: Ask, number: int) -> bytes:
        return orjson.dumps(chat_completion(answers, ask, id=f"chatcmpl-{number}", created=CREATED))

    def chat_stream(self, answers: Sequence[Answer], ask: Ask, number: int) -> EventStream:
        return chat_completion_stream(answers, ask, id=f"chatcmpl-{number}", created=CREATED)

    def error_body(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
    ) -> object:
        usual = _ENVELOPES.get(status, (f"Status {status}.", "server_error", None))
        return {
            "error": {
                "message": usual[0] if message is None else message,
                "type": usual[1] if type is None else type,
                "param": param,
                "code": usual[2] if code is None else code,
            }
        }

    def error_event(self, error: object | None, *, event_name: str | None, line_end: bytes) -> bytes:
        payload = OpenAI.error_body(self, 500) if error is None else {"error": error}
        return sse_event(orjson.dumps(payload), line_end=line_end, event=event_name)

    def garbage_event(self, data: str, *, line_end: bytes) -> bytes:
        return sse_event(data.encode(), line_end=line_end)

    def ping(self, *, line_end: bytes) -> bytes:
        return sse_comment("ping", line_end=line_end)

    def list_models(self) -> dict[str, object]:
        return {"object": "list", "data": [self.model_card()]}

    def model_card(self) -> dict[str, object]:
        return {"id": self.model, "object": "model", "created": CREATED, "owned_by": "penstock"}

    def find_model(self, model: str) -> dict[str, object]:
        if model == self.model:
            return self.model_card()
        raise RefusedError(
            HTTPStatus.NOT_FOUND, f"The model '{model}' does not exist.", code="model_not_found", param="model"
        )
