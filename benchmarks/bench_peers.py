"""How much can a client that measures streams do with one core, and how wrong is what it says?

`penstock bench`, aiperf, guidellm, and a loop of nothing but aiohttp and orjson as about the limit. Each is run as its
users run it, with all its processes on one core, against one server on another, which writes down when requests came
and when their pieces were written. The programs' figures are those in the JSON they export.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field, replace
from importlib import import_module

from bench_figures import INSTALLED, NAMES, OURS, OVERLOAD, REGIMES, Figures, Regime, note_200
from bench_run import BenchRunError, run_client
from contest import parse_arguments
from harness import load_server, pin, raise_file_limit
from peers.base import BenchClient
from results import Results
from venvs import BENCH_PEERS, InstallError, PeerVenv, make_all

LONGEST = 240.0  # seconds of one run
QUICK = 0.25  # share of the requests

SIZE = """
import importlib.metadata, re, sys
def plain(name): return re.sub(r"[-_.]+", "-", re.match(r"[\\w.-]+", name)[0]).lower()
there = {plain(each.name): each for each in importlib.metadata.distributions()}
without, left = set(), sys.argv[1:]
while left:
    name = plain(left.pop())
    if name in there and name not in without:
        without.add(name)
        left += [each for each in there[name].requires or () if "extra ==" not in each]
files = [file.locate() for name, each in there.items() if name not in without for file in each.files or ()]
print(sum(file.stat().st_size for file in files if file.exists()))
"""
"""Bytes of all packages but those of the arguments and what they need."""


@dataclass(frozen=True)
class Entrant:
    """A client in its environment."""

    name: str
    peer: PeerVenv
    client: BenchClient = field(compare=False)


def measure(entrant: Entrant, regime: Regime, url: str, share: float, figures: Figures, number: int) -> None:
    try:
        load = regime.load(entrant.client, share)
        is_memory_asked = regime.note is note_200
        run = run_client(entrant.peer, entrant.client, url, load, within=LONGEST, is_memory_asked=is_memory_asked)
        regime.note(figures, entrant.name, number, run)
    except BenchRunError as reason:
        figures.rates.notes.append(f"Failed: {entrant.name}, {regime.name}: {reason}")
        return
    figures.rates.note(run.quality)


def measure_calibrated(entrant: Entrant, url: str, figures: Figures) -> None:
    """Ours measures itself first, unless told not to: not part of any other run, as no other client does."""
    load = replace(REGIMES[2].load(entrant.client, QUICK), is_calibrated=True)
    try:
        start_s = run_client(entrant.peer, entrant.client, url, load, within=LONGEST).start_s
    except BenchRunError as reason:
        figures.times.notes.append(f"Failed: {OURS}, with its calibration: {reason}")
    else:
        figures.times.notes.append(f"With its calibration, {OURS} sends its first request after {start_s:.1f} s.")


def installed_mib(entrant: Entrant) -> float:
    """What it brings: ours on top of the engine's core, the others all of it."""
    without = ["penstock", "pip", "setuptools"]
    done = subprocess.run([entrant.peer.python, "-c", SIZE, *without], check=True, capture_output=True, text=True)
    return int(done.stdout) / (1 << 20)


def run(options: Namespace, figures: Figures) -> None:
    there = [each for each in zip(NAMES, BENCH_PEERS) if re.search(options.only, each[0])]
    ours = BENCH_PEERS[0]
    versions, missing = make_all(dict.fromkeys([ours, *(peer for _, peer in there)]))
    if ours not in versions:
        raise InstallError(missing[ours.module])  # the server runs in it
    figures.rates.missing.update(missing)
    for found in versions.values():
        figures.rates.versions.update(found)
    entrants = [Entrant(name, peer, client_of(peer)) for name, peer in there if peer in versions]
    with load_server(ours.python, "bench_server.py") as url:
        run_rounds(options, entrants, url, figures)
        for entrant in entrants:
            figures.sizes.add(entrant.name, INSTALLED, 0, installed_mib(entrant))
            if entrant.name == OURS:
                measure_calibrated(entrant, url, figures)


def run_rounds(options: Namespace, entrants: list[Entrant], url: str, figures: Figures) -> None:
    """As many rounds as were asked for and fit into the time. The later ones are without what is measured once."""
    until = time.monotonic() + options.seconds
    share = QUICK if options.quick else 1.0
    for number in range(options.rounds):
        again_s = 0.0
        for regime, entrant in itertools.product((*REGIMES, OVERLOAD), entrants):
            is_once = entrant.client.is_once or regime is OVERLOAD
            if number and is_once:
                continue
            started = time.monotonic()
            measure(entrant, regime, url, share, figures, number)
            again_s += 0.0 if is_once else time.monotonic() - started
        if time.monotonic() + again_s > until:
            return


def client_of(peer: PeerVenv) -> BenchClient:
    client: BenchClient = import_module(f"peers.{peer.module}").CLIENT
    return client


def main() -> int:
    options = parse_arguments(__doc__, rounds=2, seconds=360)
    raise_file_limit()
    pin(1)
    question = (__doc__ or "").partition("\n")[0]
    figures = Figures(
        Results("bench_peers", question, "per second"),
        Results("bench_times", question, "ms: what the client says less what was, without its sign"),
        Results("bench_sizes", question, "MiB"),
        Results("bench_marks", question, "as the column says; 1 is yes"),
    )
    run(options, figures)
    figures.finish(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
