"""Modelgov: a policy gateway with JSON, event frames and blocks of its own."""

from .dialect import ModelgovGateway
from .operations import ModelgovOperations

__all__ = ["ModelgovGateway", "ModelgovOperations"]
