"""NVIDIA NIM: the OpenAI family with NVIDIA's address, key, readiness path and problem documents."""

from __future__ import annotations

import re

from ..errors import Advice, AuthenticationError, ModelEngineError, OverloadedError
from ..exchange import Operation
from ..verdict import Complaint
from .openai import OpenAICompatibleGateway

_NO_CAPACITY = re.compile("resource_?exhausted", re.IGNORECASE)


class NIMGateway(OpenAICompatibleGateway):
    """The hosted endpoints of NVIDIA, or a NIM container at another base URL."""

    name = "nim"
    base_url = "https://integrate.api.nvidia.com"
    key_variables = ("NVIDIA_API_KEY",)
    health = Operation("health", "GET", "/v1/health/ready", repeatable=True)

    def verdict(self, status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        message = complaint.message or ""
        if status == 403 and message == "Authorization failed":
            return AuthenticationError, None  # what the hosted endpoints say of a key that they do not accept
        if (status is None or status >= 500) and _NO_CAPACITY.search(f"{complaint.type} {message}"):
            return OverloadedError, None
        return super().verdict(status, complaint)
