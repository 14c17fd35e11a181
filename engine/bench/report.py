"""One HTML file that shows a run: it opens anywhere, from a file too, and loads nothing.

All figures and pictures are there without JavaScript; the script adds a cursor and a stretch of time. A content
security policy in the page forbids all else: no request to anything, no script but this one, whatever a server says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import orjson

from . import report_tables as tables
from .document import Document, write_whole
from .figures import Figures
from .load_words import load_kind, stage_words
from .moments import Moments
from .report_pictures import Picture, pictures_of_distributions, pictures_of_load, pictures_over_time

_HERE = Path(__file__).parent
_HOVERED = 2400  # requests that the page's script knows


def write_report(document: Document, path: str | Path) -> None:
    """Write the page into a file, which is there whole or not at all.

    Raises:
        BenchDocumentError: It cannot be written.
    """
    write_whole(path, report_page(document).encode())


def report_page(document: Document) -> str:
    """The page, as a text."""
    figures = document.figures()
    title = _title(document)
    parts = [
        f"<header><h1>{escape(title)}</h1>{_about(document, figures)}</header>",
        tables.verdict(figures),
        tables.cards(figures),
        *_section("Stages", tables.stages(figures)),
        *_pictures("Against the load", pictures_of_load(document, figures)),
        *_section("Figures", *tables.figures(figures)),
        *_pictures("Over the run", pictures_over_time(document), _TOOLS),
        *_pictures("How the times are spread", pictures_of_distributions(document)),
        *_section("Failed requests", tables.failures(figures)),
        *_section("What the figures mean", tables.definitions(figures)),
        *_section("This client", tables.clients(document)),
        *_section("What was run", tables.mapping(document.shown)),
    ]
    return page(title, "\n".join(part for part in parts if part), _data(document))


_TOOLS = (
    '<div class="tools" hidden><label>From <input type="range" min="0" max="1000" value="0"></label>'
    '<label>to <input type="range" min="0" max="1000" value="1000"></label><output aria-live="off"></output></div>'
)


def page(title: str, body: str, data: str = '{"requests":[]}') -> str:
    """A page around a body of HTML; `data` is the JSON that its script reads."""
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
        f"<main>\n{body}\n</main>\n"
        "<footer>Made by Penstock bench. The JSON document of the run has every request.</footer>\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


@cache
def _asset(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _title(document: Document) -> str:
    about = document.shown
    return str(about.get("title") or about.get("model") or "Penstock bench")


def _about(document: Document, figures: Figures) -> str:
    started = datetime.fromtimestamp(document.recording.started, timezone.utc)
    loads = ", ".join(stage_words(stage.stage) for stage in figures.stages[:6])
    kinds = " and ".join(dict.fromkeys(load_kind(stage.stage.load) for stage in figures.stages))
    words = [str(document.shown[name]) for name in ("gateway", "url") if document.shown.get(name)]
    words += [loads + (", ..." if len(figures.stages) > 6 else ""), kinds, f"{started:%Y-%m-%d %H:%M} UTC"]
    return f'<p class="about">{" · ".join(escape(word) for word in words if word)}</p>'


def _section(title: str, *parts: str) -> Iterator[str]:
    if any(parts):
        yield f"<section>\n<h2>{escape(title)}</h2>"
        yield from (part for part in parts if part)
        yield "</section>"


def _pictures(title: str, pictures: Sequence[Picture], tools: str = "") -> Iterator[str]:
    yield from _section(title, *([tools] if pictures else []), *(picture.html() for picture in pictures))


def _data(document: Document) -> str:
    """What the cursor tells: number, due s, first token ms, end ms, failure of some requests, ascending in time."""
    requests = sorted(
        (each for record in document.recording.stages for each in record.requests if each.end is not None),
        key=lambda moments: moments.scheduled,
    )
    every = max(1, -(-len(requests) // _HOVERED))
    rows = [_hover(moments) for moments in requests[::every]]
    # "<" must not stand in a script element: "</script>" ends it, "<!--" changes how it is read
    return orjson.dumps({"requests": rows}).decode().replace("<", "\\u003c")


def _hover(moments: Moments) -> list[Any]:
    first, end = moments.time_to_first_output, moments.latency
    return [
        moments.number,
        round(moments.scheduled / 1e9, 4),
        None if first is None else round(first / 1e6, 2),
        None if end is None else round(end / 1e6, 2),
        moments.failure.name if moments.failure is not None else None,
    ]
