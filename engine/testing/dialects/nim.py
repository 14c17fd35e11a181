"""NVIDIA's hosted NIM: OpenAI's wire format with another error envelope.

A self-hosted NIM answers errors like OpenAI: use the dialect `openai` for it.
"""

from __future__ import annotations

from ..status import reason_phrase
from .openai import OpenAI
from .problem import Problem, Response
from .request import Request


class NIM(OpenAI):
    """Errors are problem details: `{"status": 429, "title": "Too Many Requests", "detail": ...}`."""

    name = "nim"
    wrong_key = "Incorrect API key provided."

    def error(self, problem: Problem, request: Request, *, in_stream: bool = False) -> Response:
        if in_stream:
            return super().error(problem, request, in_stream=True)
        named = {"type": problem.type, "code": problem.code, "detail": problem.message}
        body = {
            "status": problem.status,
            "title": reason_phrase(problem.status),
            **{name: value for name, value in named.items() if value is not None},
            **problem.details,
        }
        return Response(problem.status, body, problem.headers)
