"""Searches for inputs that break a promise: ``python -m tests.fuzz [target ...]``.

Each target is searched in a process of its own, for its share of ``FUZZ_SECONDS`` (600 when not set), beginning with
the answers of `seeds`. What breaks a promise is put into ``found/``, and ends the search of its target. Needs Atheris,
from the dependency group ``fuzz``; it exists for Linux on x86-64. Exits with 1 when something was found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .inputs import raw
from .seeds import GATEWAYS, streams
from .targets import TARGETS

FOUND = Path(__file__).parent / "found"
LONGEST = 4096  # bytes of an input
SLOWEST = 20  # seconds for one input; none takes a tenth of one
MEMORY = 1024  # MiB


@dataclass(frozen=True)
class Search:
    """What came of a search.

    Args:
        examples: Inputs tried.
        reached: Places in the code that they reached, as Atheris counts them.
        found: Names of the files in ``found/``.
        log: What Atheris has written.
    """

    target: str
    examples: int
    reached: int
    found: tuple[str, ...]
    log: str


def main(names: list[str]) -> int:
    targets = names or list(TARGETS)
    if unknown := [name for name in targets if name not in TARGETS]:
        print(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    seconds = float(os.environ.get("FUZZ_SECONDS", "600")) / len(targets)
    failed = False
    for target in targets:
        search = searched(target, max(1, round(seconds)))
        print(f"{target:16}{search.examples:>10,} examples, {search.reached:>5} places reached", flush=True)
        if search.found or not search.examples:
            failed = True
            print(search.log, *(f"found/{name}" for name in search.found), sep="\n", file=sys.stderr)
    return int(failed)


def searched(target: str, seconds: int) -> Search:
    """Search one target for so many seconds."""
    FOUND.mkdir(exist_ok=True)
    before = set(FOUND.iterdir())
    with tempfile.TemporaryDirectory() as corpus:
        plant(Path(corpus))
        options = {
            "max_total_time": seconds,
            "max_len": LONGEST,
            "timeout": SLOWEST,
            "rss_limit_mb": MEMORY,
            "print_final_stats": 1,
            "artifact_prefix": f"{FOUND}/{target}-",
        }
        command = [sys.executable, "-m", "tests.fuzz.search", target, corpus]
        command += [f"-{name}={value}" for name, value in options.items()]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    found = tuple(sorted(path.name for path in set(FOUND.iterdir()) - before))
    examples, reached = (_last(pattern, run.stdout) for pattern in (r"executed_units: *(\d+)", r"cov: (\d+)"))
    return Search(target, examples, reached, found, run.stdout)


def plant(corpus: Path) -> None:
    """Put the inputs to begin with into a folder."""
    for number, seed in enumerate(streams()):
        (corpus / str(number)).write_bytes(raw(GATEWAYS.index(seed.gateway), seed.body))
    for path in FOUND.iterdir():
        (corpus / path.name).write_bytes(path.read_bytes())


def _last(pattern: str, log: str) -> int:
    """The last number that the log has for this."""
    numbers: list[str] = re.findall(pattern, log)
    return int(numbers[-1]) if numbers else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
