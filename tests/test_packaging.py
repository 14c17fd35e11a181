"""What is installed is what is in the tree."""

from __future__ import annotations

import re
from importlib.metadata import version

import penstock

from .project import FOLDERS, PYPROJECT, ROOT, listed, modules


def test_the_package_list_is_the_folders() -> None:
    folders = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert listed("packages") == sorted(folders)


def test_every_folder_with_modules_is_a_package() -> None:
    missing = {path.parent for path in modules().values()} - {
        path.parent for path in modules().values() if path.name == "__init__.py"
    }
    assert missing == set()


def test_packages_are_built_from_the_folders() -> None:
    mapping = dict(re.findall(r'"([\w.]+)" = "(\w+)"', re.findall(r"^package-dir = .*$", PYPROJECT, re.MULTILINE)[0]))
    assert {name: ROOT / folder for name, folder in mapping.items()} == {"penstock": ROOT / "penstock", **FOLDERS}


def test_the_links_lead_to_the_folders() -> None:
    for package, folder in FOLDERS.items():
        assert (ROOT / package.replace(".", "/")).resolve() == folder


def test_types_are_shipped() -> None:
    assert (ROOT / "penstock" / "py.typed").is_file()
    assert 'package-data = { penstock = ["py.typed"], ' in PYPROJECT


def test_the_version_is_the_installed_one_and_in_the_changelog() -> None:
    assert penstock.__version__ == version("penstock")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == penstock.__version__
