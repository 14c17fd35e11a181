"""What only a governing gateway does to a request: steps that each dialect words in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal

from .answers import OWN_ANSWER, Answer, Headers, check_not_negative

Cause = Literal["policy", "budget", "pii", "security", "safety", "model_not_allowed", "input", "output", "escalation"]
"""Why a gateway blocks. No gateway knows them all; `Gateway.script()` refuses one that its dialect lacks."""

When = Literal["before", "in_stream"]


@dataclass(frozen=True, slots=True)
class Block:
    """The gateway's policy stops the request, or its answer.

    A gateway that honours idempotency keys keeps the block and replays it.

    Args:
        when: `"in_stream"` ends a stream with an error after so many events; an answer that is not
            streamed is blocked as before.
        reason: Why, in words.
        message, code, status: Put in place of what the dialect usually says; `None` is that.
        findings: What was found, such as `"EMAIL"` (Modelgov, Atrium).
        details: More members of the envelope: Modelgov's `details`, elsewhere beside the message, such as
            Keeptrusts' `policy`.
        executed: Whether the model ran; `None` says so for `"output"` and `"in_stream"`.
        done: `[DONE]` after the error in a stream; `None` does as the gateway does.
        of: The answer that a stream begins.
    """

    kind: ClassVar[str] = "block"

    cause: Cause = "policy"
    _: KW_ONLY
    when: When = "before"
    after_events: int = 2
    reason: str | None = None
    message: str | None = None
    code: str | None = None
    status: int | None = None
    findings: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    executed: bool | None = None
    headers: Headers = field(default_factory=dict)
    done: bool | None = None
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)

    @property
    def runs_model(self) -> bool:
        if self.executed is None:
            return self.cause == "output" or self.when == "in_stream"
        return self.executed


@dataclass(frozen=True, slots=True)
class ProviderError:
    """The provider behind the gateway fails, and the gateway says so in its own way.

    Args:
        status: What the provider answered; `None` when it did not answer.
        message: What the provider said.
        provider: Its name, as OmniGate spells it.
        when: `"in_stream"` ends a stream with an error after so many events; an answer that is not
            streamed fails as before.
        done: `[DONE]` after the error in a stream; `None` does as the gateway does.
        times: So many requests in a row fail like this.
        of: The answer that a stream begins.
    """

    kind: ClassVar[str] = "provider_error"

    status: int | None = 500
    _: KW_ONLY
    message: str = "upstream failed"
    provider: str = "OpenAI"
    when: When = "before"
    after_events: int = 2
    headers: Headers = field(default_factory=dict)
    done: bool | None = None
    times: int = 1
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError(f"provider_error() takes a status from 400 to 599, not {self.status}")
        if self.times < 1:
            raise ValueError(f"provider_error() happens at least once, not {self.times} times")


@dataclass(frozen=True, slots=True)
class InProgress:
    """The request's idempotency key is in use: 409 `idempotency_in_progress`, for so many requests in a row."""

    kind: ClassVar[str] = "in_progress"

    _: KW_ONLY
    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"in_progress() happens at least once, not {self.times} times")


@dataclass(frozen=True, slots=True)
class ReplayWithoutContent:
    """A replay, marked as one, that brings ids and usage back and not the text."""

    kind: ClassVar[str] = "replay_without_content"

    _: KW_ONLY
    of: Answer = OWN_ANSWER
