"""Runs pytest in a process of its own, with the plugins that a test asks for and warnings as errors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

_ASYNC_PLUGINS = ("asyncio", "aiohttp", "anyio")


@dataclass(frozen=True)
class Runner:
    """A way to run tests that are coroutines.

    Args:
        plugins: Those of pytest-asyncio, pytest-aiohttp and anyio that are loaded.
        options: More for the command line.
        header: What a test module begins with.
        mark: What stands above a test that is a coroutine.
        fixture: What makes a fixture of a coroutine.
    """

    plugins: tuple[str, ...]
    options: tuple[str, ...] = ()
    header: str = ""
    mark: str = "@pytest.mark.filterwarnings('error')"
    fixture: str = "@pytest.fixture"


_LOOPS = ("-o", "asyncio_default_fixture_loop_scope=function")
_ON_ASYNCIO = "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"

AUTO = Runner(("asyncio",), (*_LOOPS, "-o", "asyncio_mode=auto"))
RUNNERS = {
    "pytest-asyncio, auto": AUTO,
    "pytest-asyncio, strict": Runner(
        ("asyncio",),
        (*_LOOPS, "-o", "asyncio_mode=strict"),
        "import pytest_asyncio\n",
        "@pytest.mark.asyncio",
        "@pytest_asyncio.fixture",
    ),
    "pytest-aiohttp": Runner(("asyncio", "aiohttp"), (*_LOOPS, "-o", "asyncio_mode=auto")),
    "anyio": Runner(("anyio",), (), _ON_ASYNCIO, "@pytest.mark.anyio"),
    "anyio, beside pytest-asyncio": Runner(("asyncio", "anyio"), _LOOPS, _ON_ASYNCIO, "@pytest.mark.anyio"),
}

_HEAD = """\
import asyncio
import pytest
from penstock.testing import answer, cut, fail, stall
"""


def run(pytester: pytest.Pytester, text: str, *options: str, runner: Runner = AUTO) -> pytest.RunResult:
    """Run a module ``test_it`` in which ``MARK`` and ``FIXTURE`` stand for what the runner wants."""
    text = text.replace("MARK", runner.mark).replace("FIXTURE", runner.fixture)
    pytester.makepyfile(test_it=f"{_HEAD}{runner.header}{text}")
    blocked = [option for name in _ASYNC_PLUGINS if name not in runner.plugins for option in ("-p", f"no:{name}")]
    return pytester.runpytest_subprocess(
        "-W", "error", "--strict-markers", "-p", "no:cacheprovider", *blocked, *runner.options, *options, timeout=120
    )
