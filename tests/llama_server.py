"""llama.cpp's own HTTP server on the tiny model in `data/`: a gateway that we did not write.

As a program, ``python llama_server.py PORT [embeddings]``, it is that server, until its standard input ends. As a
module it starts and stops such a program.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


MODEL = Path(__file__).parent / "data" / "tiny.gguf"
NAME = "tiny-model"
_START_WITHIN = 60.0  # seconds; it takes one on an idle machine


class LlamaServer:
    """A server in a process of its own, on a free port of this machine.

    Args:
        embeddings: Serve embeddings instead of chats.
    """

    def __init__(self, *, embeddings: bool = False) -> None:
        self._port = _free_port()
        mode = ["embeddings"] if embeddings else []
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._port), *mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        end = time.monotonic() + _START_WITHIN
        while not self._is_healthy():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the llama.cpp server did not start (exit status {self._process.returncode})")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash would. Twice is harmless."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:  # not listening yet, or 503 while the model is loaded
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _serve(port: int, *, embeddings: bool) -> None:
    xllamacpp: Any = importlib.import_module("xllamacpp")  # has no types
    options = xllamacpp.CommonParams()
    options.model.path = str(MODEL)
    options.model_alias = {NAME}
    options.hostnames = ["127.0.0.1"]
    options.port = port
    options.n_ctx = 2048
    options.n_parallel = 2
    options.use_jinja = True
    options.warmup = False
    options.cpuparams.n_threads = 1  # several would wait for each other in a loop, for minutes on a busy machine
    options.cpuparams_batch.n_threads = 1
    if embeddings:
        options.embedding = True
        options.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(options)
    sys.stdin.read()  # ends with the process that started us
    del server
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), embeddings="embeddings" in sys.argv[2:])
