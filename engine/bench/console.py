"""One block of plain text that says what a run measured: made to be pasted, with a line for each definition."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from .definitions import Definition, RunDefinition
from .document import Document
from .figures import Figures, StageFigures
from .load_words import load_kind, load_words, stage_words
from .scales import number
from .vocabulary import PENSTOCK

WIDTH = 96  # of the longest line
_PLACES = ("mean", "p50", "p90", "p99", "max")
_NAME = 32
_CELL = 12


def block(document: Document, vocabulary: str = PENSTOCK.name, *, definitions: bool = True) -> str:
    """The block. Text of servers in it has no control characters.

    Args:
        document: The run.
        vocabulary: Whose words: ``penstock``, ``vllm``, ``guidellm``, ``aiperf``.
        definitions: Whether to say what each figure means.
    """
    figures = document.figures(vocabulary)
    lines = [*_head(document, figures)]
    for stage in figures.stages:
        lines += _stage(figures, stage)
    if len(figures.stages) > 1:
        lines += _sweep(figures)
    if definitions:
        lines += _definitions(figures)
    return "\n".join(plain(line) for line in lines) + "\n"


def _head(document: Document, figures: Figures) -> Iterator[str]:
    about = document.shown
    title = "Penstock bench" if figures.vocabulary is PENSTOCK else f"Penstock bench, as {figures.vocabulary.title}"
    yield f"== {title} {'=' * max(2, WIDTH - len(title) - 4)}"
    what = [str(about[name]) for name in ("model", "gateway", "url") if about.get(name)]
    if what:
        yield from _wrapped("", " · ".join(what))
    if document.calibration is not None and document.calibration.get("text"):
        yield from _wrapped("", str(document.calibration["text"]))


def _stage(figures: Figures, stage: StageFigures) -> Iterator[str]:
    yield f"-- {stage_words(stage.stage)}, {load_kind(stage.stage.load)} ".ljust(WIDTH, "-")
    if not stage.is_valid:
        yield "THIS RUN DOES NOT COUNT"
    for remark in stage.remarks:
        yield from _wrapped("! " if remark.is_fatal else "* ", remark.text)
    counts = stage.requests
    said = [f"{count:,} {name.replace('_', '-')}" for name, count in counts.items() if count or name == "completed"]
    yield _row("Outcome", ", ".join(said))
    for failure in stage.failures:
        status = "" if failure.status is None else f" (HTTP {failure.status})"
        yield f"  {failure.count:,} {failure.name}{status}"
    for run in figures.vocabulary.short(figures.vocabulary.runs):
        value = stage.values[run.name]
        if value is not None:
            yield _row(run.title, _with_unit(run, value))
    yield f"{'':<{_NAME}}" + "".join(f"{place:>{_CELL}}" for place in _PLACES)
    for definition in figures.vocabulary.short((*figures.vocabulary.requests, *figures.vocabulary.gaps)):
        distribution = stage.distributions[definition.name]
        if distribution.count:
            cells = "".join(f"{_number(distribution.at(place)):>{_CELL}}" for place in _PLACES)
            yield f"{_named(definition):<{_NAME}}{cells}"


def _sweep(figures: Figures) -> Iterator[str]:
    names = ["ttft", "output_rate", "request_rate"]
    heads = ["times in ms", "ttft p50", "ttft p99", "tokens/s", "requests/s"]
    if figures.slos:
        heads.append("goodput/s")
    yield f"-- all stages {'-' * (WIDTH - 14)}"
    yield f"{heads[0]:<{_NAME}}" + "".join(f"{head:>{_CELL}}" for head in heads[1:])
    for stage in figures.stages:
        values = [
            stage.value(names[0], "p50"),
            stage.value(names[0], "p99"),
            *(stage.values[name] for name in names[1:]),
        ]
        if figures.slos:
            values.append(stage.values["goodput"])
        mark = "" if stage.is_valid else "!"
        cells = "".join(f"{_number(value):>{_CELL}}" for value in values)
        yield f"{load_words(stage.stage.load) + mark:<{_NAME}}{cells}"


def _definitions(figures: Figures) -> Iterator[str]:
    yield f"-- what they mean {'-' * (WIDTH - 18)}"
    for definition in figures.vocabulary.short(figures.definitions):
        yield f"{definition.name:<16} {definition.text}"
    yield from figures.vocabulary.notes
    if figures.slos:
        yield from _wrapped("", f"Objectives: {', '.join(str(slo) for slo in figures.slos)}")
    yield "=" * WIDTH


def _row(name: str, value: str) -> str:
    return f"{name:<{_NAME}} {value}"


def _named(definition: Definition) -> str:
    return f"{definition.title}, {definition.unit}"


def _with_unit(definition: RunDefinition, value: float) -> str:
    return f"{value:.2%}" if definition.unit == "share" else f"{number(value)} {definition.unit}"


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)


def _wrapped(mark: str, text: str) -> list[str]:
    return textwrap.wrap(
        plain(text), WIDTH, initial_indent=mark, subsequent_indent=" " * (len(mark) or 2), break_long_words=False
    )


def plain(text: str) -> str:
    """Without what could move a cursor."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
