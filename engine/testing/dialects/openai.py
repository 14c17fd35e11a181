"""The OpenAI-compatible dialect.

Shapes follow the OpenAI API reference (chat completions, embeddings, models, errors); the variants
that other servers write are options of `Answer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..answers import Answer
from ..verdicts import Cause
from .chat import Ask, ChatFormat
from .dialect import Dialect, Route
from .framing import EventStream
from .openai_chat import chat_completion, chat_completion_stream, without_text
from .openai_embeddings import embedding_list
from .openai_request import read_chat_request
from .problem import Problem, RefusedError, Response
from .request import Request

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

_UNSAFE = Problem(
    400,
    "Your request was rejected as a result of our safety system.",
    type="invalid_request_error",
    code="content_policy_violation",
)


class OpenAIChat(ChatFormat):
    """Chat completions."""

    def read(self, request: Request) -> Ask:
        return read_chat_request(request.body)

    def whole(self, answers: Sequence[Answer], ask: Ask, request: Request) -> object:
        return chat_completion(answers, ask, id=f"chatcmpl-{request.number}", created=CREATED)

    def stream(self, answers: Sequence[Answer], ask: Ask, request: Request) -> EventStream:
        return chat_completion_stream(answers, ask, id=f"chatcmpl-{request.number}", created=CREATED)


class OpenAI(Dialect):
    """`/v1/chat/completions` and what goes with it, bearer keys, `{"error": {...}}`.

    OpenAI itself documents no idempotency keys for chats; servers that speak like it often honour
    them, and so does this dialect.
    """

    name = "openai"
    honours_keys = True
    blocks: ClassVar[Mapping[Cause, Problem]] = {
        "policy": _UNSAFE,
        "safety": _UNSAFE,
        "input": _UNSAFE,
        "output": _UNSAFE,
        "budget": Problem(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
        "model_not_allowed": Problem(
            403,
            "This project does not have access to the model.",
            type="invalid_request_error",
            code="model_not_found",
        ),
    }

    def make_routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/v1/chat/completions", OpenAIChat()),
            Route("POST", "/v1/embeddings", lambda request, _: embedding_list(request.body)),
            Route("GET", "/v1/models", lambda _, _answer: self.list_models(), runs_model=False),
            Route("GET", "/v1/models/*", lambda request, _: self.find_model(request.tail), runs_model=False),
            health_route("/health", "ok"),
            health_route("/v1/health/ready", "ready"),
        )

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        message, type, code = _ENVELOPES.get(problem.status, (f"Status {problem.status}.", "server_error", None))
        error = {
            "message": message if problem.message is None else problem.message,
            "type": type if problem.type is None else problem.type,
            "param": problem.param,
            "code": code if problem.code is None else problem.code,
            **problem.details,
        }
        return Response(problem.status, {"error": error}, problem.headers)

    def without_content(self, body: Any) -> object:
        return without_text(body)

    def list_models(self) -> dict[str, object]:
        return {"object": "list", "data": [self.model_card()]}

    def model_card(self) -> dict[str, object]:
        return {"id": self.model, "object": "model", "created": CREATED, "owned_by": "penstock"}

    def find_model(self, model: str) -> dict[str, object]:
        if model == self.model:
            return self.model_card()
        problem = Problem(404, f"The model '{model}' does not exist.", code="model_not_found", param="model")
        raise RefusedError(problem)


def health_route(path: str, status: str) -> Route:
    """Health is asked without a key, and needs no step."""
    return Route("GET", path, lambda _, _answer: {"status": status}, scripted=False, keyless=True, runs_model=False)
