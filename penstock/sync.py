"""Blocking twins of the engines, for programs without an event loop."""

from penstock.engine.sync import *  # noqa: F403
from penstock.engine.sync import __all__ as __all__
