"""The examples run, and print what they promise."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

PRINTED = {
    "plain_session": """\
Hello from the gateway.
2 requests, at least 0.2 s apart, with 1 idempotency key
ContextWindowExceededError: That is too long. (HTTP 400, """,
    "keep_your_retry_client": """\
Hello from the gateway.
3 requests, executed once; waited as told: True
""",
}


@pytest.mark.parametrize("name", PRINTED)
async def test_an_example_prints_what_it_promises(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    await example["main"]()
    assert capsys.readouterr().out.startswith(PRINTED[name])


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_is_a_script(name: str) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(PRINTED[name])


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)
