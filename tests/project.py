"""The project as the tests of its shape see it: its folders, its modules and what `pyproject.toml` lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")

FOLDERS = {"penstock.engine": ROOT / "engine", "penstock.middleware": ROOT / "middleware"}
"""Package -> the folder it is built from."""


def listed(name: str) -> Any:
    """What `pyproject.toml` assigns to `name` first: a list of texts, which is written as in Python."""
    assigned = re.search(rf"^{name} = (\[.*?^\])$", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert assigned is not None, f"pyproject.toml has no list {name!r}"
    return ast.literal_eval(assigned[1])


def modules() -> dict[str, Path]:
    """Full name -> file, of every module that is installed. A package is named like its folder."""
    files = {"penstock": [*(ROOT / "penstock").glob("*.py")]}
    files |= {package: [*folder.rglob("*.py")] for package, folder in FOLDERS.items()}
    found = {}
    for package, paths in files.items():
        folder = FOLDERS.get(package, ROOT / package)
        for path in paths:
            steps = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(step for step in steps if step != "__init__")])] = path
    return found
