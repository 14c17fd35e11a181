"""Keeptrusts: OpenAI's format behind a proxy whose policies answer 409.

Its server is closed. Bodies and statuses are those of the vendor's page on policy blocks. How a late
output block ends a stream is not published: here it is an error frame and then `[DONE]`, and the
other two that are thinkable are `truncate()` and `answer(finish_reason="content_filter")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from ..answers import Answer
from ..verdicts import Block, Cause
from .chat import Ask
from .dialect import Route
from .framing import EventStream
from .openai import OpenAI, OpenAIChat
from .openai_embeddings import embedding_list
from .problem import Problem, Response
from .request import Request

_ENVELOPES: dict[int, tuple[str, str, str | None]] = {
    400: ("validation_error", "Malformed request", "invalid_request"),
    401: ("authentication_error", "Invalid gateway key", "invalid_api_key"),
    404: ("validation_error", "Not found", "not_found"),
    409: ("policy_violation", "Request blocked: disallowed content", "input_blocked"),
    422: ("validation_error", "Malformed request", "invalid_request"),
    429: ("rate_limit", "Too many requests", "rate_limit_exceeded"),
    502: ("upstream_error", "Provider failed", "provider_error"),
    503: ("upstream_error", "Starting", "gateway_unavailable"),
}
"""Status -> usual type, message and code."""


def _violation(code: str, message: str, policy: str) -> Problem:
    return Problem(409, message, type="policy_violation", code=code, details={"policy": policy})


class KeeptrustsChat(OpenAIChat):
    """Chat completions whose streams close with `[DONE]` after a block, too."""

    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        return replace(super().stream(answers, ask, request), done_after_error=True)


class Keeptrusts(OpenAI):
    """OpenAI's paths and bearer keys, `{"error": {type, message, code, policy}}`."""

    name = "keeptrusts"
    honours_keys = False
    blocks: ClassVar[Mapping[Cause, Problem]] = {
        "policy": _violation("input_blocked", "Request blocked: disallowed content", "content-policy"),
        "input": _violation("input_blocked", "Request blocked: disallowed content", "content-policy"),
        "output": _violation("output_blocked", "Response blocked", "output-policy"),
        "pii": _violation("input_blocked", "Request blocked: personal data", "block-pii"),
        "security": _violation("input_blocked", "Request blocked: prompt injection", "block-prompt-injection"),
        "safety": _violation("input_blocked", "Request blocked: unsafe content", "safety"),
        "model_not_allowed": _violation("input_blocked", "Request blocked: model not allowed", "allowed-models"),
        "budget": _violation("budget_exceeded", "Team budget exhausted", "team-budget"),
        "escalation": _violation("escalation_required", "Human review required", "escalation"),
    }

    def make_routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/v1/chat/completions", KeeptrustsChat()),
            Route("POST", "/v1/embeddings", lambda request, _: embedding_list(request.body)),
            Route("GET", "/v1/models", lambda _, _answer: self.list_models(), runs_model=False),
            Route("GET", "/v1/models/*", lambda request, _: self.find_model(request.tail), runs_model=False),
        )

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        usual = ("upstream_error", f"Status {problem.status}", None)
        type, message, code = _ENVELOPES.get(problem.status, usual)
        error = {
            "type": type if problem.type is None else problem.type,
            "message": message if problem.message is None else problem.message,
            "code": code if problem.code is None else problem.code,
            **problem.details,
        }
        body = {"error": {name: value for name, value in error.items() if value is not None}}
        return Response(problem.status, body, problem.headers)

    def invalid(self, problem: Problem) -> Problem:
        return Problem(422, problem.message)

    def block(self, step: Block, request: Request) -> Problem:
        problem = super().block(step, request)
        if step.when == "in_stream" and step.code is None and problem.code == "input_blocked":
            return replace(problem, code="output_blocked")  # what was let in can only be blocked on its way out
        return problem
