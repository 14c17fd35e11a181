"""A pytest plugin that takes a defence away: ``pytest -p tests.controls.plugin --without "idle clock" ...``."""

from __future__ import annotations

import signal
from collections.abc import Generator
from typing import Any

import pytest

from .defences import DEFENCES

_PATIENCE = 8.0  # seconds for a test; without a defence some wait for ever, which is how they notice


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without", choices=sorted(DEFENCES), help="the defence to take away")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--without")
    if name is not None:
        for removal in DEFENCES[name].removals:
            removal.apply()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that hangs without the defence."""
    if item.config.getoption("--without") is None:
        return (yield)
    before = signal.signal(signal.SIGALRM, _fail)
    # Again each second, since a callback of the event loop may swallow the first.
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE, 1.0)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _fail(number: int, frame: Any) -> None:
    pytest.fail(f"it took longer than {_PATIENCE:g} s")
