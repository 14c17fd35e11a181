"""One file for each gateway family: what it says on the wire and what it means."""

from .base import Gateway, Request
from .nim import NIMGateway
from .openai import OpenAICompatibleGateway, OpenAIGateway
from .registry import find_gateway, gateway_names

__all__ = [
    "Gateway",
    "NIMGateway",
    "OpenAICompatibleGateway",
    "OpenAIGateway",
    "Request",
    "find_gateway",
    "gateway_names",
]
