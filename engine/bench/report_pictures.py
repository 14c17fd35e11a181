"""The pictures of a report: which there are for a run, and the legends under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .charts import against_load, distribution, distribution_scale
from .document import Document
from .figures import Figures
from .load_words import load_number, load_words, stage_words
from .plot import Plot
from .time_charts import client_over_time, latency_over_time, rates_over_time, time_scale, timeline
from .vocabulary import PENSTOCK

_SPREAD = (("ttft", "Time to first token"), ("tpot", "Time per output token"), ("latency", "Latency"))


@dataclass(frozen=True, slots=True)
class Picture:
    """Plots that belong together, with a heading and what their marks mean.

    Args:
        title: Its heading.
        plots: At least one.
        legend: Of each kind of mark: classes of the sign, text.
        caption: A sentence on how to read it.
    """

    title: str
    plots: tuple[Plot, ...]
    legend: tuple[tuple[str, str], ...] = ()
    caption: str = ""

    def html(self) -> str:
        """As HTML."""
        items = "".join(f'<li><i class="{sign}"></i>{escape(text)}</li>' for sign, text in self.legend)
        legend = f'<ul class="legend">{items}</ul>' if items else ""
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        plots = "".join(plot.html() for plot in self.plots)
        return f"<figure><h3>{escape(self.title)}</h3>{legend}{plots}{caption}</figure>"


def pictures_over_time(document: Document) -> list[Picture]:
    """What happened when, on one axis of time."""
    records = [record for record in document.recording.stages if not record.stage.is_warm_up]
    requests = [each for record in records for each in record.requests if not each.is_warm_up]
    if not requests:
        return []
    across = time_scale(requests, min(each.scheduled for each in requests))
    borders = [record.began for record in records[1:]]
    lags = [client.lag for record in records for client in record.clients]
    pauses = [(at, length) for lag in lags for at, length, _ in lag.longest_pauses]
    outcomes = {each.outcome for each in requests}
    collected = (("alarm", "garbage collection"),) if pauses else ()
    broken = (("alarm", "failed or cut off"),) if outcomes - {"completed", "unsent"} else ()
    failed = (("dot alarm", "failed"),) if "failed" in outcomes else ()
    part = requests if len(records) == 1 else [each for each in records[-1].requests if not each.is_warm_up]
    which = "" if len(records) == 1 else stage_words(records[-1].stage)
    return [
        *_picture(
            "Latency",
            [latency_over_time(requests, across, borders)],
            (("dot accent", "first token"), ("dot other", "end of the answer"), *failed),
            "One dot for each request, where it was due; of very many some are left out, never the extremes."
            + (" An upright line is where a stage begins." if borders else ""),
        ),
        *_picture(
            "This client, at the same time",
            [client_over_time([(each.at, each.span, each.worst) for lag in lags for each in lag.bins], pauses, across)],
            (("other", "latest of the event loop"), *collected),
            "Where this is high, the latency above it is partly the client's.",
        ),
        *_picture("Output", [rates_over_time(requests, across)], (), "Dashed: the mean."),
        *_picture(
            "Requests",
            [timeline(part, None if which else across, which)],
            (
                ("wait", "waits in this client"),
                ("first", "waits for the first token"),
                ("accent", "streams"),
                *broken,
            ),
        ),
    ]


def pictures_of_distributions(document: Document) -> list[Picture]:
    """How the times of requests are spread, a plot for each stage, on one axis."""
    records = [record for record in document.recording.stages if not record.stage.is_warm_up]
    pictures = []
    for name, title in _SPREAD:
        values = [
            (
                stage_words(record.stage),
                PENSTOCK.find(name).values(
                    [each for each in record.requests if each.outcome == "completed" and not each.is_warm_up]
                ),
            )
            for record in records
        ]
        across = distribution_scale(value for _, each in values for value in each)
        plots = [
            distribution(f"{name}-{place}", title, each, across, label if len(values) > 1 else "")
            for place, (label, each) in enumerate(values)
        ]
        pictures += _picture(title, plots)
    return pictures


def pictures_of_load(document: Document, figures: Figures) -> list[Picture]:
    """Throughput, goodput and times of the stages of a sweep."""
    swept = [(number, stage) for stage in figures.stages if (number := load_number(stage.stage.load)) is not None]
    swept.sort(key=lambda each: each[0])
    if len(swept) < 2 or len({type(stage.stage.load) for _, stage in swept}) > 1:
        return []
    loads = [(number, load_words(stage.stage.load)) for number, stage in swept]
    stages = [stage for _, stage in swept]
    throughput = against_load(
        "throughput",
        "Throughput against load",
        "output tokens/s",
        loads,
        [("output tokens/s", "accent", [stage.values["output_rate"] for stage in stages])],
    )
    requests = [("requests/s", "other", [stage.values["request_rate"] for stage in stages])]
    if document.slos:
        requests.append(("good requests/s", "accent dashed", [stage.values["goodput"] for stage in stages]))
    goodput = against_load("goodput", "Requests and goodput against load", "requests/s", loads, requests)
    times = against_load(
        "times",
        "Times against load",
        "ms",
        loads,
        [
            ("latency p50", "other", [stage.value("latency", "p50") for stage in stages]),
            ("first token p99", "accent dashed", [stage.value("ttft", "p99") for stage in stages]),
            ("first token p50", "accent", [stage.value("ttft", "p50") for stage in stages]),
        ],
        is_log=True,
    )
    objectives = ", ".join(str(slo) for slo in document.slos)
    return [
        *_picture("Throughput", [throughput]),
        *_picture(
            "Requests" + (" and goodput" if document.slos else ""),
            [goodput],
            (("stroke other", "requests/s"), ("stroke dash accent", "those that meet the objectives"))
            if document.slos
            else (),
            f"Objectives: {objectives}." if objectives else "",
        ),
        *_picture(
            "Times",
            [times],
            (
                ("stroke accent", "first token p50"),
                ("stroke dash accent", "first token p99"),
                ("stroke other", "latency p50"),
            ),
        ),
    ]


def _picture(
    title: str, plots: Sequence[Plot | None], legend: tuple[tuple[str, str], ...] = (), caption: str = ""
) -> list[Picture]:
    shown = tuple(plot for plot in plots if plot is not None)
    return [Picture(title, shown, legend, caption)] if shown else []
