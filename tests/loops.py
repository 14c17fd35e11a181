"""Runs every asynchronous test on uvloop (dependency group ``uvloop``): ``python -m pytest -p tests.loops``."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

uvloop: Any = import_module("uvloop")  # is not there where only the types are checked


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """What pytest-asyncio makes its event loops with."""
    return {"uvloop": uvloop.new_event_loop}
