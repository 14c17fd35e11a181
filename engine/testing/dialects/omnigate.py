"""OmniGate: its own chats in JSON and plain text, an OpenAI twin, keys and metrics.

As the published server 0.2.0 writes. Streams of plain text cannot tell a model that writes the
error mark from an error; that is so on the wire, and here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..answers import Answer
from ..status import reason_phrase
from ..verdicts import Cause, ProviderError
from . import omnigate_operations as operations
from .dialect import Dialect, Route, is_same_key
from .omnigate_chat import OmniGateChat, OmniGateTwin
from .openai_chat import without_text
from .problem import Pairs, Problem, RefusedError, Response
from .request import Request

_CHAT = "/v1/chat"
_TWIN = "/v1/chat/completions"
_BEFORE_THE_TWIN = (401, 402, 405, 422, 429)  # statuses of what stands before the route, in front of both chats

_DETAILS = {
    401: "Invalid API key",
    402: "Project daily budget exceeded",
    429: "Rate limit exceeded",
    502: "No provider candidate could handle the request",
    503: "openai circuit is open",
}
"""Status -> usual text; elsewhere the reason phrase."""

_LIMITS = (("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "31"))
_USED_UP = (("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "0"))
_BUDGETS = (
    ("x-budget-project-daily-spend", "0.001200"),
    ("x-budget-project-daily-limit", "5.0000"),
    ("x-budget-org-daily-spend", "0.001200"),
    ("x-budget-org-daily-limit", "0.0000"),
)


class OmniGate(Dialect):
    """`x-api-key` or a bearer key, `{"detail": ...}`, and OpenAI's envelope past the gates of the twin."""

    name = "omnigate"
    blocks: ClassVar[Mapping[Cause, Problem]] = {"budget": Problem(402, "Project daily budget exceeded")}

    def make_routes(self) -> tuple[Route, ...]:
        model = self.model
        return (
            Route("POST", _CHAT, OmniGateChat()),
            Route("POST", _TWIN, OmniGateTwin()),
            Route("GET", "/v1/models", lambda *_: operations.models(model), runs_model=False),
            Route("GET", "/v1/models/*", self._model, runs_model=False),
            Route("GET", "/v1/metrics", lambda request, _: operations.metrics(request, model), runs_model=False),
            Route("POST", "/v1/signup", operations.signup, status=201, keyless=True),
            Route("POST", "/v1/keys", operations.set_provider_key, status=204),
            Route("POST", "/v1/keys/api", operations.create_api_key, status=201),
            Route("GET", "/v1/me", lambda *_: operations.me(), runs_model=False),
            Route("GET", "/health", lambda *_: _HEALTH, scripted=False, keyless=True, runs_model=False),
        )

    def authorise(self, headers: Mapping[str, str], api_key: str) -> None:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        if not key:
            raise RefusedError(Problem(401, "Missing x-api-key header (or Authorization: Bearer token)"))
        if not is_same_key(key, api_key):
            raise RefusedError(Problem(401))

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        message = problem.message
        if message is None:
            message = _DETAILS.get(problem.status) or reason_phrase(problem.status)
        is_past_the_gates = problem.type is not None or problem.status not in _BEFORE_THE_TWIN
        if request.path == _TWIN and (in_stream or is_past_the_gates):
            type = problem.type or ("provider_error" if problem.status >= 500 else "invalid_request_error")
            if in_stream:
                return Response(problem.status, {"error": {"message": message, "type": "provider_error"}})
            error = {"message": message, "type": type, "param": problem.param, "code": problem.code}
            return Response(problem.status, {"error": {**error, **problem.details}}, problem.headers)
        if in_stream:
            return Response(problem.status, message)
        limits = _USED_UP if problem.status == 429 and problem.type is None else ()
        return Response(problem.status, {"detail": message, **problem.details}, (*limits, *problem.headers))

    def invalid(self, problem: Problem) -> Problem:
        where = problem.param.split(".") if problem.param is not None else []
        complaint = {"loc": ["body", *where], "msg": problem.message, "type": "value_error"}
        return Problem(422, problem.message, body={"detail": [complaint]})

    def provider_error(self, step: ProviderError, request: Request) -> Problem:
        if step.status is None:
            return Problem(502, f"{step.provider} request failed: {step.message}", type="provider_error")
        type = "provider_error" if step.status >= 500 else "invalid_request_error"
        return Problem(step.status, f"{step.provider} error {step.status}: {step.message}", type=type)

    def signature(self, request: Request) -> Pairs:
        # The twin keeps the caller's id where it does not stream; the other routes make their own.
        callers = request.headers.get("x-request-id") if request.path == _TWIN else None
        return (("x-request-id", request.trace_id if callers is None or request.wants_stream else callers),)

    def answer_headers(self, answer: Answer, request: Request) -> Pairs:
        if request.path not in (_CHAT, _TWIN):
            return ()
        facts = answer.governance
        answered = {
            "x-llmgw-provider": facts.get("provider", "openai"),
            "x-llmgw-model": facts.get("model", request.body["model"]),
        }
        named = tuple((name, value) for name, value in answered.items() if value is not None)
        if request.wants_stream:
            return named
        cached, fallback = facts.get("cached", False), facts.get("fallback", False)
        flags = (("x-llmgw-cached", str(cached).lower()), ("x-llmgw-fallback", str(fallback).lower()))
        return (*named, *flags, *_LIMITS, *_BUDGETS)

    def without_content(self, body: Any) -> object:
        return {**body, "content": ""} if "content" in body else without_text(body)

    def _model(self, request: Request, _answer: Answer) -> object:
        if request.tail == self.model:
            return operations.model_card(self.model)
        raise RefusedError(Problem(404, f"Model '{request.tail}' not found"))


_HEALTH = {"status": "ok", "version": "0.2.0"}
