"""What README.md and docs/ say is so: their programs run, their commands exist, their tables are the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from penstock import ModelEngine, errors
from penstock.testing import Gateway

from .project import ROOT, listed, modules

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"batch-ray.md": "ray", "bench-ray.md": "ray"}  # pages whose programs run where this is installed
LINK = re.compile(r"\]\((?P<path>[^):#]*)(?:#(?P<anchor>[^)]*))?\)")
RUN = runpy.run_path(str(ROOT / "run.py"))


@dataclass(frozen=True)
class Block:
    """One code block of a page.

    Args:
        line: Of its first line in the page, counted from 1.
        output: The `text` block that follows, with nothing between. `None` when there is none.
    """

    page: Path
    language: str
    text: str
    line: int
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        follows = re.compile(r"\s*```text\n(.*?)^```$", re.MULTILINE | re.DOTALL).match(text, found.end())
        yield Block(page, found["language"], found["text"], line, follows[1] if follows else None)


def of_language(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page) if block.language in languages
    ]


def named(page: Any) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= {"python", "sh", "text"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_programs_run_and_print_what_the_page_shows(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Later blocks of a page know the names of earlier ones. What is no whole program runs with a `gateway` and an
    `engine` that speaks to it.
    """
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name], exc_type=ImportError)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "asyncio.run(" in block.text:
            exec(code, names)
        else:
            asyncio.run(inside(code, names))
        printed = capsys.readouterr().out
        if block.output is not None:
            assert printed == block.output, str(block)


async def inside(code: Any, names: dict[str, Any]) -> None:
    async with Gateway() as gateway, ModelEngine("tiny-mock", base_url=gateway.url) as engine:
        names.update(gateway=gateway, engine=engine)
        # In a thread what blocks does not block the gateway; what awaits comes back as a coroutine of this loop.
        running = await asyncio.to_thread(eval, code, names)
        if inspect.isawaitable(running):
            await running


@pytest.mark.parametrize("block", of_language("sh"))
def test_commands_exist(block: Block) -> None:
    for line in block.text.splitlines():
        if words := shlex.split(line, comments=True):
            check_command(words)


def check_command(words: list[str]) -> None:
    match words:
        case ["python3", "run.py", command, *_]:
            assert command in RUN["COMMANDS"]
        case ["penstock", command, *options]:
            asked = subprocess.run(
                [sys.executable, "-m", "penstock", command, "--help"], capture_output=True, text=True
            )
            assert asked.returncode == 0, asked.stderr
            assert {option for option in options if option.startswith("--")} <= set(
                re.findall(r"--[\w-]+", asked.stdout)
            )
        case ["make", target]:
            rules = re.findall(r"^([\w ]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            assert target in " ".join(rules).split()
        case [".venv/bin/python", script, *_]:
            assert (ROOT / script).is_file()
        case [".venv/bin/pytest" | ".venv/bin/pre-commit" | "git" | "pip" | "uv", *_]:
            pass  # not ours
        case [".ci/run"]:
            assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
        case _:
            pytest.fail(f"nobody checks this command: {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for found in LINK.finditer(BLOCK.sub("", page.read_text("utf-8"))):
        target = page.parent / found["path"] if found["path"] else page
        if not target.exists() or (found["anchor"] and found["anchor"] not in anchors(target)):
            dead.append(found[0])
    assert dead == []


def anchors(page: Path) -> set[str]:
    """The anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(page: str) -> list[list[str]]:
    """The cells of all rows that begin with a name in code."""
    text = (ROOT / page).read_text("utf-8")
    rows = re.findall(r"^\| (`.*) \|$", text, re.MULTILINE)
    return [[cell.strip().strip("`") for cell in row.split(" | ")] for row in rows]


def subclasses(kind: type[errors.ModelEngineError]) -> Iterator[type[errors.ModelEngineError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == kind.__module__:
            yield from subclasses(child)


def test_the_table_of_errors_is_the_tree() -> None:
    told = [tuple(cells[:3]) for cells in table_rows("docs/errors.md") if cells[0].endswith("Error")]
    tree = [
        (kind.__name__, kind.default_advice, " ".join((kind.__doc__ or "").partition("\n\n")[0].split()))
        for kind in subclasses(errors.ModelEngineError)
    ]
    assert sorted(told) == sorted(tree)


def test_the_tables_of_phases_and_advice_are_the_types() -> None:
    told = [cells[0] for cells in table_rows("docs/errors.md") if not cells[0].endswith("Error")]
    assert told == [*get_args(errors.Phase), *get_args(errors.Advice)]


def test_the_architecture_names_every_module_and_folder() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    in_one_line = "batch bench cli pytest_plugin testing sync gateways.modelgov gateways.omnigate"
    folded = tuple(f"penstock.engine.{folder}." for folder in in_one_line.split())
    names = {
        f"`{path.parent.name}/`" if path.name == "__init__.py" else f"`{path.name}`"
        for name, path in modules().items()
        if not name.startswith(folded)
    }
    assert {name for name in names if name not in page} == set()


def test_the_architecture_draws_the_layers_of_the_contract() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    drawing = page.partition("## Imports run one way")[2].partition("```text\n")[2].partition("```")[0]
    drawn = [line.strip().split("  ")[0] for line in drawing.splitlines()]
    contract = [layer.replace("penstock.engine.", "").replace("penstock.", "") for layer in listed("layers")]
    assert drawn == [layer for layer in contract if "__main__" not in layer]
