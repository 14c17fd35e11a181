"""`examples/testing` passes, from its recordings and from the real server, and the page shows what is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .llama_server import LlamaServer
from .project import ROOT
from .test_documents import blocks

pytest_plugins = ["pytester"]

EXAMPLES = ROOT / "examples" / "testing"
PAGE = ROOT / "docs" / "test-your-own-service.md"
PROGRAMS = [block.text for block in blocks(PAGE) if block.language == "python"]
MISSING = [name for name in ("fastapi", "httpx2", "pytest_asyncio") if find_spec(name) is None]

needs_all = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
needs_llama = pytest.mark.skipif(find_spec("xllamacpp") is None, reason="not installed: xllamacpp")


def run(*arguments: str, **environment: str) -> str:
    """Run the examples' tests; returns the last line that pytest says."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ran = subprocess.run(
        command,
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()[-1]


@needs_all
def test_the_examples_pass_from_their_recordings() -> None:
    assert re.match(r"\d+ passed in", run("--penstock-record=none"))


@needs_all
@needs_llama
def test_the_recorded_example_passes_at_the_real_server_and_from_what_it_has_recorded(tmp_path: Path) -> None:
    folder = ("test_captions.py", "-o", f"penstock_cassettes={tmp_path}")
    with LlamaServer() as server:
        run("--penstock-record=all", *folder, GATEWAY_URL=server.url)
    assert len([*tmp_path.glob("test_captions/*.jsonl")]) == 2
    run("--penstock-record=none", *folder)


def test_each_cassette_belongs_to_a_test() -> None:
    tests = re.findall(r"def (test_\w+)", (EXAMPLES / "test_captions.py").read_text("utf-8"))
    assert {path.stem for path in EXAMPLES.rglob("*.jsonl")} == set(tests)


@needs_all
def test_the_first_programs_of_the_page_are_tests_that_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_first=PROGRAMS[0], test_second=PROGRAMS[1])
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-W", "error")
    pytester.runpytest_subprocess(*options, timeout=120).assert_outcomes(passed=2)


@pytest.mark.parametrize("program", PROGRAMS[2:])
def test_the_other_tests_of_the_page_are_those_of_the_examples(program: str) -> None:
    shown = [test.strip() for test in re.split(r"\n\n\n", program) if "def test_" in test]
    files = [path.read_text("utf-8") for path in EXAMPLES.glob("test_*.py")]
    assert shown
    assert [test for test in shown if not any(test in file for file in files)] == []
