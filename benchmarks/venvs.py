"""The libraries that are compared, and a virtual environment for each, made when it is first needed.

    python benchmarks/venvs.py [--clean]    make all of them, and print what is in them

They are in `.bench/` in the project's folder, which git ignores. One is made anew when its requirements change here;
newer versions of libraries come with ``--clean`` alone, which makes all of them anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
LOOPS = ("asyncio", "uvloop")
INSTALL_SECONDS = 1800  # guidellm brings 6 GB

VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True)
class PeerVenv:
    """Where a library lives.

    Args:
        module: Its file in `peers/`.
        requirements: For pip; the first is the library.
        loops: Event loops to measure it on.
    """

    module: str
    requirements: tuple[str, ...]
    loops: tuple[str, ...] = ("asyncio",)

    @property
    def is_ours(self) -> bool:
        """Whether it is Penstock."""
        return self.module.startswith("penstock")

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.module}-{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def make(self) -> dict[str, str]:
        """Make the environment, unless it is there. Returns the versions in it.

        Raises:
            InstallError: It cannot be installed.
        """
        wanted = [*self.requirements, "uvloop"]
        note = self.folder / "installed.json"
        if note.exists() and json.loads(note.read_text("utf-8"))["wanted"] == wanted:
            versions: dict[str, str] = json.loads(note.read_text("utf-8"))["versions"]
            return versions
        shutil.rmtree(self.folder, ignore_errors=True)
        CACHE.mkdir(exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n", "utf-8")
        print(f"installing {self.requirements[0]} into {self.folder}", file=sys.stderr, flush=True)
        self._run(sys.executable, "-m", "venv", str(self.folder))
        self._run(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
        names = [name_of(requirement) for requirement in wanted]
        versions = json.loads(self._run(self.python, "-c", VERSIONS, *names))
        note.write_text(json.dumps({"wanted": wanted, "versions": versions}), "utf-8")
        return versions

    def _run(self, *command: str) -> str:
        quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
        try:
            done = subprocess.run(
                command, check=True, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or [str(error)]
            raise InstallError(lines[-1]) from None
        except subprocess.TimeoutExpired:
            raise InstallError(f"it was not installed within {INSTALL_SECONDS} s") from None
        return done.stdout


class InstallError(Exception):
    """A library cannot be installed here."""


PEERS = (
    PeerVenv("penstock_engine", ("--editable=.", "aiohttp", "orjson"), LOOPS),
    PeerVenv("aiohttp_loops", ("aiohttp", "orjson"), LOOPS),
    PeerVenv("openai_sdk", ("openai", "aiohttp"), LOOPS),
    PeerVenv("httpx_sse_client", ("httpx", "httpx-sse")),
    PeerVenv("litellm_client", ("litellm",)),
    PeerVenv("langchain_chat", ("langchain-openai",)),
    PeerVenv("nemo_engine", ("nemoguardrails==0.24.1",)),
)
OURS = PEERS[0]

BATCH_PEERS = (
    PeerVenv("penstock_batch", ("--editable=.", "aiohttp", "orjson")),
    PeerVenv("aiohttp_batch", ("aiohttp", "orjson")),
    PeerVenv("openai_batch", ("openai",)),
    PeerVenv("litellm_batch", ("litellm",)),
    PeerVenv("async_batch_llm_batch", ("async-batch-llm==0.28.0", "aiohttp", "orjson")),
    PeerVenv("ray_data_batch", ("ray[data]==2.60.0", "aiohttp", "pydantic")),
)
"""Those of `batch.py`, in environments of their own: Ray's is a large one."""

BENCH_PEERS = (
    PeerVenv("penstock_bench", ("--editable=.[cli]", "aiohttp", "orjson")),
    PeerVenv("aiohttp_bench", ("aiohttp", "orjson")),
    PeerVenv("aiperf_bench", ("aiperf==0.13.0",)),
    PeerVenv("guidellm_bench", ("guidellm==0.8.1",)),
)
"""Those of `bench_peers.py`, which asks for guidellm last: it is 6 GB."""


def name_of(requirement: str) -> str:
    """The name of a package in a requirement of this file."""
    return "penstock" if requirement.startswith("--editable") else requirement.partition("==")[0].partition("[")[0]


def make_all(peers: Iterable[PeerVenv]) -> tuple[dict[PeerVenv, dict[str, str]], dict[str, str]]:
    """Make environments. Returns the versions in those that are there, and why the others are missing."""
    there: dict[PeerVenv, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            there[peer] = peer.make()
        except InstallError as reason:
            missing[peer.module] = str(reason)
    return there, missing


def main() -> int:
    if "--clean" in sys.argv[1:]:
        shutil.rmtree(CACHE, ignore_errors=True)
    there, missing = make_all((*PEERS, *BATCH_PEERS))
    for peer, versions in there.items():
        print(f"{peer.module:20}", ", ".join(f"{name} {version}" for name, version in versions.items()))
    for module, reason in missing.items():
        print(f"{module:20} MISSING: {reason}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
