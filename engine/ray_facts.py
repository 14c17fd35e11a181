"""What a process of ours on another machine says of itself. Knows nothing of Ray."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from .errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Facts:
    """What a process says of itself.

    Args:
        penstock: Version of the package there.
        python: Version of Python there, ``major.minor``.
        host: Name of its machine.
        pid: Its process.
    """

    penstock: str
    python: str
    host: str
    pid: int

    @classmethod
    def here(cls) -> Facts:
        """Those of this process."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return cls(_version(), python, socket.gethostname(), os.getpid())


def refuse_other(number: int, there: Facts, here: Facts) -> None:
    """See that a process is like this one.

    Args:
        number: Of the worker.
        there: What it says of itself.
        here: What this process says of itself.

    Raises:
        ConfigurationError: It has another version of Penstock or Python.
    """
    for name in ("penstock", "python"):
        if (theirs := getattr(there, name)) != (ours := getattr(here, name)):
            raise ConfigurationError(f"worker {number} on {there.host} has {name} {theirs}, and here is {ours}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes as long to import as all of this

    try:
        return version("penstock")
    except PackageNotFoundError:  # it runs from a folder that is on the path
        return "unknown"
