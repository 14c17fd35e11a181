"""Runs the negative controls: once all their tests with every defence in place, then those of each without it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.project import ROOT

from .defences import DEFENCES

WORKERS = 2  # most of a control is Python starting
PATIENCE = 120  # seconds for a run of pytest
TESTS_FAILED = 1  # pytest's exit code; others tell that it could not run them
_OUTCOME = re.compile(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[.*)?(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What came of a run of pytest.

    Args:
        code: Its exit code. `None` when it did not end in time.
        noticed: The tests that failed, without their parameters.
        output: What it printed.
    """

    code: int | None
    noticed: tuple[str, ...]
    output: str

    @property
    def has_failed(self) -> bool:
        """Whether tests failed, and not pytest itself."""
        return self.code == TESTS_FAILED and bool(self.noticed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them, print a table, and return 0 when every control was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.controls", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(DEFENCES), metavar="NAME", help="one defence")
    names = parser.parse_args(arguments).only or list(DEFENCES)
    started = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        whole = pool.submit(run, {test for name in names for test in DEFENCES[name].tests})
        runs: dict[str, Run] = {}
        for name, each in zip(names, pool.map(lambda name: run(DEFENCES[name].tests, without=name), names)):
            runs[name] = each
            told = ", ".join(each.noticed) if each.has_failed else "NOT NOTICED"
            print(f"{name:<{max(map(len, names))}}  {told}", flush=True)
    wrong = [name for name, each in runs.items() if not each.has_failed]
    for name in wrong:
        print(f"\n--- without {name!r}: {_ending(runs[name])}")
    if whole.result().code != 0:
        print(f"\n--- with every defence in place: {_ending(whole.result())}")
    noticed = len(names) - len(wrong)
    print(f"\n{noticed} of {len(names)} removed defences were noticed, in {time.monotonic() - started:.0f} s")
    return int(bool(wrong) or whole.result().code != 0)


def run(tests: Sequence[str] | set[str], *, without: str | None = None) -> Run:
    """Run tests, up to the first that fails."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-rfE",
        "--no-header",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "tests.controls.plugin", *(["--without", without] if without else [])]
    command += [f"tests/{test}" for test in sorted(tests)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Run(None, (), "")
    return Run(done.returncode, tuple(dict.fromkeys(_OUTCOME.findall(done.stdout))), done.stdout + done.stderr)


def _ending(run: Run) -> str:
    if run.code is None:
        return f"it did not end within {PATIENCE} s"
    return f"exit code {run.code}\n{run.output[-3000:]}"


if __name__ == "__main__":
    sys.exit(main())
