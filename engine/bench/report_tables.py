"""What a report says in words and numbers. All text is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .definitions import Definition, RunDefinition
from .document import Document
from .figures import Figures, StageFigures
from .load_words import stage_words
from .scales import milliseconds, number

_PLACES = ("mean", "p50", "p90", "p99", "max")
_WIDE = ("mean", "p90")  # columns that a phone has no room for


def verdict(figures: Figures) -> str:
    """Whether the run counts, and what has to be known to read it."""
    if figures.is_valid:
        head = "This run counts: the client was not the limit."
    else:
        head = "This run does not count: its figures are the client's as much as the server's."
        if not any(stage.requests["completed"] for stage in figures.stages):
            head = "This run does not count: no request was completed."
        elif any(remark.code == "processes_lost" for stage in figures.stages for remark in stage.remarks):
            head = "This run does not count: a part of it was lost."
    several = len(figures.stages) > 1
    remarks = [
        f"<li>{escape(f'{stage_words(stage.stage)}: {remark.text}' if several else remark.text)}</li>"
        for stage in figures.stages
        for remark in stage.remarks
    ]
    items = f"<ul>{''.join(remarks)}</ul>" if remarks else ""
    kind = "" if figures.is_valid else " fatal"
    return f'<div class="verdict{kind}" role="note"><strong>{head}</strong>{items}</div>'


def cards(figures: Figures) -> str:
    """The figures that most people look for first. Of a sweep the table of stages has them."""
    if len(figures.stages) != 1:
        return ""
    stage = figures.stages[0]
    cells = [
        _card("Time to first token, p50", *_time(stage, "ttft", "p50"), beside=_beside(stage, "ttft")),
        _card("Time per output token, p50", *_time(stage, "tpot", "p50"), beside=_beside(stage, "tpot")),
        _card("Latency, p50", *_time(stage, "latency", "p50"), beside=_beside(stage, "latency")),
        _card(
            "Output tokens", _value(stage, "output_rate"), "/s", beside=f"{_value(stage, 'request_rate')} requests/s"
        ),
    ]
    if stage.values.get("goodput") is not None:
        share = stage.values["good_share"]
        beside = "" if share is None else f"{_percent(share)} of requests meet the objectives"
        cells.append(_card("Goodput", _value(stage, "goodput"), "/s", beside=beside))
    requests = stage.requests
    beside = f"{requests['failed']:,} failed" if requests["failed"] else "none failed"
    cells.append(_card("Completed requests", f"{requests['completed']:,}", "", beside=beside))
    return f'<dl class="cards">{"".join(cells)}</dl>'


def stages(figures: Figures) -> str:
    """A line for each stage of a sweep."""
    if len(figures.stages) < 2:
        return ""
    heads = ["Load", "TTFT p50", "TTFT p99", "TPOT p50", "Output tokens/s", "Requests/s"]
    if figures.slos:
        heads.append("Good")
    heads.append("Failed")
    lines = []
    for stage in figures.stages:
        cells = [_span(stage, "ttft", "p50"), _span(stage, "ttft", "p99"), _span(stage, "tpot", "p50")]
        cells += [_value(stage, "output_rate"), _value(stage, "request_rate")]
        if figures.slos:
            cells.append(_percent(stage.values["good_share"]))
        cells.append(_percent(stage.values["error_share"]))
        lines.append((stage_words(stage.stage), cells))
    return table(heads, lines)


def figures(said: Figures) -> Iterator[str]:
    """The tables of each stage, those of several folded."""
    for stage in said.stages:
        if len(said.stages) == 1:
            yield _tables(said, stage)
        else:
            title = escape(stage_words(stage.stage))
            yield f"<details><summary>{title}</summary>{_tables(said, stage)}</details>"


def _tables(said: Figures, stage: StageFigures) -> str:
    return f'<div class="beside">{_distributions(said, stage)}{_rates(said, stage)}</div>'


def _distributions(said: Figures, stage: StageFigures) -> str:
    lines = []
    for definition in said.definitions:
        if not isinstance(definition, RunDefinition):
            distribution = stage.distributions[definition.name]
            lines.append((_named(definition), [_plain(distribution.at(place)) for place in _PLACES]))
    return table(["", *_PLACES], lines, is_html=True, wide=_WIDE)


def _rates(said: Figures, stage: StageFigures) -> str:
    lines = []
    for definition in said.definitions:
        if isinstance(definition, RunDefinition):
            value = stage.values[definition.name]
            is_share = definition.unit == "share"
            text = _percent(value) if is_share else _plain(value)
            lines.append((_named(definition), [text]))
    return table(["", ""], lines, is_html=True)


def failures(figures: Figures) -> str:
    """Failed requests by class."""
    lines = []
    for stage in figures.stages:
        for failure in stage.failures:
            what = "no status" if failure.status is None else f"HTTP {failure.status}"
            where = [what, failure.phase or "", failure.code or ""]
            lines.append(
                [
                    stage_words(stage.stage),
                    failure.name,
                    ", ".join(word for word in where if word),
                    f"{failure.count:,}",
                    failure.message,
                ]
            )
    if not lines:
        return ""
    several = len(figures.stages) > 1
    body = "".join(
        "<tr>"
        + (f"<td>{escape(load)}</td>" if several else "")
        + f"<td>{escape(name)}</td><td>{escape(where)}</td>"
        + f'<td class="number">{escape(count)}</td><td class="text">{escape(message)}</td></tr>'
        for load, name, where, count, message in lines
    )
    head = ("<th>Load</th>" if several else "") + "<th>Error</th><th>Answer</th>"
    return (
        f'<div class="scroll"><table><thead><tr>{head}<th class="number">Count</th><th>First message</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def definitions(figures: Figures) -> str:
    """What each figure means."""
    items = "".join(
        f"<div><dt>{escape(each.title)} <code>{escape(each.name)}</code></dt><dd>{escape(each.text)}.</dd></div>"
        for each in figures.definitions
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in figures.vocabulary.notes)
    return f'<dl class="words">{items}</dl>{notes}'


def clients(document: Document) -> str:
    """How late each process was, and how well it measures."""
    heads = ["Process", "Core used", "Loop late, p99", "at most", "Longest pause", "Connections", "Memory"]
    several = len(document.recording.stages) > 1
    lines = []
    for record in document.recording.stages:
        for client in record.clients:
            lag = client.lag
            name = str(client.worker) if client.host is None else f"{client.worker} on {client.host}"
            name = f"{name}, {stage_words(record.stage)}" if several else name
            memory = "" if client.peak_memory is None else f"{client.peak_memory / 1e6:,.0f} MB"
            late = [lag.loop_delay.percentile(99), lag.loop_delay.highest, lag.pauses.highest]
            cells = [_percent(lag.cpu_share), *("" if each is None else milliseconds(each / 1e6) for each in late)]
            lines.append((name, [*cells, f"{client.connections:,}", memory]))
    words = ""
    if document.calibration is not None:
        text = document.calibration.get("text")
        words = f"<p>{escape(str(text))}</p>" if text else mapping(document.calibration)
    return words + (table(heads, lines, wide=("at most", "Memory")) if lines else "")


def mapping(value: Mapping[str, Any]) -> str:
    """Names and values, those of what is nested with the names of both."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(text)}</td></tr>'
        for name, text in _flat(value)
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""


def table(
    heads: Sequence[str],
    lines: Sequence[tuple[str, Sequence[str]]],
    *,
    is_html: bool = False,
    wide: Sequence[str] = (),
) -> str:
    """A table of numbers.

    Args:
        heads: Of the columns, the first for the names.
        lines: Name and cells.
        is_html: Whether the names are HTML, as `_named` makes it.
        wide: Heads of columns that are shown where there is room.
    """
    kinds = ['class="number wide"' if head in wide else 'class="number"' for head in heads[1:]]
    head = f'<th scope="col">{escape(heads[0])}</th>' + "".join(
        f'<th scope="col" {kind}>{escape(each)}</th>' for kind, each in zip(kinds, heads[1:])
    )
    body = "".join(
        f'<tr><th scope="row">{name if is_html else escape(name)}</th>'
        + "".join(f"<td {kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, cells))
        + "</tr>"
        for name, cells in lines
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _card(title: str, value: str, unit: str, *, beside: str = "") -> str:
    small = f"<small> {escape(unit)}</small>" if unit else ""
    words = f'<dd class="beside">{escape(beside)}</dd>' if beside else ""
    return f"<div><dt>{escape(title)}</dt><dd>{escape(value)}{small}</dd>{words}</div>"


def _time(stage: StageFigures, name: str, place: str) -> tuple[str, str]:
    value = stage.value(name, place)
    if value is None:
        return "none", ""
    text, _, unit = milliseconds(value).partition(" ")
    return text, unit


def _span(stage: StageFigures, name: str, place: str) -> str:
    value = stage.value(name, place)
    return "" if value is None else milliseconds(value)


def _beside(stage: StageFigures, name: str) -> str:
    p99 = _span(stage, name, "p99")
    return f"p99 {p99}" if p99 else ""


def _value(stage: StageFigures, name: str) -> str:
    value = stage.values[name]
    return "" if value is None else number(value)


def _plain(value: float | None) -> str:
    return "" if value is None else number(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _named(definition: Definition) -> str:
    unit = "" if definition.unit == "share" else f" <small>{escape(definition.unit)}</small>"
    return escape(definition.title) + unit


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        path = f"{before}{name}"
        if isinstance(each, Mapping):
            yield from _flat(each, f"{path}.")
        elif isinstance(each, (list, tuple)):
            yield path, ", ".join(str(item) for item in each)
        elif each is not None:
            yield path, str(each)
