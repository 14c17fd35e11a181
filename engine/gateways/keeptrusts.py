"""Keeptrusts: OpenAI's format behind a proxy whose policies answer 409.

The gateway is closed; statuses and bodies are those of the vendor's page on policy blocks. How a block of an answer
ends a stream that has begun is not published: an error frame, a finish reason ``content_filter`` and a silent end are
all errors here, and carry the text that had come.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict, cast

from ..errors import (
    Advice,
    BudgetExceededError,
    EscalationRequiredError,
    InvalidRequestError,
    ModelEngineError,
    PolicyBlockedError,
    ProviderError,
    RateLimitError,
)
from ..exchange import StreamDecoder
from ..types import Governance, LLMResponseChunk, UsageInfo
from ..verdict import Answer, Complaint, snippet
from .openai import OpenAICompatibleGateway

if TYPE_CHECKING:
    from ..event_decoder import Pattern


class Violation(TypedDict, total=False):
    """The member ``error`` of a block, as the vendor documents it."""

    type: str
    message: str
    policy: str
    code: str


class KeeptrustsGateway(OpenAICompatibleGateway):
    """A Keeptrusts gateway; its key is a gateway key (``kt_gk_...``).

    A block is final: sent again, the same prompt is refused again, and each refusal is an event in the audit trail.
    What was blocked stands in ``error.governance``: ``extra["policy"]`` and ``extra["stage"]`` (``"input"`` or
    ``"output"``, where the code tells). Redactions change the text of an answer, and nothing marks them.
    """

    name = "keeptrusts"
    base_url = "http://localhost:41002"

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        return _FilteredStream(super().stream_decoder(head))

    def judge(self, answer: Answer) -> ModelEngineError:
        return _governed(super().judge(answer))

    def judge_event(self, complaint: Complaint) -> ModelEngineError:
        return _governed(super().judge_event(complaint))

    def verdict(self, status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        if complaint.type == "policy_violation" or complaint.code in _BLOCKS:
            return _BLOCKS.get(complaint.code, PolicyBlockedError), None
        if status in (None, 409) and complaint.type in _BY_TYPE:
            return _BY_TYPE[complaint.type]
        if status == 409 and not _NO_BLOCK.search(f"{complaint.type} {complaint.code}"):
            return PolicyBlockedError, None  # of a policy that we do not know
        error_class, advice = super().verdict(status, complaint)
        return error_class, "once" if error_class is ProviderError else advice


_BLOCKS: dict[str | None, type[ModelEngineError]] = {
    "input_blocked": PolicyBlockedError,
    "output_blocked": PolicyBlockedError,
    "budget_exceeded": BudgetExceededError,
    "escalation_required": EscalationRequiredError,
}

_STAGES = {"input_blocked": "input", "output_blocked": "output"}

# Where the status does not tell: in a stream, and at 409
_BY_TYPE: dict[str | None, tuple[type[ModelEngineError], Advice | None]] = {
    "validation_error": (InvalidRequestError, None),
    "rate_limit": (RateLimitError, None),
    "upstream_error": (ProviderError, "once"),
}

_NO_BLOCK = re.compile("conflict|idempoten", re.IGNORECASE)


class _FilteredStream:
    """Makes an error of a stream that a content filter ended. A `StreamDecoder` around another one.

    The error comes at the end of the stream: the counts that follow the finish reason belong to the answer.
    """

    def __init__(self, decoder: StreamDecoder) -> None:
        self.failure: ModelEngineError | None = None
        self.finished = False
        self.governance: Governance | None = None
        self._decoder = decoder
        self._is_filtered = False

    @property
    def usage(self) -> UsageInfo | None:
        return self._decoder.usage

    @property
    def pattern(self) -> Pattern | None:
        return self._decoder.pattern  # it has no finish reason

    def feed(self, data: bytes) -> list[LLMResponseChunk]:
        chunks = self._decoder.feed(data)
        self._is_filtered = self._is_filtered or any(chunk.finish_reason == "content_filter" for chunk in chunks)
        self._settle(at_end=self._decoder.finished)
        return chunks

    def abort(self) -> list[LLMResponseChunk]:
        chunks = self._decoder.abort()
        self._settle(at_end=True)  # what has been told is told, however the connection ends
        return chunks

    def close(self) -> list[LLMResponseChunk]:
        chunks = self._decoder.close()
        self._settle(at_end=True)
        return chunks

    def _settle(self, *, at_end: bool) -> None:
        self.failure = self.failure or self._decoder.failure
        if at_end and self._is_filtered and self.failure is None:
            self.failure = PolicyBlockedError(
                "the answer was blocked: a content filter ended the stream",
                code="content_filter",
                governance=Governance(decision="blocked", block_reason="content_filter", extra={"stage": "output"}),
            )
        self.finished = self._decoder.finished and self.failure is None


def _governed(error: ModelEngineError) -> ModelEngineError:
    """Puts the record on a block, and makes it final whatever ``x-should-retry`` a proxy on the way has written."""
    if isinstance(error, (PolicyBlockedError, BudgetExceededError)):
        violation = _violation(error.body)
        stage, policy = _STAGES.get(violation.get("code", "")), violation.get("policy")
        extra = {"policy": policy, "stage": stage}
        error.governance = Governance(
            decision="blocked",
            block_reason=violation.get("message"),
            extra={name: value for name, value in extra.items() if value is not None},
        )
        error.advice = "never"
    return error


def _violation(body: Any) -> Violation:
    """The members of a block that are there and are text, each as one line."""
    facts = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(facts, dict):
        return Violation()
    members = {name: facts.get(name) for name in Violation.__annotations__}
    return cast("Violation", {name: snippet(value) for name, value in members.items() if isinstance(value, str)})
