"""The gateways there are, by name. A new one is a line here."""

from __future__ import annotations

from .base import Gateway
from .nim import NIMGateway
from .openai import OpenAICompatibleGateway, OpenAIGateway

_GATEWAYS: dict[str, type[Gateway]] = {
    gateway.name: gateway for gateway in (OpenAIGateway, OpenAICompatibleGateway, NIMGateway)
}


def gateway_names() -> tuple[str, ...]:
    """The names that `find_gateway` knows."""
    return tuple(_GATEWAYS)


def find_gateway(name: str) -> Gateway | None:
    """The gateway of that name. `None` when there is none."""
    gateway = _GATEWAYS.get(name)
    return gateway() if gateway is not None else None
