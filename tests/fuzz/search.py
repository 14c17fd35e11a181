"""One target under Atheris: ``python -m tests.fuzz.search target [options of libFuzzer]``, see `__main__`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

atheris: Any = import_module("atheris")  # has no types, and is not there for every Python

with atheris.instrument_imports(include=["penstock"], exclude=["penstock.engine.testing"]):
    from .targets import check


def main() -> None:
    program, target, *options = sys.argv
    atheris.Setup([program, *options], lambda data: check(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
