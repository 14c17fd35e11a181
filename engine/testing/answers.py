"""What the model answers, and what the gateway says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal, TypedDict

import orjson

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
"""Response headers; pairs instead of a mapping where a name has to come twice."""

Chunking = Literal["event", "whole"] | int
"""How a body is cut into writes: one per event, one for all that is due, or so many bytes each."""

Encoding = Literal["gzip", "deflate"]
"""How a body is compressed (RFC 9110 section 8.4.1)."""


class GovernanceFacts(TypedDict, total=False):
    """What a governing gateway states about an answer, in place of what it usually states.

    A dialect says those it has a word for, in its own place: a header, or a member of the body.
    `None` leaves a header out, and is null in a body. For a value that no well-behaved gateway
    sends, write the header yourself (`answer(headers=...)`) or the whole body (`fail(200, body=...)`).

    decision: The gateway's word for it, such as `"degrade"` (Modelgov) or `"redacted"` (Atrium).
    reason, reason_code: Why it was not simply allowed (Modelgov; the code in explanations only).
    audit_id: Id of the entry in the audit trail (Modelgov's `requestId`, Atrium).
    provider, model: Who answered (Modelgov, OmniGate; Atrium has no model).
    redactions: Kinds of data that were masked (Atrium; Modelgov says only that there were some).
    pii_detected: Whether personal data was seen (Atrium).
    incidents: Security incidents (Atrium).
    cost: In US dollars (Modelgov, OmniGate) or rupiah (Atrium).
    budget_remaining: By the gateway's names of its budgets (Modelgov).
    latency_ms: Milliseconds, as the gateway measured them (Atrium, OmniGate).
    cached, fallback: The answer came from a cache, or from another model (OmniGate).
    grounded: The answer was verified against the passages of the request (Modelgov).
    """

    decision: str | None
    reason: str | None
    reason_code: str | None
    audit_id: str | None
    provider: str | None
    model: str | None
    redactions: Sequence[str]
    pii_detected: bool
    incidents: Sequence[str]
    cost: float | None
    budget_remaining: Mapping[str, Any] | None
    latency_ms: float | None
    cached: bool
    fallback: bool
    grounded: bool


def check_not_negative(**numbers: float | None) -> None:
    """Raise `ValueError` for the first number below zero, or that is none (NaN)."""
    for name, number in numbers.items():
        if number is not None and not number >= 0:
            raise ValueError(f"{name} cannot be negative, and is {number}")


def check_can_be_sent(**values: Any) -> None:
    """Raise `TypeError` for the first value that cannot be written as JSON."""
    for name, value in values.items():
        try:
            orjson.dumps(dict(value) if isinstance(value, Mapping) else value)
        except orjson.JSONEncodeError as error:
            raise TypeError(f"{name} cannot be sent as JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool.

    `arguments` is sent as JSON text, as it is on the wire; a string is taken as that text, be it
    valid or not. `id` is made up when `None`.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    _: KW_ONLY
    id: str | None = None

    def __post_init__(self) -> None:
        check_can_be_sent(arguments=self.arguments)

    @property
    def arguments_text(self) -> str:
        if isinstance(self.arguments, str):
            return self.arguments
        return orjson.dumps(dict(self.arguments)).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answers: as JSON or as a stream, as the request asks.

    With no `content`, `pieces`, `reasoning`, `tool_calls` or `refusal` the pretend model answers by
    itself; as soon as one of them is given, they are the whole answer.

    Args:
        content: The text; `None` is sent as null.
        reasoning: Sent before the text, in the member `reasoning_field`.
        tool_calls: Streamed in fragments of their argument text. `tool_index=False` leaves out the
            `index` that tells the calls of one message apart.
        refusal: The text of a refusal.
        finish_reason: `"auto"` follows from the answer; `None` is sent as null to the end.
        usage: `"counted"` counts words; a mapping is sent as it is; `None` leaves usage out.
        usage_on: Where a stream carries usage. `"own_frame"` is a frame with empty `choices`, sent
            only when the request asks for usage; the other two do not ask.
        pieces: How a stream cuts the text; `None` cuts it in words.
        ttft_s: Seconds between the response head and the first event.
        delay_s: Seconds between two deltas, by the clock: a late delta does not delay the next. An
            answer that is not streamed takes as long as the stream would.
        jitter_s: Each pause of a stream is drawn evenly from itself less this to itself plus this, and is
            never below 0. What is drawn follows from the gateway's seed and the number of the request.
        slow_terminator_s: Seconds between the last event and the end of the body.
        chunking: How the body is cut into writes.
        comments: Comment lines before the first event.
        azure_first_frame: Begin with Azure's frame of filter results, which has no choices.
        line_end: Ends every line of the event stream.
        encoding: Compresses the body and says so. Each write of a stream can be read as soon as it is there.
            Where a step cuts a body by bytes, it counts those before compression.
        form: `"asked"` streams when a stream is asked for; the other two do not care what is asked for.
        governance: What the gateway states about the answer, in place of what it usually states.
        headers: Added to the response head, or put in place of the gateway's own.
    """

    kind: ClassVar[str] = "answer"

    content: str | None = None
    _: KW_ONLY
    reasoning: str | None = None
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    tool_calls: Sequence[ToolCall] = ()
    tool_index: bool = True
    refusal: str | None = None
    finish_reason: str | None = "auto"
    usage: Mapping[str, Any] | Literal["counted"] | None = "counted"
    usage_on: Literal["own_frame", "finish_frame", "every_frame"] = "own_frame"
    pieces: Sequence[str] | None = None
    ttft_s: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    slow_terminator_s: float = 0.0
    chunking: Chunking = "event"
    comments: Sequence[str] = ()
    azure_first_frame: bool = False
    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    encoding: Encoding | None = None
    form: Literal["asked", "stream", "whole"] = "asked"
    governance: GovernanceFacts = field(default_factory=GovernanceFacts)
    headers: Headers = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_not_negative(
            ttft_s=self.ttft_s, delay_s=self.delay_s, jitter_s=self.jitter_s, slow_terminator_s=self.slow_terminator_s
        )
        if self.pieces is not None:
            joined = "".join(self.pieces)
            if self.content is not None and self.content != joined:
                raise ValueError(f"pieces make up {joined!r}, which is not the content {self.content!r}")
            object.__setattr__(self, "content", joined)
        if isinstance(self.chunking, int) and self.chunking < 1:
            raise ValueError(f"chunking is at least 1 byte a write, not {self.chunking}")
        check_can_be_sent(content=self.content, reasoning=self.reasoning, refusal=self.refusal, usage=self.usage)
        unknown = set(self.governance) - set(GovernanceFacts.__annotations__)
        if unknown:
            raise ValueError(
                f"no gateway states {', '.join(sorted(unknown))}; see GovernanceFacts for what can be said"
            )

    @property
    def is_open(self) -> bool:
        """Whether what to say is left to the pretend model."""
        return self.content is None and self.reasoning is None and not self.tool_calls and self.refusal is None


OWN_ANSWER = Answer()
"""What the pretend model says by itself."""
