"""Pictures of how values are spread, and of how they change with the load. `None` when there is nothing to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .distribution import quantile
from .plot import Axis, Plot, columns, dots, line, rule
from .scales import SIZE, Scale, fitting, linear, logarithmic, milliseconds, number, tick_milliseconds

_BARS = 60  # of a distribution


def distribution(name: str, title: str, values: Sequence[float], across: Scale, label: str = "") -> Plot | None:
    """How often each time came, with the median, the 90th and the 99th percentile.

    Args:
        name: Of the plot.
        title: What the values are.
        values: Milliseconds.
        across: `distribution_scale` of these values and those they are compared with.
        label: Of a stage, where there are several.
    """
    if not values:
        return None
    bars = _bars(values, across)
    up = Scale(0, max(count for _, _, count in bars) * 1.05)
    ordered = sorted(values)
    marks = columns(across, up, bars, "accent")
    said = []
    for percent in (50, 90, 99):
        value = quantile(ordered, percent / 100)
        marks += rule(across, value, "percentile")
        said.append(f"p{percent} {milliseconds(value)}")
    times = tuple(tick_milliseconds(value) for value in across.ticks)
    return Plot(
        name,
        f"{title} {label}".strip(),
        f"{len(values):,} values from {milliseconds(ordered[0])} to {milliseconds(ordered[-1])}: {', '.join(said)}.",
        Axis(across, "", times),
        Axis(up, "   ".join([label, *said] if label else said)),
        marks,
        "strip" if label else "middle",
    )


def distribution_scale(values: Iterable[float]) -> Scale:
    """For `distribution`: from 0, or logarithmic where few are much larger than most."""
    return fitting(list(values), 8)


def against_load(
    name: str,
    title: str,
    unit: str,
    loads: Sequence[tuple[float, str]],
    series: Sequence[tuple[str, str, Sequence[float | None]]],
    *,
    is_log: bool = False,
) -> Plot | None:
    """Figures of the stages of a sweep.

    Args:
        name: Of the plot.
        title: What it shows.
        unit: Of the values.
        loads: Of each stage, ascending: number and text.
        series: Title, kind of line, a value for each stage.
        is_log: Whether values differ by factors.
    """
    values = [value for _, _, each in series for value in each if value is not None]
    if len(loads) < 2 or not values:
        return None
    across = Scale(0, len(loads) - 1, ticks=tuple(float(place) for place in range(len(loads))))
    across = Scale(-0.4, len(loads) - 0.6, ticks=across.ticks)
    up = logarithmic([min(values) * 0.9, max(values)]) if is_log else linear(0, max(values))
    marks, words = "", []
    for label, kind, each in series:
        points = [(float(place), value) for place, value in enumerate(each) if value is not None]
        marks += line(across, up, points, kind) + dots(across, up, points, f"large {kind}")
        words.append(f"{label}: " + ", ".join(f"{number(value)} at {loads[int(at)][1]}" for at, value in points))
    times = tuple(tick_milliseconds(value) for value in up.ticks) if unit == "ms" else None
    return Plot(
        name,
        title,
        "; ".join(words) + ".",
        Axis(across, "load: " + _load_unit(loads), tuple(text.split(" ")[0] for _, text in loads)),
        Axis(up, unit, times),
        marks,
    )


def _bars(values: Sequence[float], across: Scale) -> list[tuple[float, float, float]]:
    """Counts in equal stretches of the picture."""
    counts = [0] * _BARS
    for value in values:
        counts[min(_BARS - 1, int(across.place(value) * _BARS / SIZE))] += 1
    edges = [_value_at(across, share / _BARS) for share in range(_BARS + 1)]
    return [(low, high, float(count)) for low, high, count in zip(edges, edges[1:], counts)]


def _value_at(scale: Scale, share: float) -> float:
    if scale.is_log:
        return float(scale.low * (scale.high / scale.low) ** share)
    return scale.low + (scale.high - scale.low) * share


def _load_unit(loads: Sequence[tuple[float, str]]) -> str:
    return loads[0][1].partition(" ")[2]
