"""A real server that speaks every gateway and plays faults from a script, for tests of clients."""

from penstock.engine.testing import *  # noqa: F403
from penstock.engine.testing import __all__ as __all__
