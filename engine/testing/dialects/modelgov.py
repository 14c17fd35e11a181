"""Modelgov: a policy gateway with JSON, streams and blocks of its own.

As observed of the gateway 1.7.2, except for its streams: those are the frames that it documents
and that 1.2.0 sends. What 1.7.2 itself does with `stream: true` is the step `empty()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ..answers import Answer
from ..verdicts import Block, Cause, ProviderError
from . import modelgov_operations as operations
from .dialect import Dialect, Route
from .modelgov_chat import ModelgovChat
from .modelgov_record import BUDGET_REMAINING, audit_id
from .openai import health_route
from .problem import Pairs, Problem, RefusedError, Response
from .request import Request

_CHAT = "/v1/chat"
_EMBEDDINGS = "/v1/embeddings"
_DOCUMENTS = "/v1/documents/extract"
_AUDIT_ID = "x-modelgov-request-id"

_ENVELOPES: dict[int, tuple[str, str]] = {
    400: ("invalid_request", "Invalid request"),
    401: ("unauthorized", "Missing or invalid API key"),
    402: ("insufficient_credits", "Insufficient credits"),
    403: ("forbidden", "API key is not permitted"),
    404: ("not_found", "Not found"),
    409: ("idempotency_in_progress", "Still processing"),
    413: ("payload_too_large", "Body too large"),
    422: ("idempotency_key_reuse", "Key used with another body"),
    429: ("rate_limit_exceeded", "Rate limit exceeded"),
    500: ("internal_error", "Internal server error"),
    501: ("not_implemented", "Not implemented"),
    502: ("provider_unavailable", "Provider unavailable"),
    503: ("safety_unavailable", "Safety service unavailable"),
}
"""Status -> usual code and message."""


def _policy(message: str, reason_code: str) -> Problem:
    return Problem(403, message, code="policy_blocked", details={"reasonCode": reason_code})


def _safety(message: str, **details: str) -> Problem:
    return Problem(403, message, code="safety_blocked", details=details)


class Modelgov(Dialect):
    """Bearer keys, `{"error": {code, message, details, requestId}}`, blocks as 403."""

    name = "modelgov"
    honours_keys = True
    keeps_content = False
    has_reasons = True
    blocks: ClassVar[Mapping[Cause, Problem]] = {
        "policy": _policy("Blocked by policy", "data_sensitivity_not_permitted"),
        # The code is budget_exceeded only when two requests race for the last of it.
        "budget": _policy("Daily budget exceeded", "daily_budget_exceeded"),
        "model_not_allowed": _policy("Model class not permitted", "model_class_not_permitted"),
        "pii": _safety("PII detected", stage="input", reason="pii_detected"),
        "security": _safety("Prompt injection detected", stage="input", reason="prompt_injection"),
        "safety": _safety("Blocked by safety rules", stage="input"),
        "input": _safety("Input blocked", stage="input"),
        "output": _safety("Output blocked", stage="output", reason="output_pii_detected"),
    }

    def make_routes(self) -> tuple[Route, ...]:
        model = self.model
        return (
            Route("POST", _CHAT, ModelgovChat(model)),
            Route("POST", _EMBEDDINGS, lambda request, answer: operations.embeddings(request, answer, model)),
            Route("POST", _DOCUMENTS, operations.extract_document),
            Route("POST", "/v1/explain", lambda r, answer: operations.explain(r, answer, model), runs_model=False),
            Route("GET", "/v1/usage", operations.usage, runs_model=False),
            Route("GET", "/v1/usage/summary", lambda r, _: operations.usage_summary(r, model), runs_model=False),
            Route("GET", "/v1/usage/transactions", operations.usage_transactions, runs_model=False),
            Route("GET", "/v1/admin/providers/health", lambda *_: operations.provider_health(model), runs_model=False),
            health_route("/health", "ok"),
            health_route("/ready", "ready"),
        )

    def find_route(self, method: str, path: str) -> tuple[Route, str]:
        try:
            return super().find_route(method, path)
        except RefusedError:  # its web framework answers this, in another shape and without telling 405 apart
            message = f"Route {method}:{path} not found"
            body = {"message": message, "error": "Not Found", "statusCode": 404}
            raise RefusedError(Problem(404, message, body=body)) from None

    def example(self, text: str) -> tuple[str, dict[str, Any]]:
        identity = {"userId": "user-1", "userType": "free", "feature": "support"}
        return _CHAT, {**identity, "stream": True, "messages": [{"role": "user", "content": text}]}

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        code, message = _ENVELOPES.get(problem.status, ("internal_error", f"Status {problem.status}"))
        if problem.code is not None:
            code, message = str(problem.code), str(problem.code).replace("_", " ").capitalize()
        error = {"code": code, "message": message if problem.message is None else problem.message}
        if in_stream:
            return Response(problem.status, error)
        trace_id = request.headers.get("x-request-id") or request.trace_id
        body = {"error": {**error, "details": dict(problem.details), "requestId": trace_id}}
        limits = (("x-ratelimit-remaining", "0"),) if problem.status == 429 else ()
        return Response(problem.status, body, (*limits, *problem.headers))

    def invalid(self, problem: Problem) -> Problem:
        return Problem(400, details={"detail": problem.message})

    def block(self, step: Block, request: Request) -> Problem:
        problem = super().block(step, request)
        members = problem.details if problem.code == "safety_blocked" else {**_asked(request), **problem.details}
        given = {"reason": step.reason, "findings": list(step.findings) or None}
        details = {**members, **{name: value for name, value in given.items() if value is not None}, **step.details}
        return self._audited(replace(problem, details=details), request)

    def provider_error(self, step: ProviderError, request: Request) -> Problem:
        # A provider that is busy or slow can be asked again; one that refuses cannot.
        is_refusal = step.status is not None and step.status < 500 and step.status not in (408, 429)
        code = "upstream_rejected" if is_refusal else "provider_unavailable"
        return self._audited(Problem(502, step.message, code=code), request)

    def signature(self, request: Request) -> Pairs:
        return (("x-ratelimit-limit", "120"), ("x-ratelimit-remaining", "119"), ("x-ratelimit-reset", "60"))

    def answer_headers(self, answer: Answer, request: Request) -> Pairs:
        if request.path not in (_CHAT, _EMBEDDINGS, _DOCUMENTS):
            return ()
        audit = audit_id(answer, request)
        headers = () if audit is None else ((_AUDIT_ID, audit),)
        if request.wants_stream:
            return (*headers, ("cache-control", "no-cache, no-transform"), ("x-accel-buffering", "no"))
        return headers

    def check_key(self, key: str, request: Request) -> Problem | None:
        if request.wants_stream:
            message = "Idempotency-Key is not supported with stream: true"
            return Problem(400, message, code="idempotency_not_supported")
        most = 255 if request.path == _CHAT else 256  # its routes differ
        return Problem(400, f"Idempotency-Key must have 1 to {most} characters") if len(key) > most else None

    def key_scope(self, body: Any) -> str:
        return str(body["userId"])

    def without_content(self, body: Any) -> object:
        emptied = {name: value for name, value in body.items() if name not in ("tables", "fields", "documents")}
        if "message" in body:
            emptied["message"] = {**body["message"], "content": ""}
        if "embeddings" in body:
            emptied["embeddings"] = []
        if "text" in body:
            emptied["text"] = ""
        return emptied

    @staticmethod
    def _audited(problem: Problem, request: Request) -> Problem:
        """The problem with the id under which it stands in the audit trail."""
        audit = f"req_{request.number}"
        return replace(problem, details={"auditRequestId": audit, **problem.details}, headers=((_AUDIT_ID, audit),))


def _asked(request: Request) -> dict[str, Any]:
    """What a block says about the request that it stopped."""
    names = ("feature", "userType", "userId")
    identity = {name: request.body[name] for name in names} if isinstance(request.body, Mapping) else {}
    return {"decision": "block", **identity, "budgetRemaining": BUDGET_REMAINING}
