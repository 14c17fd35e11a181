"""Where the cassette of a test is, and what is done with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from penstock.middleware.record import Record

Mode = Literal["once", "none", "all"]
"""See `penstock.Record`."""


def cassette_path(item: pytest.Item) -> Path:
    """The file of a test: ``cassettes/test_module/test_name.jsonl`` beside its module.

    The configuration's ``penstock_cassettes`` is another folder than ``cassettes``, relative to that of the module.
    What a file name cannot have in the name of a test becomes ``_``.
    """
    folder = item.path.parent / str(item.config.getini("penstock_cassettes"))
    names = [node.name for node in item.listchain() if isinstance(node, (pytest.Class, pytest.Item))]
    return folder / item.path.stem / (re.sub(r"[^\w.-]+", "_", ".".join(names)).strip("_") + ".jsonl")


def make_cassette(item: pytest.Item, speed: float) -> Record:
    """The middleware that records or plays the cassette of a test."""
    from penstock.middleware.record import Record

    mode: Mode = item.config.getoption("--penstock-record") or item.config.getini("penstock_record")
    return Record(cassette_path(item), mode=mode, speed=speed)
