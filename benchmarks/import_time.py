"""Does ``import penstock`` cost at most 1.25 times ``import aiohttp, orjson``? And what does its first use cost?

CPU time of a fresh interpreter, user and system together, less that of an interpreter that imports nothing.
Contestants take turns.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from harness import Spread, report

ROUNDS = 20
CONTESTANTS = {
    "nothing": "pass",
    "import aiohttp, orjson": "import aiohttp, orjson",
    "import penstock": "import penstock",
    "from penstock import ModelEngine": "from penstock import ModelEngine",
}


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for code in CONTESTANTS.values():
        cpu_seconds(code)  # warm: byte code is written, files are in memory
    rounds = [[cpu_seconds(code) for code in CONTESTANTS.values()] for _ in range(ROUNDS)]
    print(f"python {sys.version.split()[0]}, {ROUNDS} rounds, median (middle half)")
    ratios = {}
    for place, name in enumerate(CONTESTANTS):
        if place > 0:  # the first is taken off the others
            cost = Spread.of([(each[place] - each[0]) * 1000 for each in rounds])
            ratio = Spread.of([(each[place] - each[0]) / (each[1] - each[0]) for each in rounds])
            ratios[name] = ratio.median
            print(f"{name:34}{cost} ms, {ratio} times the first")
    report(
        "import_time",
        {"ratio": ratios["import penstock"], "ratio_with_engine": ratios["from penstock import ModelEngine"]},
    )


if __name__ == "__main__":
    main()
