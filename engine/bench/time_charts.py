"""Pictures on the time axis of a run. Each takes values and gives a `Plot`, or `None` when there is nothing to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import groupby

from .moments import Moments
from .plot import Axis, Plot, columns, dots, level, rows, rule
from .scales import SIZE, Scale, linear, logarithmic, milliseconds, number, tick_milliseconds

_NS, _MS = 1e9, 1e6  # nanoseconds in a second, in a millisecond
_POINTS = 2400  # of one kind: more than that are one blot at the width of a page, and cost a report its size
_COLUMNS = 240  # of time in which points are thinned out
_LANES = 100  # rows of a timeline: each is 3 px at least
_BARS_OF_A_ROW = 30  # each is 25 px wide then
_BARS_OF_TIMELINE = 800
_FEWEST_BARS = 40
_BARS = 60  # of a distribution


def time_scale(requests: Iterable[Moments], begin: int = 0) -> Scale:
    """The time of a run in seconds, from `begin` in nanoseconds to its last moment."""
    last = max((request.end or request.scheduled for request in requests), default=begin)
    return linear(begin / _NS, last / _NS, 6, is_rounded=False)


def latency_over_time(requests: Sequence[Moments], across: Scale, borders: Sequence[int]) -> Plot | None:
    """Each request where it was due: its first token, its end, or its failure.

    Args:
        requests: Measured ones, of any outcome.
        across: `time_scale` of them.
        borders: When stages began, in nanoseconds.
    """
    ends = [
        (r.scheduled / _NS, r.latency / _MS) for r in requests if r.outcome == "completed" and r.latency is not None
    ]
    firsts = [
        (r.scheduled / _NS, first / _MS)
        for r in requests
        if r.outcome == "completed" and (first := r.time_to_first_output) is not None
    ]
    failures = [(r.scheduled / _NS, r.latency / _MS) for r in requests if r.outcome == "failed" and r.latency]
    values = [value for kind in (ends, firsts, failures) for _, value in kind if value > 0]
    if not values:
        return None
    up = logarithmic([min(values) * 0.9, max(values)])  # a dot on the edge would be half of one
    marks = [rule(across, border / _NS, "border") for border in borders]
    marks.append(dots(across, up, thinned(ends, across), "other"))
    marks.append(dots(across, up, thinned(firsts, across), "accent"))
    marks.append(dots(across, up, thinned(failures, across), "alarm"))
    description = (
        f"{len(requests):,} requests over {number(across.high - across.low)} s. "
        f"Time to the first token {_range(firsts)}; to the end of the answer {_range(ends)}. "
        f"{len(failures):,} failed."
    )
    times = tuple(tick_milliseconds(value) for value in up.ticks)
    return Plot(
        "latency",
        "Latency over the run",
        description,
        Axis(across, "due at, seconds of the run"),
        Axis(up, "time from when it was due", times),
        "".join(marks),
        "tall",
        is_in_time=True,
    )


def client_over_time(
    lag: Sequence[tuple[int, int, int]], pauses: Sequence[tuple[int, int]], across: Scale
) -> Plot | None:
    """How late this client's event loop was, and its garbage collections, on the time axis of the run.

    Args:
        lag: Stretches of time: begin, length, and the highest delay in them, nanoseconds.
        pauses: Moment and length of each collection, nanoseconds.
        across: `time_scale` of the run.
    """
    width = max((across.high - across.low) / _COLUMNS, max((span / _NS for _, span, _ in lag), default=0.0))
    delays = _highest([(at / _NS, delay / _MS) for at, _, delay in lag], across, width)
    collections = _highest([(at / _NS, pause / _MS) for at, pause in pauses], across, width)
    if not delays and not collections:
        return None
    longest, pause = (max((value for _, value in each), default=0.0) for each in (delays, collections))
    up = linear(0, max(longest, pause, 1.0), 3)
    marks = columns(across, up, ((at, at + width, value) for at, value in delays), "other")
    marks += columns(across, up, ((at, at + width / 3, value) for at, value in collections), "alarm")
    return Plot(
        "client",
        "This client over the run",
        f"Highest delay of the event loop {milliseconds(longest)}; {len(pauses):,} long garbage collections, at most "
        f"{milliseconds(pause)}.",
        Axis(across, "seconds of the run"),
        Axis(up, "delay of this client, ms"),
        marks,
        "strip",
        is_in_time=True,
    )


def rates_over_time(requests: Sequence[Moments], across: Scale) -> Plot | None:
    """Output tokens a second and requests under way, by when they came."""
    width = (across.high - across.low) / 60
    if width <= 0:
        return None
    tokens = _tokens_by_time(requests, across, width)
    if not any(value for _, value in tokens):
        return None
    up = linear(0, max(value for _, value in tokens))
    marks = columns(across, up, ((at, at + width, value) for at, value in tokens), "accent")
    mean = sum(value for _, value in tokens) / len(tokens)
    return Plot(
        "rate",
        "Output over the run",
        f"Output tokens a second, taken evenly between the first and the last read of each answer; {number(mean)} on "
        "average.",
        Axis(across, "seconds of the run"),
        Axis(up, "output tokens/s"),
        marks + level(up, mean, "percentile"),
        "strip",
        is_in_time=True,
    )


def timeline(requests: Sequence[Moments], whole: Scale | None, which: str = "") -> Plot | None:
    """Requests as bars: waiting here, waiting for the first token, streaming. Those of a row came one after another.

    Args:
        requests: Of any outcome; of many, the first are shown.
        whole: The time axis to use when all are shown. `None` makes one of its own.
        which: Words for a part of the run that they are.
    """
    due = sorted((each for each in requests if each.end is not None), key=lambda each: (each.scheduled, each.number))
    if not due:
        return None
    rows_of, lanes = _rows(due[:_BARS_OF_TIMELINE])
    shown = due[: min(_BARS_OF_TIMELINE, max(_FEWEST_BARS, _BARS_OF_A_ROW * lanes))]
    is_all = len(shown) == len(due) and whole is not None
    across = whole if is_all and whole is not None else time_scale(shown, shown[0].scheduled)
    height = SIZE / min(lanes, _LANES)
    spans: dict[str, list[tuple[float, float, float]]] = {"wait": [], "first": [], "accent": [], "alarm": []}
    for row, request in zip(rows_of, shown):
        for kind, begin, end in _phases(request) if row < _LANES else ():
            spans[kind].append((begin / _NS, end / _NS, (row + 0.1) * height))
    said = (
        f"all {len(due):,} requests" if len(shown) == len(due) else f"the first {len(shown):,} of {len(due):,} requests"
    )
    said += (f", {which}" if which else "") + (f", {_LANES} of {lanes:,} rows" if lanes > _LANES else "")
    return Plot(
        "timeline",
        "Timeline of requests",
        f"{said[0].upper()}{said[1:]}; those of a row came one after another.",
        Axis(across, "seconds of the run"),
        Axis(Scale(0, 1), said),
        "".join(rows(across, spans[kind], height * 0.8, kind) for kind in spans),
        "tall" if lanes > 8 else "strip",
        is_in_time=is_all,
    )


def thinned(points: Sequence[tuple[float, float]], across: Scale) -> list[tuple[float, float]]:
    """At most about `_POINTS` of them: of each stretch of time the lowest, the highest, and even steps between."""
    if len(points) <= _POINTS:
        return list(points)
    kept = []
    most = _POINTS // _COLUMNS
    for _, group in groupby(sorted(points), key=lambda point: int(across.place(point[0]) * _COLUMNS / SIZE)):
        ordered = sorted(group, key=lambda point: point[1])
        count = min(most, len(ordered))
        kept += [ordered[round(step * (len(ordered) - 1) / max(1, count - 1))] for step in range(count)]
    return kept


def _highest(points: Iterable[tuple[float, float]], across: Scale, width: float) -> list[tuple[float, float]]:
    """The highest of each stretch of time, where it begins."""
    highest: dict[int, float] = {}
    for at, value in points:
        if across.low - width <= at <= across.high:
            place = max(0, int((at - across.low) / width))
            highest[place] = max(highest.get(place, 0.0), value)
    return [(across.low + place * width, value) for place, value in sorted(highest.items())]


def _tokens_by_time(requests: Iterable[Moments], across: Scale, width: float) -> list[tuple[float, float]]:
    """Rates in equal stretches of time."""
    sums = [0.0] * 60
    for request in requests:
        first, last, tokens = request.first_output, request.last_content, request.output_tokens
        if first is None or last is None or not tokens:
            continue
        begin, end = first / _NS, last / _NS
        low, high = (min(59, max(0, int((at - across.low) / width))) for at in (begin, end))
        if low == high:
            sums[low] += tokens
            continue
        for place in range(low, high + 1):
            left, right = across.low + place * width, across.low + (place + 1) * width
            sums[place] += tokens * max(0.0, min(right, end) - max(left, begin)) / (end - begin)
    return [(across.low + place * width, total / width) for place, total in enumerate(sums)]


def _rows(requests: Iterable[Moments]) -> tuple[list[int], int]:
    """A row for each request, the uppermost that is free when it is due; and how many rows there are."""
    chosen: list[int] = []
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    lanes = 0
    for request in requests:
        while busy and busy[0][0] <= request.scheduled:
            heappush(free, heappop(busy)[1])
        if free:
            row = heappop(free)
        else:
            row, lanes = lanes, lanes + 1
        chosen.append(row)
        heappush(busy, (request.end or request.scheduled, row))
    return chosen, lanes


def _phases(request: Moments) -> Iterable[tuple[str, int, int]]:
    """What a request did from when to when, in nanoseconds."""
    end = request.end
    if end is None:
        return
    began = request.scheduled if request.dispatched is None else request.dispatched
    if began > request.scheduled:
        yield "wait", request.scheduled, began
    if request.outcome != "completed":
        yield "alarm", began, end
        return
    first = end if request.first_output is None else request.first_output
    yield "first", began, first
    if end > first:
        yield "accent", first, end


def _range(points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return "of none"
    values = [value for _, value in points]
    return f"from {milliseconds(min(values))} to {milliseconds(max(values))}"
