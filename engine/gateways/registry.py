"""The gateways there are, by name. A new one is a line here."""

from __future__ import annotations

from importlib import import_module

from .base import Gateway

# Each is loaded when it is first asked for: module and class.
_GATEWAYS = {
    "openai": ("openai", "OpenAIGateway"),
    "openai-compatible": ("openai", "OpenAICompatibleGateway"),
    "nim": ("nim", "NIMGateway"),
    "modelgov": ("modelgov", "ModelgovGateway"),
    "atrium": ("atrium", "AtriumGateway"),
    "omnigate": ("omnigate", "OmniGateGateway"),
    "keeptrusts": ("keeptrusts", "KeeptrustsGateway"),
}


def gateway_names() -> tuple[str, ...]:
    """The names that `find_gateway` knows."""
    return tuple(_GATEWAYS)


def find_gateway(name: str) -> Gateway | None:
    """The gateway of that name. `None` when there is none."""
    if name not in _GATEWAYS:
        return None
    module, kind = _GATEWAYS[name]
    gateway: Gateway = getattr(import_module(f".{module}", __package__), kind)()
    return gateway
