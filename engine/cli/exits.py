"""The exit codes of all commands. Scripts go by them, so they do not change."""

from __future__ import annotations

OK = 0
FAILED = 1
"""The call failed, or what was to be shown did not hold: a threshold of a benchmark was crossed."""
USAGE = 2
"""The command line or the configuration is wrong; nothing was sent. argparse's own code for it."""
IN_DOUBT = 3
"""Rows of a batch were in flight when a run died, no key protects them, and they were not to be sent again."""
INPUT = 4
"""The input of a batch cannot be read, was changed, or is not that of its journal; an input of a benchmark."""
JOURNAL = 5
"""The journal of a batch cannot be used or written: locked by another run, damaged, of another version, disk full."""
OUTPUT = 6
"""The results of a batch cannot be written: disk full, or the file is somebody else's. The journal has them.

Or those of a benchmark cannot.
"""
CLIENT_LIMIT = 7
"""A benchmark measured its own client as much as the server: its figures do not count."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the number of SIGINT, as shells have it."""
