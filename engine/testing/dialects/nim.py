"""NVIDIA's hosted NIM: OpenAI's wire format with another error envelope.

A self-hosted NIM answers errors like OpenAI: use the dialect `openai` for it.
"""

from __future__ import annotations

from ..status import reason_phrase
from .openai import OpenAI


class NIM(OpenAI):
    """Errors are problem details: `{"status": 429, "title": "Too Many Requests", "detail": ...}`."""

    name = "nim"

    def error_body(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | int | None = None,
        type: str | None = None,
        param: str | None = None,
    ) -> object:
        named = {"type": type, "code": code, "detail": message}
        return {"status": status, "title": reason_phrase(status), **{k: v for k, v in named.items() if v is not None}}
