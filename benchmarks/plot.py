"""Bars as an SVG picture: medians with the middle half, on a logarithmic scale, a panel for each thing measured."""

from __future__ import annotations

import math
from html import escape

from harness import Spread

LABEL, BAR, FIGURE = 230, 420, 80  # widths
LINE, TITLE = 18, 34  # heights
COLOURS = {True: "#1f6f8b", False: "#b8c4cc"}  # ours, others
STYLE = "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.label{text-anchor:end}"


def bars(title: str, panels: dict[str, dict[str, Spread]]) -> str:
    """The picture. Rows whose name begins with "Penstock" are shown in their own colour.

    Args:
        title: What it shows, with the unit.
        panels: Figures of rows, by the name of a panel.
    """
    parts = [f'<text class="title" x="8" y="20">{escape(title)}</text>']
    top = TITLE
    for name, rows in panels.items():
        if rows:
            parts += _panel(name, rows, top)
            top += TITLE + LINE * len(rows)
    width = LABEL + BAR + FIGURE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + 10}">'
    return "\n".join(
        [head, f"<style>{STYLE}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"]
    )


def _panel(name: str, rows: dict[str, Spread], top: int) -> list[str]:
    values = [value for spread in rows.values() for value in (spread.low, spread.high) if value > 0]
    if not values:
        return []
    least, most = min(values) / 2, max(values)

    def place(value: float) -> float:
        return LABEL + BAR * math.log(max(value, least) / least) / math.log(most / least)

    parts = [f'<text class="title" x="8" y="{top + 20}">{escape(name)}</text>']
    for number, (row, spread) in enumerate(rows.items()):
        parts.append(_bar(row, spread, top + TITLE + LINE * number, place(spread.median)))
        low, high, middle = place(spread.low), place(spread.high), top + TITLE + LINE * number + 6
        parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222" stroke-width="2"/>')
    return parts


def _bar(row: str, spread: Spread, top: int, end: float) -> str:
    colour = COLOURS[row.startswith("Penstock")]
    return (
        f'<text class="label" x="{LABEL - 6}" y="{top + 10}">{escape(row)}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{end - LABEL:.1f}" height="12" fill="{colour}"/>'
        f'<text x="{end + 6:.1f}" y="{top + 10}">{spread.median:,.3g}</text>'
    )
