"""An engine class for each gateway family: `ModelEngine` with the gateway filled in."""

from __future__ import annotations

from typing import Any

from .gateways import NIMGateway, OpenAIGateway
from .model_engine import ModelEngine


class OpenAI(ModelEngine):
    """A `ModelEngine` that speaks to OpenAI, or to what stands in for it at ``base_url``."""

    def __init__(self, model_or_config: Any, **options: Any) -> None:
        super().__init__(model_or_config, gateway=OpenAIGateway(), **options)


class NIM(ModelEngine):
    """A `ModelEngine` that speaks to NVIDIA NIM: the hosted endpoints, or a container at ``base_url``."""

    def __init__(self, model_or_config: Any, **options: Any) -> None:
        super().__init__(model_or_config, gateway=NIMGateway(), **options)
