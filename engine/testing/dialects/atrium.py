"""Monago Atrium: OpenAI's chat completions, with what was decided in headers.

The gateway is closed. Header names, error bodies and statuses are those its published client reads
and is tested with. Streams are not documented; they are OpenAI's here, with the same headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ..answers import Answer
from ..verdicts import Block, Cause
from .chat import Ask
from .dialect import Dialect, Route
from .openai import OpenAIChat
from .openai_chat import without_text
from .problem import Pairs, Problem, RefusedError, Response
from .request import Request

_MEMBERS = frozenset(
    ("model", "messages", "temperature", "max_tokens", "top_p", "stop", "stream", "tools", "tool_choice")
)
"""What a request may have: what the client sends, streams, and tools."""

_ENVELOPES: dict[int, tuple[str, str | None]] = {
    400: ("invalid request", "invalid_request_error"),
    401: ("invalid api key", None),
    402: ("no credit", None),
    403: ("workspace disabled", "forbidden"),
    404: ("no such model", "model_not_found"),
    409: ("conflict", None),
    422: ("invalid request", "invalid_request_error"),
    429: ("too many requests", None),
    451: ("model denied", "model_not_allowed"),
    500: ("internal error", None),
    502: ("provider failed", "provider_error"),
    503: ("upstream unavailable", None),
}
"""Status -> usual message and code."""

_REASONS = {
    "policy": "rule violation: r-42",
    "pii": "PII detected: NIK",
    "security": "prompt injection detected",
    "model_not_allowed": "model not allowed for workspace",
}
"""Cause of a block -> usual reason."""


class AtriumChat(OpenAIChat):
    """Chat completions with no member too many (`extra="forbid"`)."""

    def read(self, request: Request) -> Ask:
        ask = super().read(request)
        unknown = sorted(set(request.body) - _MEMBERS)
        if unknown:
            raise RefusedError(Problem(422, f"Extra inputs are not permitted: {', '.join(unknown)}"))
        return ask


class Atrium(Dialect):
    """`/v1/chat/completions`, bearer keys, `X-Monago-*` on answers and errors."""

    name = "atrium"
    has_reasons = True
    blocks: ClassVar[Mapping[Cause, Problem]] = {
        "policy": Problem(400, "policy rule blocked", code="policy_blocked"),
        "pii": Problem(400, "PII detected and policy blocked", code="pii_blocked"),
        "security": Problem(422, "security incident", code="security_block"),
        "model_not_allowed": Problem(451, "model denied", code="model_not_allowed"),
    }

    def make_routes(self) -> tuple[Route, ...]:
        return (Route("POST", "/v1/chat/completions", AtriumChat()),)

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        message, code = _ENVELOPES.get(problem.status, (f"status {problem.status}", None))
        error = {
            "message": message if problem.message is None else problem.message,
            "code": code if problem.code is None else problem.code,
            "type": problem.type,
            **problem.details,
        }
        body = {"error": {name: value for name, value in error.items() if value is not None}}
        # Nothing is audited before the key is known.
        audit = (("X-Monago-Audit-Id", _audit_id(request)),) if problem.status != 401 else ()
        return Response(problem.status, body, (*audit, *problem.headers))

    def block(self, step: Block, request: Request) -> Problem:
        problem = super().block(step, request)
        reason = _REASONS[step.cause] if step.reason is None else step.reason
        headers: list[tuple[str, str]] = [
            ("X-Monago-Policy-Decision", "blocked"),
            ("X-Monago-Block-Reason", reason),
        ]
        found = ", ".join(step.findings)
        if step.cause == "pii":
            headers += [("X-Monago-Pii-Detected", "true"), ("X-Monago-Pii-Redacted", found or "NIK")]
        if step.cause == "security":
            headers.append(("X-Monago-Security-Incident", found or "prompt_injection"))
        return replace(problem, headers=tuple(headers))

    def answer_headers(self, answer: Answer, request: Request) -> Pairs:
        facts = answer.governance
        stated = {
            "X-Monago-Audit-Id": facts.get("audit_id", _audit_id(request)),
            "X-Monago-Pii-Detected": "true" if facts.get("pii_detected", bool(facts.get("redactions"))) else "false",
            "X-Monago-Pii-Redacted": ", ".join(facts.get("redactions", ())) or None,
            "X-Monago-Policy-Decision": facts.get("decision", "allowed"),
            "X-Monago-Provider": facts.get("provider", "openai"),
            "X-Monago-Latency-Ms": facts.get("latency_ms", 12.5),
            "X-Monago-Cost-Idr": facts.get("cost", 12.5),
            "X-Monago-Security-Incident": ", ".join(facts.get("incidents", ())) or None,
        }
        return tuple((name, str(value)) for name, value in stated.items() if value is not None)

    def without_content(self, body: Any) -> object:
        return without_text(body)


def _audit_id(request: Request) -> str:
    return f"audit-{request.number:04d}"
