"""The command line: ``penstock chat``, ``penstock mock``, ``penstock demo``. One file for each command."""

from .entry import main

__all__ = ["main"]
