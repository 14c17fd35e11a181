"""The exit codes of all commands. Scripts go by them, so they do not change."""

from __future__ import annotations

OK = 0
FAILED = 1
"""The call failed, or what was to be shown did not hold."""
USAGE = 2
"""The command line or the configuration is wrong; nothing was sent. argparse's own code for it."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the number of SIGINT, as shells have it."""
