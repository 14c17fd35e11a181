"""How ``penstock demo`` looks: lines that appear when something happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DisconnectedError, ModelEngineError, type_name
from ..exchange import CallContext
from ..redact import MASK
from ..types import StreamSummary
from .output import Output
from .report import describe_usage, duration, output_rate

if TYPE_CHECKING:
    from tenacity import RetryCallState

_INDENT = 15  # columns before what is said: two, and the name of the part that says it
_WIDTH = 79


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that the demo claims, and whether it is so."""

    text: str
    holds: bool


class Story:
    """Tells what happens, when it happens."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._context: CallContext | None = None
        self._has_answer = False
        self._speaker = ""
        self._column = 0

    def begin(self, url: str, steps: int, prompt: str) -> None:
        out = self._out
        self.line(f"{out.bold('penstock demo')}: one streamed answer through a gateway that fails twice")
        self.line()
        self._say("gateway", f"{url}, on this machine, follows a script of {steps} steps")
        self._say("call", f'stream_call("{prompt}")')

    def key(self, request: Any) -> None:
        """Inside of Idempotency: once for the call."""
        self._context = request.context
        self._say("Idempotency", f"key {request.context.idempotency_key}, one for all attempts")

    def attempt(self, request: Any) -> None:
        """Inside of Auth: once for each attempt, after Retry's wait."""
        context: CallContext = request.context
        if context.attempts and (ended := context.attempts[-1].ended) is not None:
            self.line(f" and waited {duration(context.clock.monotonic() - ended)}")
        self._has_answer = False
        self.line()
        self.line(self._out.bold(f"attempt {len(context.attempts) + 1}"))
        header = request.headers.get("Authorization")
        self._say("Auth", f"Authorization: {masked(header)}" if header else "sends no key")

    def head(self, reply: Any) -> None:
        """Inside of Classify: the answer as it came, whatever its status."""
        self._has_answer = True
        hint = reply.headers.get("retry-after")
        told = f", Retry-After: {hint}" if hint else f", {reply.headers.get('content-type', 'no content type')}"
        colour = self._out.green if reply.status < 400 else self._out.red
        self._say("gateway", colour(f"HTTP {reply.status}") + self._out.foreign(told))

    def verdict(self, error: ModelEngineError) -> None:
        """Outside of Classify: the failure as a typed error."""
        if self._has_answer:
            self._say("Classify", self._named(error) + self._out.dim(f" (advice: {error.advice})"))
            return
        # Without an answer there was nothing to classify: the transport has named the failure.
        if isinstance(error, DisconnectedError):
            self._say("gateway", self._out.red("dropped the connection") + " without a byte of an answer")
        self._say("transport", self._named(error))

    def decision(self, state: RetryCallState) -> None:
        """Retry has decided to send again, and is about to wait."""
        assert state.outcome is not None
        assert state.next_action is not None
        assert self._context is not None
        error = state.outcome.exception()
        is_unsure = isinstance(error, ModelEngineError) and error.phase == "no_answer"
        if is_unsure and self._context.idempotency_key is not None:
            self._say("Retry", "the request may have run: its key makes it safe to send again")
        why, wait = self._context.attempts[-1].why, state.next_action.sleep
        self._say("Retry", f"{why}; waits {duration(wait)} ...", is_open=True)

    def text(self, speaker: str, text: str | None) -> None:
        """A piece of the stream, shown at once and wrapped between words."""
        if not text:
            return
        if speaker != self._speaker:
            if self._speaker:
                self.line()
            self._speaker, self._column = speaker, _INDENT
            self._write(self._name(speaker))
            text = text.lstrip()
        if self._column + len(text) > _WIDTH:
            self._write(f"\n{' ' * _INDENT}")
            self._column, text = _INDENT, text.lstrip()
        self._column += len(text)
        shown = self._out.foreign(text)
        self._write(self._out.dim(shown) if speaker == "reasoning" else shown)

    def measures(self, summary: StreamSummary) -> None:
        self.line()
        self.line()
        self._say("parser", f"{summary.chunks} chunks from {summary.bytes:,} bytes in {summary.reads} reads")
        if summary.usage is not None:
            self._say("usage", f"{describe_usage(summary.usage)}; {summary.usage_provenance} by the gateway")
        first, rate = summary.first_event, output_rate(summary)
        if summary.time_to_first_event is not None and first is not None and rate is not None:
            own = duration(first - summary.attempts[-1].started)
            whole = duration(summary.time_to_first_event)
            self._say("timing", f"first token {own} into attempt {len(summary.attempts)}, {whole} into the call")
            self._say("", f"{rate:.1f} tokens/s")

    def promises(self, promises: Sequence[Promise]) -> None:
        out = self._out
        kept, broken = ("✓", "✗") if out.is_unicode else ("ok", "NO")
        self.line()
        self.line(out.bold("held against the gateway's own books"))
        for promise in promises:
            mark = out.green(kept) if promise.holds else out.red(broken)
            self.line(f"  {mark} {promise.text}")
        self.line()

    def _named(self, error: ModelEngineError) -> str:
        return self._out.foreign(f"{type_name(error)}: {error.message}")

    def line(self, text: str = "") -> None:
        self._out.line(text)

    def _say(self, speaker: str, text: str, *, is_open: bool = False) -> None:
        self._write(self._name(speaker) + text + ("" if is_open else "\n"))

    def _name(self, speaker: str) -> str:
        return f"  {self._out.cyan(speaker)}{' ' * (_INDENT - 2 - len(speaker))}"

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def masked(value: str) -> str:
    """An API key, or a header with one, as it may be shown: the scheme and the first 8 characters."""
    scheme, space, key = value.rpartition(" ")
    return f"{scheme}{space}{key[:8]}{MASK}"
