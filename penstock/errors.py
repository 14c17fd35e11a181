"""Every failure a call can have, as one tree: see `penstock.engine.errors`."""

from penstock.engine.errors import *  # noqa: F403
from penstock.engine.errors import __all__ as __all__
