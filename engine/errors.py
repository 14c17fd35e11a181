"""Every failure a call can have, as one tree.

Branches follow *who has to act and whether trying again helps*, not the status code:

    ModelEngineError
    ├── ConfigurationError               the program is set up wrongly; raised at construction
    │   ├── MiddlewareOrderError         a stack whose order cannot work
    │   └── EngineOnlyError              a middleware or option that needs the engine, used without it
    ├── EngineStateError                 the engine or stream is not in a state to be used
    │   ├── EngineNotStartedError        start() has not been called
    │   ├── EngineClosedError            stop() has been called
    │   ├── WrongEventLoopError          used from another event loop than it was started on
    │   ├── ForkedProcessError           used in another process than it was started in
    │   └── StreamConsumedError          a stream was iterated twice, or after it was closed
    ├── InvalidRequestError              the request is wrong; sending it again cannot help
    │   ├── ContextWindowExceededError   more tokens than the model takes
    │   └── UnsupportedParameterError    a parameter this model or gateway does not know
    ├── AuthenticationError              no key, or one that is not accepted
    ├── PermissionDeniedError            the key is accepted and may not do this
    ├── NotFoundError                    no such model or path
    ├── ConflictError                    in conflict with the state of the server
    ├── QuotaExceededError               used up; waiting seconds does not help
    │   └── BudgetExceededError          a governed budget is used up
    ├── RateLimitError                   too fast; waiting helps
    ├── CircuitOpenError                 held back by our own circuit breaker; nothing was sent
    ├── CassetteError                    a recording cannot be read or written
    │   └── CassetteMismatchError        nothing recorded answers this request
    ├── BatchError                       a batch cannot go on, or one of its rows cannot be sent
    │   ├── BadRowError                  a row is not what a row is
    │   ├── DuplicateRowError            the input has the same id twice
    │   ├── InputChangedError            a row differs from the one that the journal has under its id
    │   ├── RowsInDoubtError             rows were in flight when a run died, and no key protects them
    │   ├── JournalError                 the journal cannot be used
    │   │   ├── JournalLockedError       another run writes to it
    │   │   ├── JournalVersionError      written by another version
    │   │   ├── JournalDamagedError      not a journal, or a damaged one
    │   │   └── JournalWriteError        it cannot be written: disk full, an I/O error
    │   ├── InputError                   the input cannot be read
    │   ├── OutputError                  results cannot be written
    │   ├── WorkerLostError              a worker went away before the answer came
    │   └── NoWorkersError               no worker could be had
    ├── BenchDocumentError               what a bench run is kept in cannot be read or written
    ├── PolicyBlockedError               refused by a policy; final
    │   ├── PIIBlockedError              personal data in prompt or answer
    │   ├── SecurityBlockedError         prompt injection, jailbreak, other security rule
    │   ├── SafetyBlockedError           a safety filter
    │   ├── ModelNotAllowedError         this model is not allowed for this caller
    │   └── EscalationRequiredError      a human has to approve
    ├── IdempotencyError                 the idempotency key was refused
    │   ├── IdempotencyKeyReuseError     the key was used with another body
    │   ├── IdempotencyInProgressError   the first request with this key still runs
    │   ├── IdempotencyNotSupportedError this operation takes no key
    │   └── ReplayedWithoutContentError  a replay whose text was not kept by the gateway
    ├── ServerError                      the gateway failed
    │   ├── OverloadedError              the gateway or model has no capacity now
    │   ├── ProviderError                the provider behind the gateway failed
    │   └── RequestTimeoutError          the server said 408 or 504: *its* clock ran out
    ├── TransportError                   the connection failed
    │   ├── ConnectError                 no connection could be made; nothing was sent
    │   │   └── TLSError                 the TLS handshake was refused; final
    │   ├── DisconnectedError            the connection was lost
    │   ├── ProtocolError                what came is not HTTP
    │   └── RedirectError                the gateway redirected; redirects are not followed
    ├── ClockError                       one of our clocks ran out (a TimeoutError too)
    │   ├── QueueTimeoutError            waiting for a slot
    │   ├── ConnectTimeoutError          connecting; nothing was sent
    │   ├── WriteTimeoutError            the gateway does not read the request
    │   ├── FirstEventTimeoutError       silence before the first event
    │   ├── IdleTimeoutError             silence between two reads
    │   ├── ProgressTimeoutError         bytes kept coming, content did not
    │   └── DeadlineExceededError        the time for the whole call is used up
    ├── MalformedResponseError           an answer that is not what it says it is
    │   └── EmptyResponseError           a success without an answer in it
    ├── StreamTruncatedError             a stream ended without its terminal mark
    └── ResponseTooLargeError            more bytes than we agreed to hold
        └── EventTooLargeError           one event of a stream is too large

Every class takes the same arguments, pickles, and carries fields for handlers: nobody has to parse a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from .types import Attempt, Governance, LLMResponse

__all__ = [
    "Advice",
    "AuthenticationError",
    "BadRowError",
    "BatchError",
    "BenchDocumentError",
    "BudgetExceededError",
    "CassetteError",
    "CassetteMismatchError",
    "CircuitOpenError",
    "ClockError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "ConnectTimeoutError",
    "ContextWindowExceededError",
    "DeadlineExceededError",
    "DisconnectedError",
    "DuplicateRowError",
    "EmptyResponseError",
    "EngineClosedError",
    "EngineNotStartedError",
    "EngineOnlyError",
    "EngineStateError",
    "EscalationRequiredError",
    "EventTooLargeError",
    "FirstEventTimeoutError",
    "ForkedProcessError",
    "IdempotencyError",
    "IdempotencyInProgressError",
    "IdempotencyKeyReuseError",
    "IdempotencyNotSupportedError",
    "IdleTimeoutError",
    "InputChangedError",
    "InputError",
    "InvalidRequestError",
    "JournalDamagedError",
    "JournalError",
    "JournalLockedError",
    "JournalVersionError",
    "JournalWriteError",
    "MalformedResponseError",
    "MiddlewareOrderError",
    "ModelEngineError",
    "ModelNotAllowedError",
    "NoWorkersError",
    "NotFoundError",
    "OutputError",
    "OverloadedError",
    "PIIBlockedError",
    "PermissionDeniedError",
    "Phase",
    "PolicyBlockedError",
    "ProgressTimeoutError",
    "ProtocolError",
    "ProviderError",
    "QueueTimeoutError",
    "QuotaExceededError",
    "RateLimitError",
    "RedirectError",
    "ReplayedWithoutContentError",
    "RequestTimeoutError",
    "ResponseTooLargeError",
    "RowsInDoubtError",
    "SafetyBlockedError",
    "SecurityBlockedError",
    "ServerError",
    "StreamConsumedError",
    "StreamTruncatedError",
    "TLSError",
    "TransportError",
    "UnsupportedParameterError",
    "WorkerLostError",
    "WriteTimeoutError",
    "WrongEventLoopError",
]

Phase = Literal["not_sent", "no_answer", "rejected", "before_output", "after_output"]
"""How far the failed request got.

``not_sent``: not one byte left. ``no_answer``: sent, no status line came back, so it may have run. ``rejected``: an
error status came. ``before_output``: a success status came, no output. ``after_output``: output was received.
"""

Advice = Literal["never", "now", "after", "once", "keyed", "wait_in_progress", "refresh_auth", "reroute"]
"""What would help.

``never``: sending this again cannot succeed. ``now``: send again. ``after``: send again after a wait. ``once``: the
same, but a second failure of the kind is final. ``keyed``: as ``after``, but only with an idempotency key or where
running it twice does no harm, since it may have run. ``wait_in_progress``: the first request still runs; ask again
with the same key. ``refresh_auth``: with a fresh credential. ``reroute``: elsewhere.
"""


class ModelEngineError(Exception):
    """A call failed, or could not be made.

    Args:
        message: What happened, in one line, without any secret.
        model_name: The model asked for. `None` where no model is involved.
        status: HTTP status of the answer; of an error inside a success the status that its type or code stands for.
            `None` when there was none, or when it stands for none.
        code: The gateway's machine-readable code (``error.code``), as text.
        type: The gateway's error type (``error.type``).
        param: The request member at fault (``error.param``).
        request_id: The gateway's id of this request, for its operators.
        gateway: Name of the dialect spoken, for instance ``"nim"``.
        governance: What the gateway decided and why. `None` where it says nothing.
        retry_after: Seconds the gateway asks to wait. `None` when it does not say.
        headers: Response headers, names in lower case, cookies left out.
        body: The error body: decoded JSON, or text of at most 64 KiB; of a malformed answer its first 1,000
            characters. `None` when there was none.
        phase: How far the request got, see `Phase`.
        advice: What would help, see `Advice`. `None` takes the default of the class.
        attempts: The ledger: one `Attempt` for each request sent for this call.
        idempotency_key: The key the request carried. `None` when it carried none.
        partial: What had arrived, when the failure came after output.
    """

    default_advice: ClassVar[Advice] = "never"
    remedy: ClassVar[str] = ""
    """What a person can do, appended to the text of the error. Where it is ``""`` the message itself says it."""

    def __init__(
        self,
        message: str = "",
        model_name: str | None = None,
        status: int | None = None,
        *,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        gateway: str | None = None,
        governance: Governance | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        phase: Phase | None = None,
        advice: Advice | None = None,
        attempts: Sequence[Attempt] = (),
        idempotency_key: str | None = None,
        partial: LLMResponse | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model_name = model_name
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.gateway = gateway
        self.governance = governance
        self.retry_after = retry_after
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.body = body
        self.phase: Phase | None = phase
        self.advice: Advice = advice if advice is not None else self.default_advice
        self.attempts: tuple[Attempt, ...] = tuple(attempts)
        self.idempotency_key = idempotency_key
        self.partial = partial
        self.row_id: str | None = None
        """The row of a batch that failed with it. `None` outside of batches."""

    @property
    def status_code(self) -> int | None:
        """`status`, under the name that the openai SDK and httpx use."""
        return self.status

    @property
    def possibly_duplicated(self) -> bool:
        """Whether the request may have run more than once, see `Attempt.possibly_duplicated`."""
        return any(attempt.possibly_duplicated for attempt in self.attempts)

    @property
    def inner_exception(self) -> BaseException | None:
        """The cause, under the name that NeMo Guardrails uses."""
        return self.__cause__

    def __str__(self) -> str:
        message = self.message or "failed without a reason"
        facts = ", ".join(self._facts())
        sentence = f"{message} ({facts})" if facts else message
        return f"{sentence.rstrip('.')}. {self.remedy}" if self.remedy else sentence

    def __repr__(self) -> str:
        return f"<{type_name(self)}: {self}>"

    def _facts(self) -> list[str]:
        facts: list[str] = []
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        if self.gateway is not None:
            facts.append(f"gateway {self.gateway}")
        if self.model_name is not None:
            facts.append(f"model {self.model_name!r}")
        if self.code is not None:
            facts.append(f"code {self.code}")
        if self.request_id is not None:
            facts.append(f"request id {_shown(self.request_id)}")
        if self.row_id is not None:
            facts.append(f"row {self.row_id!r}")
        if self.attempts:
            count = len(self.attempts)
            facts.append(f"after {count} attempt{'' if count == 1 else 's'}")
        if self.retry_after is not None:
            facts.append(f"asked to wait {self.retry_after:g} s")
        return facts


def copied(error: ModelEngineError) -> ModelEngineError:
    """An error like this one, without a traceback: for who keeps an error and raises it.

    The frames of a traceback hold who has raised it, and nobody but the garbage collector would free the two.
    """
    copied = copy(error)
    copied.__cause__ = error.__cause__
    return copied


def _shown(text: str) -> str:
    """A text that a gateway chose, as it can be written to a terminal or a log."""
    return text if text.isprintable() else ascii(text)


def type_name(error: BaseException) -> str:
    """The class name of an error, for ledgers and representations."""
    return type(error).__name__


class ConfigurationError(ModelEngineError, ValueError):
    """The engine, a gateway or a middleware is set up in a way that cannot work."""


class MiddlewareOrderError(ConfigurationError):
    """The middlewares stand in an order that cannot work; the message says what to swap."""


class EngineOnlyError(ConfigurationError):
    """Something that needs the engine was used without it, for instance in a plain aiohttp session."""


class EngineStateError(ModelEngineError):
    """The engine or a stream is not in a state to be used like this."""


class EngineNotStartedError(EngineStateError):
    """The engine has not been started."""

    remedy = "Call `await engine.start()` first, or use `async with`."


class EngineClosedError(EngineStateError):
    """The engine has been stopped."""

    remedy = "Call `await engine.start()` again, or make a new engine."


class WrongEventLoopError(EngineStateError):
    """The engine is used from another event loop than the one it was started on."""

    remedy = "Make one engine per event loop."


class ForkedProcessError(EngineStateError):
    """The engine is used in another process than the one it was started in: its connections belong to the parent."""

    remedy = "Make the engine after the fork, or start worker processes with `spawn`."


class StreamConsumedError(EngineStateError):
    """A stream can be iterated once."""

    remedy = "Keep the chunks, or use `await stream.response()` for the whole answer."


class InvalidRequestError(ModelEngineError):
    """The request is wrong, found by us before sending or by the gateway."""

    remedy = "Change the request; sent again as it is, it fails again."


class ContextWindowExceededError(InvalidRequestError):
    """The prompt and the answer asked for are longer than the model's context window."""

    remedy = "Shorten the messages, lower `max_tokens`, or use a model with a longer context."


class UnsupportedParameterError(InvalidRequestError):
    """The model or gateway does not take one of the parameters; `param` names it where the gateway does."""

    remedy = "Leave the parameter out for this model."


class AuthenticationError(ModelEngineError):
    """No credential was sent, or the gateway does not accept it."""

    default_advice: ClassVar[Advice] = "refresh_auth"
    remedy = "Check the API key and that it belongs to this gateway."


class PermissionDeniedError(ModelEngineError):
    """The credential is valid and is not allowed to do this."""

    remedy = "Use a key that may do this, or have this one allowed to."


class NotFoundError(ModelEngineError):
    """There is no such model, path or object at this gateway."""

    remedy = "Check the model name and the base URL."


class ConflictError(ModelEngineError):
    """The request conflicts with the state of the server, and may pass a moment later."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "Send it again when what holds it up is over."


class QuotaExceededError(ModelEngineError):
    """A quota is used up. Not a throttle: waiting some seconds does not help."""

    remedy = "Raise the quota or wait for its next period; sending again does not help."


class BudgetExceededError(QuotaExceededError):
    """A budget that the gateway governs is used up."""


class RateLimitError(ModelEngineError):
    """Too many requests or tokens in a window of time."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "Wait as long as the gateway asks, or lower the concurrency."


class CircuitOpenError(ModelEngineError):
    """The circuit breaker holds requests back, since too many have failed; nothing was sent."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "Wait `retry_after` seconds; then a probe is let through."


class CassetteError(ModelEngineError):
    """A recording cannot be read or written."""

    remedy = "Check its path, and that nobody else records into it."


class CassetteMismatchError(CassetteError):
    """A replay has nothing recorded for this request, or nothing more; the message shows the nearest recorded one."""

    remedy = "Record it anew if the change is meant."


class BatchError(ModelEngineError):
    """A batch cannot go on, or one of its rows cannot be sent."""

    remedy = "Run it again once the reason is gone; a journal keeps what is done."


class BadRowError(BatchError):
    """A row of the input is not what a row is; nothing was sent for it.

    `param` names its member at fault, `row_id` is its id where that can be read.
    """

    remedy = "Correct the row; the others are not held up by it."
    line: int | None = None
    """Line of the file, from 1. `None` where the row is of no file."""


class DuplicateRowError(BatchError):
    """The input has the same id twice. Nothing was sent for the second."""

    remedy = "Give each row an id of its own, or none."


class InputChangedError(BatchError):
    """A row differs from the one that the journal has under its id, or the journal is of another model or gateway."""

    remedy = "Give the changed row a new id, use a new journal, or say `on_changed='rerun'`."


class RowsInDoubtError(BatchError):
    """Rows were in flight when an earlier run died: they may have run, and no idempotency key protects them."""

    remedy = "Decide with `in_doubt='resend'` or `in_doubt='skip'`."


class JournalError(BatchError):
    """The journal of a batch cannot be used."""

    remedy = "Check its path."


class JournalLockedError(JournalError):
    """Another run writes to the journal."""

    remedy = "Wait until the other run has ended, or give this one a journal of its own."


class JournalVersionError(JournalError):
    """The journal was written by another version of Penstock, in a form that this one does not know."""

    remedy = "Use the version that wrote it, or a new journal."


class JournalDamagedError(JournalError):
    """The file is not a journal, or a damaged one. It was left as it is."""

    remedy = "Restore the file from a copy, or use a new journal."


class JournalWriteError(JournalError):
    """The journal cannot be written: the disk is full, or there was an I/O error. What was committed is kept."""

    remedy = "Make room or repair the disk, and run the batch again: it goes on where it stopped."


class InputError(BatchError):
    """The input cannot be read, or was changed while it was read."""

    remedy = "Check the file, and run the batch again: a journal keeps what is done."


class OutputError(BatchError):
    """Results cannot be written where they were to go."""

    remedy = "Check the path and the room on the disk; with a journal nothing has to be sent again."


class WorkerLostError(BatchError):
    """A worker died or went away before the answer came: the row may have run."""

    default_advice: ClassVar[Advice] = "keyed"
    remedy = "Look into the log of the worker's machine; the row is sent again where that is safe."


class NoWorkersError(BatchError):
    """No worker could be had within the time for it; nothing was sent."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "Check that the cluster has room for the workers, and run the batch again."


class BenchDocumentError(ModelEngineError):
    """The document of a bench run, or what is made of it, cannot be read or written."""

    remedy = "Check the path, and that the file is a JSON document of `penstock bench`."


class PolicyBlockedError(ModelEngineError):
    """A policy of the gateway refused the prompt or the answer."""

    remedy = "The decision is final for this content; change the request."


class PIIBlockedError(PolicyBlockedError):
    """Blocked for personal data."""


class SecurityBlockedError(PolicyBlockedError):
    """Blocked by a security rule: prompt injection, jailbreak or the like."""


class SafetyBlockedError(PolicyBlockedError):
    """Blocked by a safety filter."""


class ModelNotAllowedError(PolicyBlockedError):
    """The policy does not allow this model for this caller."""

    remedy = "Ask for a model the policy allows."


class EscalationRequiredError(PolicyBlockedError):
    """The policy wants a person to approve this request."""

    remedy = "Have the request approved at the gateway."


class IdempotencyError(ModelEngineError):
    """The gateway refused the idempotency key."""

    remedy = "Check the idempotency key."


class IdempotencyKeyReuseError(IdempotencyError):
    """The key was already used with another body."""

    remedy = "Use a new idempotency key for a new request."


class IdempotencyInProgressError(IdempotencyError):
    """The first request with this key is still running; its answer can be had by asking again with the same key."""

    default_advice: ClassVar[Advice] = "wait_in_progress"
    remedy = "Ask again later with the same key; a new key would run the request twice."


class IdempotencyNotSupportedError(IdempotencyError):
    """This operation takes no idempotency key at this gateway."""

    remedy = "Leave the idempotency key out for this operation."


class ReplayedWithoutContentError(IdempotencyError):
    """The request ran before, and the gateway replays its answer without the text, which it did not keep."""

    remedy = "The request was executed once; its text is gone. Send it with a new key to have it generated again."


class ServerError(ModelEngineError):
    """The gateway failed."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "If it lasts, tell the operators of the gateway."


class OverloadedError(ServerError):
    """The gateway or the model has no capacity now."""

    remedy = "Try again later, or lower the concurrency."


class ProviderError(ServerError):
    """The provider behind the gateway failed."""


class RequestTimeoutError(ServerError):
    """The server's own clock ran out (408, 504)."""

    remedy = "Ask for a shorter answer, or stream it."


class TransportError(ModelEngineError):
    """The connection to the gateway failed."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "Check the network between here and the gateway."


class ConnectError(TransportError):
    """No connection could be made; nothing was sent."""

    remedy = "Check the base URL and that the gateway is running."


class TLSError(ConnectError):
    """The TLS handshake failed. Sending again cannot help."""

    default_advice: ClassVar[Advice] = "never"
    remedy = "Check the certificate, the host name and the CA bundle of the session."


class DisconnectedError(TransportError):
    """The connection was lost before the answer was complete."""

    remedy = "Check the network between here and the gateway; `phase` tells whether the request may have run."


class ProtocolError(TransportError):
    """The bytes that came are not a valid HTTP response."""

    default_advice: ClassVar[Advice] = "never"
    remedy = "Check that the base URL leads to an HTTP server."


class RedirectError(TransportError):
    """The gateway answered with a redirect. A redirect would send prompt and credentials elsewhere: not followed."""

    default_advice: ClassVar[Advice] = "never"
    remedy = "Set the base URL to the address the gateway redirects to, if you trust it."


class ClockError(ModelEngineError, asyncio.TimeoutError):  # until Python 3.10 not the built-in one
    """One of the clocks of `Timeouts` ran out.

    An `asyncio.TimeoutError` too, which from Python 3.11 on is the built-in `TimeoutError`.
    """

    default_advice: ClassVar[Advice] = "after"
    remedy = "Raise the clock in `Timeouts`."


class QueueTimeoutError(ClockError):
    """No slot became free in time; nothing was sent."""

    remedy = "Lower the concurrency, or raise `Timeouts.queue`."


class ConnectTimeoutError(ClockError):
    """No connection was made in time; nothing was sent."""

    remedy = "Check the base URL, or raise `Timeouts.connect`."


class WriteTimeoutError(ClockError):
    """The gateway stopped reading the request for too long."""

    remedy = "Raise `Timeouts.write` if the way to the gateway is that slow."


class FirstEventTimeoutError(ClockError):
    """Nothing came in time after the request was sent."""

    remedy = "Raise `Timeouts.first_event` if the model needs longer to start."


class IdleTimeoutError(ClockError):
    """The stream or body fell silent for too long."""

    remedy = "Raise `Timeouts.idle` if such pauses are expected."


class ProgressTimeoutError(ClockError):
    """Bytes kept coming, but no content for too long."""

    remedy = "Raise `Timeouts.progress`, or set it to `None`."


class DeadlineExceededError(ClockError):
    """The time for the whole call, over all attempts, is used up."""

    default_advice: ClassVar[Advice] = "never"
    remedy = "Raise `Timeouts.deadline` if the call may take longer."


class MalformedResponseError(ModelEngineError):
    """The answer is not what it says it is: not JSON, HTML in a success, members of the wrong type."""

    remedy = "`body` holds the start of what came."


class EmptyResponseError(MalformedResponseError):
    """A success status came without an answer."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "If it lasts, tell the operators of the gateway."


class StreamTruncatedError(ModelEngineError):
    """The stream ended without its terminal mark; `partial` holds what arrived."""

    default_advice: ClassVar[Advice] = "after"
    remedy = "`partial` holds what arrived; the answer is not complete."


class ResponseTooLargeError(ModelEngineError):
    """The answer is larger than the bound that was set for it."""

    remedy = "Ask for less in one request."


class EventTooLargeError(ResponseTooLargeError):
    """One event of the stream is larger than `max_event_bytes`."""
