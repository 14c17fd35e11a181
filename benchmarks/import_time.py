"""Does ``import penstock`` cost at most 1.25 times ``import aiohttp, orjson``?

CPU time of a fresh interpreter, user and system together, less that of an interpreter that imports nothing. Contestants take turns.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from harness import Spread, report

ROUNDS = 20
CONTESTANTS = {"nothing": "pass", "aiohttp, orjson": "import aiohttp, orjson", "penstock": "import penstock"}


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for code in CONTESTANTS.values():
        cpu_seconds(code)  # warm: byte code is written, files are in memory
    ratios, floors, ours = [], [], []
    for _ in range(ROUNDS):
        nothing, floor, mine = (cpu_seconds(code) for code in CONTESTANTS.values())
        floors.append((floor - nothing) * 1000)
        ours.append((mine - nothing) * 1000)
        ratios.append((mine - nothing) / (floor - nothing))
    print(f"python {sys.version.split()[0]}, {ROUNDS} rounds, median (middle half)")
    print(f"import aiohttp, orjson  {Spread.of(floors)} ms")
    print(f"import penstock         {Spread.of(ours)} ms")
    print(f"ratio                   {Spread.of(ratios)}")
    report("import_time", {"ratio": Spread.of(ratios).median})


if __name__ == "__main__":
    main()
