"""All benchmarks, one after the other, in less than a quarter of an hour.

    python benchmarks/all.py [--quick] [--only NAME ...] [--out FOLDER]

Without ``--only`` that is all but `bench_peers.py`, whose environments are 7 GB. They run for themselves as well, see
`README.md`. Results are in `.bench/results/`, together in `all.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from harness import HERE
from venvs import CACHE, OURS, PEERS, make_all

ALONE = ("import_time", "stack")  # measure Penstock beside its own parts, in one interpreter
SECONDS = {"parse": 45, "unary": 45, "stream": 320, "capacity": 220, "memory": 110}
ON_REQUEST = {"bench_peers": 360}  # with --only: what it installs is 7 GB
BESIDE = ("unary_cpu", "memory_times", "bench_times", "bench_sizes", "bench_marks")  # further tables of theirs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each: shows that they work")
    usual = [*ALONE, *SECONDS]
    parser.add_argument("--only", nargs="+", choices=[*usual, *ON_REQUEST], default=usual, metavar="NAME")
    parser.add_argument("--out", type=Path, default=CACHE / "results", help="folder for the results (.bench/results)")
    options = parser.parse_args()
    _, missing = make_all(PEERS)
    for module, reason in missing.items():
        print(f"MISSING: {module}: {reason}", flush=True)
    failed = []
    started = time.monotonic()
    for name in options.only:
        print(f"\n=== {name} ({time.monotonic() - started:.0f} s)", flush=True)
        if subprocess.run([OURS.python, str(HERE / f"{name}.py"), *arguments(name, options)]).returncode:
            failed.append(name)
    found = [options.out / f"{name}.md" for name in (*SECONDS, *ON_REQUEST, *BESIDE)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "all.md").write_text("\n".join(file.read_text("utf-8") for file in found if file.exists()), "utf-8")
    print(f"\n{time.monotonic() - started:.0f} s; results are in {options.out}")
    for name in failed:
        print(f"FAILED: {name}")
    return 1 if failed else 0


def arguments(name: str, options: argparse.Namespace) -> list[str]:
    """What a benchmark is started with."""
    if name in ALONE:
        return []
    seconds = {**SECONDS, **ON_REQUEST}[name]
    return [f"--seconds={seconds}", f"--out={options.out}", *(["--quick"] if options.quick else [])]


if __name__ == "__main__":
    sys.exit(main())
