"""NVIDIA NIM: the OpenAI family with NVIDIA's address, key and readiness path."""

from __future__ import annotations

from ..exchange import Operation
from .openai import OpenAICompatibleGateway


class NIMGateway(OpenAICompatibleGateway):
    """The hosted endpoints of NVIDIA, or a NIM container at another base URL."""

    name = "nim"
    base_url = "https://integrate.api.nvidia.com"
    key_variables = ("NVIDIA_API_KEY",)
    health = Operation("health", "GET", "/v1/health/ready", repeatable=True)
