"""Curves as an SVG picture: a figure against how many there are at a time, both on logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from plot import STYLE

LEFT, WIDTH, RIGHT = 70, 430, 190  # pixels
TOP, HEIGHT, BOTTOM = 40, 300, 50
OURS = ("#1f6f8b", "#63b0c9")
OTHERS = ("#c2703d", "#8a8f3c", "#7d5ba6", "#b05a7a", "#6b7b86")

Curve = Mapping[float, float]
"""Figures by what they are drawn against."""


def curves(title: str, across: str, rows: Mapping[str, Curve]) -> str:
    """The picture. Rows whose name begins with "Penstock" are drawn thicker.

    Args:
        title: What it shows, with the unit.
        across: What the horizontal axis is.
        rows: By name. A row without figures is left out.
    """
    drawn = {name: curve for name, curve in rows.items() if curve}
    xs = sorted({x for curve in drawn.values() for x in curve})
    ys = [y for curve in drawn.values() for y in curve.values() if y > 0]
    width, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
        f'<text x="{LEFT + WIDTH // 2}" y="{height - 8}" text-anchor="middle">{escape(across)}</text>',
    ]
    if ys:
        parts += _drawn(drawn, xs, ys)
    return "\n".join([*parts, "</svg>\n"])


def _drawn(rows: Mapping[str, Curve], xs: list[float], ys: list[float]) -> list[str]:
    least, most = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys) * 1.01))

    def x_of(x: float) -> float:
        return LEFT + WIDTH * (math.log(x / xs[0]) / math.log(xs[-1] / xs[0]) if len(xs) > 1 else 0.5)

    def y_of(y: float) -> float:
        return TOP + HEIGHT * (1 - math.log(y / least) / math.log(most / least))

    parts = [
        f'<text x="{x_of(x):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x:g}</text>'
        f'<path d="M{x_of(x):.1f} {TOP}V{TOP + HEIGHT}" stroke="#eee"/>'
        for x in xs
    ]
    power = least
    while power <= most:
        parts.append(f'<text class="label" x="{LEFT - 8}" y="{y_of(power) + 4:.1f}">{_number(power)}</text>')
        parts.append(f'<path d="M{LEFT} {y_of(power):.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
        power *= 10
    beside = sorted(rows, key=lambda name: -rows[name][max(rows[name])])
    colours = _colours(rows)
    lowest = 0.0
    for name in beside:
        points = [(x_of(x), y_of(y)) for x, y in sorted(rows[name].items()) if y > 0]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        thick = 3 if name.startswith("Penstock") else 1.5
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="{thick}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colours[name]}"/>' for x, y in points]
        lowest = max(lowest + 15, points[-1][1] + 4)  # names do not lie on one another
        parts.append(
            f'<text x="{LEFT + WIDTH + 8}" y="{lowest:.1f}" style="fill:{colours[name]}">{escape(name)}</text>'
        )
    return parts


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _colours(rows: Mapping[str, Curve]) -> dict[str, str]:
    ours = [name for name in rows if name.startswith("Penstock")]
    others = [name for name in rows if name not in ours]
    chosen = {name: OURS[place % len(OURS)] for place, name in enumerate(ours)}
    return chosen | {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
