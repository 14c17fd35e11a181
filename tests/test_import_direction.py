"""Imports run one way: what import-linter's contracts in `pyproject.toml` cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .project import FOLDERS, ROOT, listed, modules

MODULES = modules()


def imports(name: str, path: Path) -> set[str]:
    """Full names of all that a module imports: modules, and names in modules. Imports for types alone do not count."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in statements(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                steps = package.split(".")[: len(package.split(".")) + 1 - node.level]
                source = ".".join([*steps, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, functions included, `if TYPE_CHECKING:` left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node)


def module_of(imported: str) -> str | None:
    """The module of ours that an import reads. `None` when it is none of ours."""
    if imported in MODULES:
        return imported
    parent = imported.rpartition(".")[0]
    return parent if parent in MODULES else None


def test_no_module_imports_what_imports_it() -> None:
    graph = {
        name: {module for imported in imports(name, path) if (module := module_of(imported))}
        for name, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("folder", ["penstock", "engine", "middleware", "tests", "benchmarks", "examples"])
def test_the_two_folders_are_imported_under_their_full_names(folder: str) -> None:
    bare = {
        f"{path.relative_to(ROOT)}: {imported}"
        for path in (ROOT / folder).rglob("*.py")
        for imported in imports("", path)
        if imported.split(".")[0] in ("engine", "middleware")
    }
    assert bare == set()


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_are_relative_inside_a_folder_and_full_across(package: str) -> None:
    wrong = {
        f"{name}: {ast.unparse(node)}"
        for name, path in MODULES.items()
        if name.startswith(package)
        for node in statements(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and f"{node.module}.".startswith(f"{package}.")
    }
    assert wrong == set()


@pytest.mark.parametrize("package", FOLDERS)
def test_nothing_inside_comes_in_by_the_public_door(package: str) -> None:
    doors = {name for name in MODULES if not name.startswith(tuple(FOLDERS))}
    wrong = {
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        if name.startswith(package)
        for imported in imports(name, path)
        if module_of(imported) in doors and imported != "penstock.__version__"
    }
    assert wrong == set()


def test_nothing_is_imported_that_is_not_installed_with_penstock() -> None:
    core = {"aiohttp", "aiohttp_retry", "multidict", "orjson", "penstock", "tenacity", "yarl"}  # two come with aiohttp
    runners = {"pytest", "pytest_asyncio"}  # who uses the plugin has them
    foreign = {
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        for imported in imports(name, path)
        if imported.split(".")[0] not in core | sys.stdlib_module_names
        and not (name.startswith("penstock.engine.pytest_plugin") and imported.split(".")[0] in runners)
    }
    # Extras: imported where a gateway is made that speaks TLS, and where progress is drawn
    extras = ("penstock.engine.testing.authority imports trustme", "penstock.engine.cli.view imports rich.")
    assert {each for each in foreign if not each.startswith(extras)} == set()


def test_every_module_has_its_layer() -> None:
    placed = tuple(module for layer in listed("layers") for module in layer.split(" | "))
    folders = {"penstock", *FOLDERS}
    homeless = {name for name in MODULES if name not in folders and not name.startswith(placed)}
    assert homeless == set()


def test_importing_penstock_loads_no_more_than_every_call_needs() -> None:
    code = "import sys, penstock; penstock.ModelEngine; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "penstock.engine.model_engine" in loaded
    needless = {
        "aiohttp.web",
        "aiohttp_retry",
        "argparse",
        "penstock.engine.batch",
        "penstock.engine.cli",
        "penstock.engine.testing",
        "sqlite3",
        "tenacity",
    }
    assert loaded & needless == set()
