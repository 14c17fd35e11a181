"""The words of other tools, so that their numbers can be put beside ours. Read in their sources: guidellm 0.8.1,
aiperf 0.13.0, vLLM's ``bench serve`` of November 2026.

They differ in where the clock starts (none of them counts from when a request was due), what the first token is, and
what is divided by what.
"""

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
from .histogram import Histogram
from .measured import Measured
from .moments import Moments
from .vocabulary import PENSTOCK


def _vllm_gaps(measured: Measured) -> Histogram:
    """Between chunks, not reads, and of every kind: a role's and a finish reason's make gaps too."""
    gaps = Histogram.sum([measured.gaps])
    for request in measured.completed:
        if within := request.content_events - request.content_reads:
            gaps.record(0, within)
        first, last = request.first_output, request.last_content
        if first is None or last is None or request.first_event is None or request.last_event is None:
            continue
        if request.first_event < first:
            gaps.record(first - request.first_event)
        if request.last_event > last:
            gaps.record(request.last_event - last)
    return gaps


def _chunk_gaps(measured: Measured) -> Histogram:
    """Between chunks with output; those of one read are at no distance."""
    gaps = Histogram.sum([measured.gaps])
    if within := sum(request.content_events - request.content_reads for request in measured.completed):
        gaps.record(0, within)
    return gaps


def _second_after_first(moments: Moments) -> float | None:
    """Chunks of one read are at no distance."""
    if moments.first_read_events > 1:
        return 0
    return between("first_output", "second_content")(moments)


_GOODPUT = rate(
    "goodput",
    "Goodput",
    "requests/s",
    "requests that meet every objective, by Penstock's definitions, / duration",
    lambda measured: measured.good,
)
_DURATION = RunDefinition(
    "duration",
    "Duration",
    "s",
    "from the first request to the end of the last, tail included",
    None,
    of=lambda measured: measured.duration_s,
)

VLLM = Vocabulary(
    "vllm",
    "vLLM bench serve",
    requests=(
        RequestDefinition(
            "ttft",
            "TTFT",
            "ms",
            "from before the POST to the first chunk with choices, also a role without text",
            of=between("dispatched", "first_event"),
        ),
        RequestDefinition(
            "tpot",
            "TPOT",
            "ms",
            "(latency - TTFT) / (output tokens - 1), requests of 1 token left out",
            of=over_tokens(between("first_event", "last_event"), 1),
        ),
        RequestDefinition(
            "e2el",
            "E2EL",
            "ms",
            "from before the POST to the last chunk",
            of=between("dispatched", "last_event"),
        ),
        RequestDefinition(
            "queued",
            "Client-side queueing",
            "ms",
            "from due to before the POST; in no other time",
            of=between("scheduled", "dispatched"),
        ),
    ),
    gaps=(
        GapDefinition(
            "itl",
            "ITL",
            "ms",
            "between chunks with choices, pooled; role and finish chunks make gaps too",
            of=_vllm_gaps,
        ),
    ),
    runs=(
        _DURATION,
        rate(
            "request_rate",
            "Request throughput",
            "requests/s",
            "successful requests / duration",
            completed,
        ),
        rate(
            "output_rate",
            "Output token throughput",
            "tokens/s",
            "output tokens / duration",
            output_tokens,
        ),
        rate(
            "token_rate",
            "Total token throughput",
            "tokens/s",
            "input and output tokens / duration",
            all_tokens,
        ),
        _GOODPUT,
    ),
    notes=(
        "vLLM counts tokens by usage, else with a tokenizer; here by usage, else by events.",
        "The last chunk is here the last event of any kind, a usage chunk among them.",
        "Chunks that one read brought are at no distance from each other.",
    ),
)
"""``vllm bench serve``."""

GUIDELLM = Vocabulary(
    "guidellm",
    "guidellm",
    requests=(
        RequestDefinition(
            "request_latency",
            "Request latency",
            "ms",
            "from just before the call to the end of the answer",
            of=between("dispatched", "end"),
        ),
        RequestDefinition(
            "ttft",
            "TTFT",
            "ms",
            "from just before the call to the first iteration with text, reasoning included",
            of=between("dispatched", "first_output"),
        ),
        RequestDefinition(
            "ttfot",
            "TTFOT",
            "ms",
            "from just before the call to the first iteration with text that is no reasoning",
            of=between("dispatched", "first_content"),
        ),
        RequestDefinition(
            "itl",
            "ITL",
            "ms",
            "(last token - first token) / (output tokens - 1), one mean for each request",
            of=over_tokens(between("first_output", "last_content"), 1),
        ),
        RequestDefinition(
            "tpot",
            "TPOT",
            "ms",
            "(last token - request start) / output tokens; it contains TTFT",
            of=over_tokens(between("dispatched", "last_content"), 0),
        ),
        RequestDefinition(
            "dispatch_delay",
            "Request dispatch delay",
            "ms",
            "from due to just before the call; in no other time",
            of=between("scheduled", "dispatched"),
        ),
    ),
    gaps=(),
    runs=(
        _DURATION,
        rate(
            "request_rate",
            "Requests per second",
            "requests/s",
            "completed requests / duration",
            completed,
        ),
        rate(
            "output_rate",
            "Output tokens per second",
            "tokens/s",
            "output tokens / duration",
            output_tokens,
        ),
        rate(
            "token_rate",
            "Total tokens per second",
            "tokens/s",
            "input and output tokens / duration",
            all_tokens,
        ),
        _GOODPUT,
    ),
    notes=(
        "guidellm takes tokens per second from iterations in its window; here all / duration.",
        "guidellm counts tokens by the server's usage, else by stream iterations; here likewise.",
    ),
)
"""guidellm."""

AIPERF = Vocabulary(
    "aiperf",
    "AIPerf",
    requests=(
        RequestDefinition(
            "ttft",
            "Time to First Token",
            "ms",
            "from before the call to the first chunk with content, reasoning included",
            of=between("dispatched", "first_output"),
        ),
        RequestDefinition(
            "ttst",
            "Time to Second Token",
            "ms",
            "from the first chunk with content to the second",
            of=_second_after_first,
        ),
        RequestDefinition(
            "ttfot",
            "Time to First Output Token",
            "ms",
            "from before the call to the first chunk with content that is no reasoning",
            of=between("dispatched", "first_content"),
        ),
        RequestDefinition(
            "request_latency",
            "Request Latency",
            "ms",
            "from before the call to the last chunk with content, not the finish or usage",
            of=between("dispatched", "last_content"),
        ),
        RequestDefinition(
            "itl",
            "Inter Token Latency",
            "ms",
            "(request latency - TTFT) / (output tokens - 1)",
            of=over_tokens(between("first_output", "last_content"), 1),
        ),
        RequestDefinition(
            "effective_latency",
            "Effective Latency",
            "ms",
            "from due to the last chunk with content",
            of=between("scheduled", "last_content"),
        ),
    ),
    gaps=(
        GapDefinition(
            "icl",
            "Inter Chunk Latency",
            "ms",
            "between chunks with content, of all requests together",
            of=_chunk_gaps,
        ),
    ),
    runs=(
        _DURATION,
        rate(
            "request_rate",
            "Request Throughput",
            "requests/s",
            "completed requests / duration",
            completed,
        ),
        rate(
            "output_rate",
            "Output Token Throughput",
            "tokens/s",
            "output tokens / duration",
            output_tokens,
        ),
        _GOODPUT,
    ),
    notes=(
        "AIPerf counts tokens with a tokenizer unless told otherwise; here by usage, else events.",
        "Chunks that one read brought are at no distance from each other.",
    ),
)
"""AIPerf, and so GenAI-Perf, which it follows."""

VOCABULARIES = {each.name: each for each in (PENSTOCK, VLLM, GUIDELLM, AIPERF)}
"""By the name ``--as`` has for it."""
