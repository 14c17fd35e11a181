"""What became of a call: lines for a person, an object for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ModelEngineError, type_name
from ..types import Attempt, LLMResponse, StreamSummary, UsageInfo


@dataclass(frozen=True, slots=True)
class CallReport:
    """A call that is over.

    Times are seconds; what a unary call cannot know is `None`.

    Args:
        started: Monotonic time at which the call was made; the times of attempts are counted from it.
        duration: From the call to its end, retries included.
        output_rate: Tokens per second, see `output_rate`.
        chunks: Chunks received, `reads` the socket reads that gave any, `bytes` the bytes of the body.
        error: Why it failed. `None` when it did not.
    """

    verdict: str | None
    started: float
    duration: float
    usage: UsageInfo | None = None
    usage_provenance: str = "absent"
    finish_reason: str | None = None
    time_to_first_event: float | None = None
    time_to_first_content: float | None = None
    output_rate: float | None = None
    chunks: int | None = None
    reads: int | None = None
    bytes: int | None = None
    request_id: str | None = None
    gateway_request_id: str | None = None
    idempotency_key: str | None = None
    attempts: Sequence[Attempt] = ()
    error: ModelEngineError | None = None

    @classmethod
    def of_stream(
        cls, summary: StreamSummary, started: float, ended: float, error: ModelEngineError | None = None
    ) -> CallReport:
        started = summary.started or started
        first_content = summary.first_content
        return cls(
            summary.verdict,
            started,
            ended - started,
            usage=summary.usage,
            usage_provenance=summary.usage_provenance,
            finish_reason=summary.finish_reason,
            time_to_first_event=summary.time_to_first_event,
            time_to_first_content=None if first_content is None else first_content - started,
            output_rate=output_rate(summary),
            chunks=summary.chunks,
            reads=summary.reads,
            bytes=summary.bytes,
            request_id=summary.request_id,
            gateway_request_id=summary.gateway_request_id,
            idempotency_key=summary.idempotency_key,
            attempts=summary.attempts,
            error=error,
        )

    @classmethod
    def of_response(cls, response: LLMResponse, started: float, ended: float) -> CallReport:
        replayed = response.governance is not None and response.governance.replayed
        return cls(
            "filtered" if response.finish_reason == "content_filter" else "complete",
            started,
            ended - started,
            usage=response.usage,
            usage_provenance="absent" if response.usage is None else "replayed" if replayed else "reported",
            finish_reason=response.finish_reason,
            request_id=response.request_id,
            gateway_request_id=response.gateway_request_id,
            idempotency_key=response.idempotency_key,
            attempts=response.attempts,
        )

    @classmethod
    def of_failure(cls, error: ModelEngineError, started: float, ended: float) -> CallReport:
        return cls(
            "errored",
            started,
            ended - started,
            gateway_request_id=error.request_id,
            idempotency_key=error.idempotency_key,
            attempts=error.attempts,
            error=error,
        )

    def lines(self) -> list[str]:
        """For a person: verdict, usage, timing, attempts."""
        lines = [_row("verdict", _verdict(self.verdict, self.finish_reason)), _row("usage", self._usage())]
        lines.append(_row("timing", ", ".join(self._timing())))
        lines.append(_row("attempts", str(len(self.attempts))))
        lines += [f"  {attempt.number}  {describe_attempt(attempt)}" for attempt in self.attempts]
        return lines

    def to_json(self) -> dict[str, Any]:
        """For a program. Every field is always there; `None` where it is not known."""
        return {
            "verdict": self.verdict,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "usage_provenance": self.usage_provenance,
            "duration_s": self.duration,
            "time_to_first_event_s": self.time_to_first_event,
            "time_to_first_content_s": self.time_to_first_content,
            "output_tokens_per_s": self.output_rate,
            "chunks": self.chunks,
            "reads": self.reads,
            "bytes": self.bytes,
            "request_id": self.request_id,
            "gateway_request_id": self.gateway_request_id,
            "idempotency_key": self.idempotency_key,
            "attempts": [self._attempt_to_json(attempt) for attempt in self.attempts],
            "error": None if self.error is None else _error_to_json(self.error),
        }

    def _usage(self) -> str:
        if self.usage is None:
            return "absent"
        return f"{describe_usage(self.usage)} ({self.usage_provenance})"

    def _timing(self) -> list[str]:
        parts = []
        if self.time_to_first_event is not None:
            parts.append(f"first token after {duration(self.time_to_first_event)}")
        if self.time_to_first_content not in (None, self.time_to_first_event):
            parts.append(f"first text after {duration(self.time_to_first_content or 0.0)}")
        if self.output_rate is not None:
            parts.append(f"{self.output_rate:.1f} tokens/s")
        return [*parts, f"{duration(self.duration)} in all"]

    def _attempt_to_json(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "number": attempt.number,
            "started_s": attempt.started - self.started,
            "ended_s": None if attempt.ended is None else attempt.ended - self.started,
            "status": attempt.status,
            "request_id": attempt.request_id,
            "error": attempt.error,
            "phase": attempt.phase,
            "wait_s": attempt.wait,
            "why": attempt.why,
            "possibly_duplicated": attempt.possibly_duplicated,
        }


def output_rate(summary: StreamSummary) -> float | None:
    """Output tokens per second while they came: those after the first chunk, over the time from the first chunk to
    the last.

    `None` without reported usage, and when everything came at one moment.
    """
    if summary.usage is None or summary.first_event is None or summary.last_event is None:
        return None
    tokens, span = summary.usage.output_tokens - 1, summary.last_event - summary.first_event
    return tokens / span if tokens > 0 and span > 0 else None


def describe_usage(usage: UsageInfo) -> str:
    """Tokens in one line."""
    output = f"{usage.output_tokens} out"
    if usage.reasoning_tokens:
        output += f", {usage.reasoning_tokens} of them reasoning"
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    return f"{usage.input_tokens} tokens in{cached}; {output}"


def describe_attempt(attempt: Attempt) -> str:
    """What came of one request, and what was done about it, in one line."""
    where = {"not_sent": "not sent", "no_answer": "no answer"}.get(attempt.phase or "", "no status")
    text = where if attempt.status is None else f"HTTP {attempt.status}"
    if attempt.error is not None:
        text += f", {attempt.error}"
    if attempt.wait is not None:
        return f"{text}: {attempt.why}, waited {duration(attempt.wait)}"
    return f"{text}: {attempt.why}" if attempt.why else text


def duration(seconds: float) -> str:
    """Seconds with three digits, below one second as milliseconds."""
    return (
        f"{seconds * 1000:.3g} ms"
        if seconds < 0.9995
        else f"{seconds:.3g} s"
        if seconds < 999.5
        else f"{seconds:.0f} s"
    )


def _row(name: str, value: str) -> str:
    return f"{name:<9} {value}"


def _verdict(verdict: str | None, finish_reason: str | None) -> str:
    return f"{verdict} (finish reason {finish_reason})" if finish_reason else str(verdict)


def _error_to_json(error: ModelEngineError) -> dict[str, Any]:
    return {
        "class": type_name(error),
        "message": error.message,
        "status": error.status,
        "code": error.code,
        "type": error.type,
        "param": error.param,
        "phase": error.phase,
        "advice": error.advice,
        "retry_after_s": error.retry_after,
        "request_id": error.request_id,
    }
