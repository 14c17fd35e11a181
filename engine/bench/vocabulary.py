"""Our own words: every figure with its definition, which is printed beside it."""

from __future__ import annotations

from .definitions import (
    GapDefinition,
    RequestDefinition,
    RunDefinition,
    Vocabulary,
    all_tokens,
    between,
    completed,
    output_tokens,
    over_tokens,
    rate,
)
from .measured import Measured
from .moments import Moments


def _mean_gap(moments: Moments) -> float | None:
    span = moments.output_span
    return None if span is None or moments.content_reads < 2 else span / (moments.content_reads - 1)


def _good_share(measured: Measured) -> float | None:
    return None if measured.good is None or not measured.tried else measured.good / measured.tried


def _failed_share(measured: Measured) -> float | None:
    return len(measured.failed) / measured.tried if measured.tried else None


def _in_flight(measured: Measured) -> float | None:
    if measured.duration_s <= 0:
        return None
    return sum(measured.times_in_flight()) / 1e9 / measured.duration_s


PENSTOCK = Vocabulary(
    "penstock",
    "Penstock",
    requests=(
        RequestDefinition(
            "ttft",
            "Time to first token",
            "ms",
            "from due to the first read with output, reasoning or answer; a role is none",
            of=between("scheduled", "first_output"),
        ),
        RequestDefinition(
            "ttft_sent",
            "First token after sending",
            "ms",
            "from written to the first read with output: without the wait in this client",
            of=between("sent", "first_output"),
        ),
        RequestDefinition(
            "ttfa",
            "Time to first answer",
            "ms",
            "from due to the first read with output that is no reasoning",
            of=between("scheduled", "first_content"),
        ),
        RequestDefinition(
            "tpot",
            "Time per output token",
            "ms",
            "(last - first read with output) / (output tokens - 1); 1 token has none",
            of=over_tokens(between("first_output", "last_content"), 1),
        ),
        RequestDefinition(
            "latency",
            "Latency",
            "ms",
            "from due to the end of the answer",
            of=between("scheduled", "end"),
        ),
        RequestDefinition(
            "mean_gap",
            "Mean gap of a request",
            "ms",
            "(last - first read with output) / (reads with output - 1)",
            of=_mean_gap,
        ),
        RequestDefinition(
            "longest_gap",
            "Longest gap of a request",
            "ms",
            "longest time between two reads with output after one another",
            of=lambda moments: moments.longest_gap,
        ),
        RequestDefinition(
            "queued",
            "Wait in this client",
            "ms",
            "from due to when its task ran; part of ttft and latency",
            of=between("scheduled", "dispatched"),
        ),
        RequestDefinition(
            "head",
            "Time to headers",
            "ms",
            "from written to when status line and headers were read",
            of=between("sent", "head"),
        ),
        RequestDefinition(
            "input_tokens",
            "Input tokens of a request",
            "tokens",
            "as the gateway reports them",
            None,
            of=lambda moments: moments.input_tokens,
        ),
        RequestDefinition(
            "output_tokens",
            "Output tokens of a request",
            "tokens",
            "as the gateway reports them, reasoning among them; else events with output",
            None,
            of=lambda moments: moments.output_tokens,
        ),
    ),
    gaps=(
        GapDefinition(
            "gap",
            "Gap between reads",
            "ms",
            "between two reads with output after one another, of all requests together",
        ),
    ),
    runs=(
        RunDefinition(
            "duration",
            "Duration",
            "s",
            "from when the first request was due to the end of the last, tail included",
            None,
            of=lambda measured: measured.duration_s,
        ),
        rate(
            "request_rate",
            "Requests",
            "requests/s",
            "completed requests / duration",
            completed,
        ),
        rate(
            "output_rate",
            "Output tokens",
            "tokens/s",
            "output tokens of completed requests / duration",
            output_tokens,
        ),
        rate(
            "token_rate",
            "Tokens in and out",
            "tokens/s",
            "input and output tokens of completed requests / duration",
            all_tokens,
        ),
        rate(
            "goodput",
            "Goodput",
            "requests/s",
            "completed requests that meet every objective / duration",
            lambda measured: measured.good,
        ),
        RunDefinition(
            "good_share",
            "Good requests",
            "share",
            "completed ones that meet every objective / (completed + failed)",
            "more",
            of=_good_share,
        ),
        RunDefinition(
            "error_share",
            "Failed requests",
            "share",
            "failed / (completed + failed); failed ones are in no time and no rate",
            of=_failed_share,
        ),
        RunDefinition(
            "in_flight",
            "Requests at a time",
            "requests",
            "mean number of requests under way over the duration",
            None,
            of=_in_flight,
        ),
    ),
    notes=("Due: when the schedule asks for it; in a closed loop, when its lane was free.",),
    brief=("request_rate", "output_rate", "goodput", "ttft", "ttft_sent", "tpot", "gap", "latency", "queued"),
)
"""Our own words."""
