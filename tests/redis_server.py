"""A real Redis (or Valkey) on a free port of 127.0.0.1, for tests that need one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


def skip_without_redis() -> None:
    """Skip the test where there is no Redis to run, or no client for it."""
    if PROGRAM is None:
        pytest.skip("neither redis-server nor valkey-server is installed (Debian: apt-get install redis-server)")
    if find_spec("redis") is None:
        pytest.skip("redis is not installed: pip install 'penstock[redis]'")


class RedisServer:
    """A server that keeps nothing on disk, and can be stopped, held and started again on the same port.

    Args:
        folder: Where it may work.
        options: Of its command line, without the dashes.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert PROGRAM is not None
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
            **self._options,
        }
        command = [PROGRAM, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until_it_listens()

    def _until_it_listens(self) -> None:
        assert self._process is not None
        for _ in range(500):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, f"{PROGRAM} ended with {self._process.returncode}"
            time.sleep(0.01)
        raise AssertionError(f"{PROGRAM} does not listen")

    def stop(self) -> None:
        """End it at once, and with it all that it knows."""
        if self._process is not None:
            self.go_on()
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold(self) -> None:
        """Let it stand still: it takes connections, and does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
