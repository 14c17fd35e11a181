"""Forks a child for each life of a batch: ``python -m tests.crash.nursery``, started by `lives`.

Everything is imported before, so that a life costs some tens of milliseconds. Each line of stdin is a life; it is
answered with the number of its process, and with how it ended. The process is reaped when the next line comes: until
then its number is nobody else's, and may be killed by.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import traceback
from typing import Any

import penstock.engine.batch.append_publisher
import penstock.engine.batch.rename_publisher
import penstock.engine.cli.batch  # noqa: F401 - a life finds it there
from penstock.engine.cli import main

from .removals import REMOVALS
from .steps import STEPS, Watch


def live(life: dict[str, Any]) -> int:
    """Run ``penstock`` with these arguments, as the command does."""
    for number, path in ((1, life["stdout"]), (2, life["stderr"])):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if life["largest_file"] is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (life["largest_file"], most))
    if life["without"] is not None:
        for removal in REMOVALS[life["without"]]:
            removal.apply()
    if life["step"] is not None:
        Watch(STEPS[life["step"]], life["nth"]).install()
    return main(life["arguments"])


def child(life: dict[str, Any]) -> None:
    """Live, and end without returning."""
    code = 70
    try:
        code = live(life)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def serve() -> None:
    """Until stdin ends."""
    gc.collect()
    gc.freeze()  # what is there is the children's too: looking at it would copy it
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        answer(str(pid))
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        answer(str(-ended.si_status if killed else ended.si_status))
        next_line = sys.stdin.readline()
        os.waitpid(pid, 0)
        if next_line != "next\n":
            return


if __name__ == "__main__":
    serve()
