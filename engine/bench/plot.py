"""A picture with axes, as HTML. The marks are SVG that takes any width; the words are text of the page, so that they
have the same size on a phone and on paper. All text is escaped here, all else is made of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from .scales import SIZE, Scale, tick


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a picture.

    Args:
        scale: Where values are.
        title: What they are, with the unit.
        labels: Texts of the ticks. `None` writes their values.
    """

    scale: Scale
    title: str
    labels: tuple[str, ...] | None = None

    def ticks(self) -> Iterable[tuple[float, str]]:
        """Place in per cent, and text."""
        texts = [tick(value) for value in self.scale.ticks] if self.labels is None else self.labels
        return [(self.scale.share(value), text) for value, text in zip(self.scale.ticks, texts)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture.

    Args:
        name: Of it alone on its page.
        title, description: For who does not see it.
        across, up: Its axes.
        marks: SVG in a square of `SIZE`, from the upper left.
        height: Name of a height of the style sheet: ``tall``, ``middle``, ``strip``.
        is_in_time: Whether `across` is the time of the run: those move together.
    """

    name: str
    title: str
    description: str
    across: Axis
    up: Axis
    marks: str
    height: str = "middle"
    is_in_time: bool = False

    def html(self) -> str:
        name = escape(self.name)
        grid = "".join(
            f'<path class="grid" d="M0 {round(SIZE - place * SIZE / 100, 1):g}H{SIZE:g}"/>'
            for place, _ in self.up.ticks()
        )
        ups = "".join(f'<span style="bottom:{place:.2f}%">{escape(text)}</span>' for place, text in self.up.ticks())
        overs = "".join(_over(place, text) for place, text in self.across.ticks())
        many = " many" if len(self.across.scale.ticks) > 5 else ""
        in_time = f' data-time="{self.across.scale.low:g} {self.across.scale.high:g}"' if self.is_in_time else ""
        return (
            f'<div class="plot {self.height}" data-plot="{name}"{in_time}>'
            f'<div class="up-title">{escape(self.up.title)}</div>'
            f'<div class="ups" aria-hidden="true">{ups}</div>'
            f'<div class="field"><svg viewBox="0 0 {SIZE:g} {SIZE:g}" preserveAspectRatio="none" role="img" '
            f'aria-labelledby="{name}-title {name}-text"><title id="{name}-title">{escape(self.title)}</title>'
            f'<desc id="{name}-text">{escape(self.description)}</desc>{grid}{self.marks}</svg></div>'
            f'<div class="acrosses{many}" aria-hidden="true">{overs}</div>'
            f'<div class="across-title">{escape(self.across.title)}</div></div>'
        )


def _over(place: float, text: str) -> str:
    """A word under the picture; one at the right edge ends there."""
    kind = ' class="last"' if place > 97 else ""
    return f'<span{kind} style="left:{place:.2f}%">{escape(text)}</span>'


def down(scale: Scale, value: float) -> float:
    """A value's place from above, as SVG counts."""
    return SIZE - scale.place(value)


def dots(across: Scale, up: Scale, points: Iterable[tuple[float, float]], kind: str) -> str:
    """One mark for each point; they stay round however the picture is stretched."""
    path = "".join(f"M{across.place(x):.1f} {down(up, y):.1f}h0" for x, y in points)
    return f'<path class="dots {kind}" d="{path}"/>' if path else ""


def line(across: Scale, up: Scale, points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    path = " ".join(f"{across.place(x):.1f},{down(up, y):.1f}" for x, y in points)
    return f'<polyline class="line {kind}" points="{path}"/>' if points else ""


def band(across: Scale, up: Scale, points: Sequence[tuple[float, float, float]], kind: str) -> str:
    """What is between two lines: place, lower, upper value."""
    if not points:
        return ""
    over = [f"{across.place(x):.1f},{down(up, high):.1f}" for x, _, high in points]
    under = [f"{across.place(x):.1f},{down(up, low):.1f}" for x, low, _ in reversed(points)]
    return f'<polygon class="band {kind}" points="{" ".join(over + under)}"/>'


def columns(across: Scale, up: Scale, bars: Iterable[tuple[float, float, float]], kind: str) -> str:
    """Bars from the lower end: from, to, value."""
    path = "".join(
        f"M{across.place(begin):.1f} {SIZE:g}V{down(up, value):.1f}H{across.place(end):.1f}V{SIZE:g}z"
        for begin, end, value in bars
        if value > up.low
    )
    return f'<path class="columns {kind}" d="{path}"/>' if path else ""


def rows(across: Scale, spans: Iterable[tuple[float, float, float]], height: float, kind: str) -> str:
    """Lying bars: from, to, place from above."""
    path = "".join(
        f"M{across.place(begin):.1f} {top:.1f}H{across.place(end):.1f}v{height:.1f}H{across.place(begin):.1f}z"
        for begin, end, top in spans
    )
    return f'<path class="rows {kind}" d="{path}"/>' if path else ""


def rule(across: Scale, value: float, kind: str) -> str:
    """An upright line at a value."""
    return f'<path class="rule {kind}" d="M{across.place(value):.1f} 0V{SIZE:g}"/>'


def level(up: Scale, value: float, kind: str) -> str:
    """A line across at a value."""
    return f'<path class="rule {kind}" d="M0 {down(up, value):.1f}H{SIZE:g}"/>'
