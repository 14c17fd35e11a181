"""What has to be known to read the figures of a stage. A remark that says that this client was the limit, or that there
is nothing to measure, makes it one that does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .loads import Closed
from .measured import Measured
from .recording import StageRecord
from .trust import findings

Weight = Literal["fatal", "caution", "note"]
"""``fatal``: the run does not count. ``caution``: some figures mean less than they seem. ``note``: good to know."""

_GRAVEST_FIRST: tuple[Weight, ...] = ("fatal", "caution", "note")
_ENDINGS = {
    "stopped": "The run was stopped before its end.",
    "dead": "The run was stopped: request after request failed.",
    "overrun": "The run was stopped: requests waited too long for a place under the cap.",
    "lost": "The run was stopped: a process of it was lost.",
}
_FEW = 100  # requests, for a 99th percentile
_MANY = 0.01  # of requests that failed
_MANY_OPENED = 0.1  # of measured requests that opened a connection
_CLOCKS = 0.01  # of the duration, which has the error of the clocks in it
_MANY_AT_ONCE = 0.1  # of the answers with several tokens, that came in one read
_IDLE = 0.8  # of the lanes of a closed loop


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to know about a stage.

    Args:
        code: For programs.
        weight: What it does to the figures.
        text: One sentence.
    """

    code: str
    weight: Weight
    text: str

    @property
    def is_fatal(self) -> bool:
        return self.weight == "fatal"

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "weight": self.weight, "text": self.text}


def remarks_on(record: StageRecord, measured: Measured) -> tuple[Remark, ...]:
    """What has to be said of a stage, the gravest first.

    Args:
        record: The stage.
        measured: Its requests, without the warm-up.
    """
    remarks = [
        *_on_completion(record, measured),
        *_on_client(record),
        *_on_clocks(record, measured),
        *_on_lanes(record, measured),
        *_on_numbers(measured),
    ]
    return tuple(sorted(remarks, key=lambda remark: _GRAVEST_FIRST.index(remark.weight)))


def _on_completion(record: StageRecord, measured: Measured) -> Iterator[Remark]:
    if not measured.completed:
        yield Remark("nothing_completed", "fatal", "No request was completed, so there is nothing to measure.")
    if record.ending in _ENDINGS:
        yield Remark(record.ending, "caution", _ENDINGS[record.ending])
    if cut := len(measured.unfinished):
        text = f"{_requests(cut)} cut off at the end, long answers more often than short ones: latencies look too good."
        yield Remark("unfinished", "caution", text)
    if unsent := len(measured.unsent):
        text = f"{_requests(unsent)} due and not sent when the run was over; their waiting is in no figure."
        yield Remark("unsent", "caution", text)
    if failed := len(measured.failed):
        share = failed / measured.tried
        text = f"{failed:,} of {measured.tried:,} requests failed; they are in no time and no rate."
        yield Remark("failures", "caution" if share > _MANY else "note", text)


def _on_client(record: StageRecord) -> Iterator[Remark]:
    for finding in findings(record):
        if finding.is_exceeded:
            is_client = finding.kind == "client"
            text = f"{finding.text[0].upper()}{finding.text[1:]}."
            yield Remark(finding.name, "fatal" if is_client else "caution", text)


def _on_clocks(record: StageRecord, measured: Measured) -> Iterator[Remark]:
    if (error := max((client.clock_error for client in record.clients), default=0)) > 0:
        text = f"The clocks of the machines were compared to ±{error / 1e6:.2f} ms: the time axis and the duration are "
        text += "right to that, and each time of a request is by one clock."
        yield Remark("clocks", "caution" if error / 1e9 > _CLOCKS * measured.duration_s else "note", text)


def _on_lanes(record: StageRecord, measured: Measured) -> Iterator[Remark]:
    load = record.stage.load
    if not isinstance(load, Closed) or len(measured.completed) < 4 * load.concurrency or measured.duration_s <= 0:
        return  # of few requests the most are beginning and tail
    at_a_time = sum(measured.times_in_flight()) / 1e9 / measured.duration_s
    if at_a_time < _IDLE * load.concurrency:
        text = f"Asked for were {load.concurrency:,} at a time; on average {at_a_time:,.3g} were under way."
        yield Remark("below_concurrency", "caution", text)


def _on_numbers(measured: Measured) -> Iterator[Remark]:
    completed = len(measured.completed)
    if 0 < completed < _FEW:
        text = f"{completed} completed requests are few: their 99th percentile is about their highest value."
        yield Remark("few_requests", "note", text)
    if by_events := measured.tokens_from.get("events", 0):
        which = (
            "Output tokens" if by_events == completed else f"Output tokens of {by_events:,} of {completed:,} requests"
        )
        text = f"{which} are counts of events with output, because the gateway reported no usage."
        yield Remark("tokens_by_events", "caution", text)
    several = [each for each in measured.completed if (each.output_tokens or 0) > 1]
    at_once = sum(each.content_reads == 1 for each in several)
    if at_once > _MANY_AT_ONCE * len(several):
        text = f"{at_once:,} of {len(several):,} answers with several tokens came in one read, as from a gateway that "
        text += "collects them: they have no gap, and their tpot is 0."
        yield Remark("one_read", "caution", text)
    opened = sum(request.new_connection is True for request in measured.completed)
    if opened > _MANY_OPENED * completed:
        text = f"{opened:,} measured requests opened a connection; the time for it is in ttft and latency."
        yield Remark("new_connections", "note", text)


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count:,} requests were"
