"""Libraries in their own interpreters, taking turns at the same load server: what the comparing benchmarks share."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import corpus
from harness import HERE, load_server
from results import Results
from venvs import CACHE, PEERS, InstallError, PeerVenv, make_all

START_SECONDS = 60  # for an interpreter with its library
SLOW_SECONDS = (1e9, 8, 4)  # what took longer is left out of the second round, and of those after it


class ContestantError(Exception):
    """A contestant has not done what it was asked."""


@dataclass(frozen=True)
class Entry:
    """One way to use one library on one event loop."""

    peer: PeerVenv
    loop: str
    name: str

    def __str__(self) -> str:
        name = f"Penstock {self.name}" if self.peer.is_ours else self.name
        return f"{name}, uvloop" if self.loop == "uvloop" else name


class Contestant:
    """A process with one library on one event loop."""

    def __init__(self, peer: PeerVenv, loop: str, url: str) -> None:
        self.peer = peer
        self.loop = loop
        self._url = url
        self._log = peer.folder / f"{loop}.log"
        self._process: subprocess.Popen[str] | None = None

    def ask(self, do: str, within: float, **task: Any) -> dict[str, Any]:
        """Have a task done.

        Args:
            do: Its name, see `contestant`.
            within: Seconds. A process that needs longer is ended, and the next task has a new one.
            task: Its arguments.

        Raises:
            ContestantError: It was not done.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        alarm = threading.Timer(within, process.kill)
        alarm.start()
        try:
            process.stdin.write(json.dumps({"do": do, **task}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            is_late = process.poll() in (None, -signal.SIGKILL)
            self.close()
            raise ContestantError(
                f"no result within {within:g} s" if is_late else f"the process ended: {self._last_words()}"
            )
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise ContestantError(result["error"])
        return result

    def close(self) -> None:
        """End the process. The next task starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [self.peer.python, str(HERE / "contestant.py"), self.peer.module, self.loop, self._url]
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        return self._process

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "it said nothing"


class Contest:
    """All contestants that are there, and the server.

    Args:
        url: The server's.
        options: Of the command line, see `parse_arguments`.
        versions: Of what is in the environments.
    """

    def __init__(self, url: str, options: argparse.Namespace, versions: dict[PeerVenv, dict[str, str]]) -> None:
        self.url = url
        self._only = re.compile(options.only)
        self._rounds = options.rounds
        self._until = time.monotonic() + options.seconds
        self._contestants = {(peer, loop): Contestant(peer, loop, url) for peer in versions for loop in peer.loops}
        self._seconds: dict[tuple[Entry, str], float] = {}
        self._parsers: dict[str, tuple[str, ...] | None] = {}
        self._batchers: dict[Entry, tuple[bool, bool]] = {}

    def entries(self, kind: str, results: Results) -> list[Entry]:
        """What there is to measure, of this kind: ``"readers"``, ``"callers"``, ``"parsers"`` or ``"batchers"``. A
        library that does not start is named in the results.
        """
        found = []
        for (peer, loop), contestant in self._contestants.items():
            try:
                described = contestant.ask("describe", START_SECONDS)
            except ContestantError as reason:
                results.missing[f"{peer.module} on {loop}"] = str(reason)
                continue
            self._parsers.update(described["parsers"])
            found += [Entry(peer, loop, name) for name in described[kind]]
            self._batchers.update({Entry(peer, loop, name): kinds for name, kinds in described["batchers"].items()})
        return [entry for entry in found if self._only.search(str(entry))]

    def understands(self, parser: Entry, name: str) -> bool:
        """Whether a parser can decode this corpus."""
        understood = self._parsers[parser.name]
        return name != "modelgov" if understood is None else name in understood

    def is_resume(self, batcher: Entry) -> bool:
        """See `peers.base.Batcher`."""
        return self._batchers[batcher][0]

    def is_alone(self, batcher: Entry) -> bool:
        """See `peers.base.Batcher`."""
        return self._batchers[batcher][1]

    def rounds(self) -> Iterator[int]:
        """Numbers of rounds, as many as were asked for and as are expected to fit into the time: one at least."""
        for number in range(self._rounds):
            started = time.monotonic()
            yield number
            ended = time.monotonic()
            if ended + (ended - started) * self._share_of(number + 1) > self._until:
                return

    def _share_of(self, number: int) -> float:
        """How much of the time of what was measured so far this round will take."""
        worth = sum(
            spent for (entry, column), spent in self._seconds.items() if self.is_worth_it(entry, column, number)
        )
        return worth / sum(self._seconds.values()) if self._seconds else 0.0

    def is_worth_it(self, entry: Entry, column: str, number: int) -> bool:
        """Whether to measure this in this round: not what took too long before."""
        return self._seconds.get((entry, column), 0.0) < SLOW_SECONDS[min(number, 2)]

    def ask(self, entry: Entry, column: str, do: str, within: float, **task: Any) -> dict[str, Any]:
        """Have a task done by the contestant of this entry, see `Contestant.ask`. The result has the server's figures
        for the time of it as ``"server"``.
        """
        self.server_stats()
        started = time.monotonic()
        try:
            result = self._contestants[entry.peer, entry.loop].ask(do, within, **task)
        finally:
            self._seconds[entry, column] = time.monotonic() - started
        result["server"] = self.server_stats()
        return result

    def restart(self, entry: Entry) -> None:
        """Have the next task of this entry done by a fresh process."""
        self._contestants[entry.peer, entry.loop].close()

    def server_stats(self) -> dict[str, float]:
        """What the server did since it was last asked."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=START_SECONDS) as answer:
            stats: dict[str, float] = json.load(answer)
        return stats

    def close(self) -> None:
        for contestant in self._contestants.values():
            contestant.close()


def parse_arguments(
    question: str | None,
    *,
    rounds: int,
    seconds: float,
    add: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """The command line of a comparing benchmark, with the defaults for its rounds and the time they may take, and what
    it adds to it.
    """
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures nothing")
    parser.add_argument("--only", default="", metavar="PATTERN", help="contestants whose name has this in it")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"at most so many ({rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"as many rounds as fit into these ({seconds})")
    parser.add_argument("--out", type=Path, default=CACHE / "results", help="folder for the results (.bench/results)")
    if add is not None:
        add(parser)
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


@contextmanager
def contest(
    options: argparse.Namespace,
    results: Results,
    peers: Sequence[PeerVenv] = PEERS,
    server: str = "load_server.py",
) -> Iterator[Contest]:
    """The contestants, the first of which has to be there, and a server for them."""
    versions, missing = make_all(peers)
    if peers[0] not in versions:
        raise InstallError(missing[peers[0].module])
    results.missing.update(missing)
    for found in versions.values():
        results.versions.update(found)
    results.versions["python"] = sys.version.split()[0]
    with load_server(peers[0].python, server) as url:
        running = Contest(url, options, versions)
        try:
            yield running
        finally:
            running.close()


def check_texts(result: dict[str, Any], name: str, pieces: int) -> None:
    """Compare what was delivered with the corpus.

    Raises:
        ContestantError: It is another text.
    """
    others = set(result["texts"]) - _expected(name, pieces)
    if others:
        raise ContestantError("it delivered another text than was sent")


@functools.lru_cache(maxsize=64)
def _expected(name: str, pieces: int) -> frozenset[str]:
    """Digests of the text, and of the bytes for contestants that do not decode, see `contestant.digests`."""
    stream = corpus(name, pieces)
    bodies = (stream.text.encode(), b"".join(stream.events).replace(b"\n\n", b""))
    return frozenset(hashlib.sha256(body).hexdigest()[:16] for body in bodies)
