"""Blocking twins of the engines: the same constructors, calls and errors, for programs without an event loop.

A twin runs its engine on an event loop in a thread of its own, and waits. Its signatures are written out, or made of
those they stand for; a test compares them all.
"""

from .batch_results import BatchResults
from .engines import NIM, Atrium, Keeptrusts, Modelgov, OmniGate, OpenAI
from .model_engine import ModelEngine
from .stream import ChatStream

__all__ = ["NIM", "Atrium", "BatchResults", "ChatStream", "Keeptrusts", "ModelEngine", "Modelgov", "OmniGate", "OpenAI"]
