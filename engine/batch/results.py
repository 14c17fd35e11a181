"""What became of one row: its answer or its error, and the one JSON line that journals and files keep of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar

import orjson

from .. import errors
from ..errors import JournalDamagedError, ModelEngineError, copied, type_name
from ..gateways import Gateway, OpenAICompatibleGateway
from ..types import Attempt, EmbeddingResponse, Governance, LLMResponse, UsageInfo
from ..verdict import Answer
from .rows import BatchRow

T = TypeVar("T", LLMResponse, EmbeddingResponse)

_OPENAI_FAMILY = OpenAICompatibleGateway()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one row.

    Args:
        row: The row.
        body: The JSON object of the answer as it came. `None` when the row failed.
        error: Why the row failed, for good. `None` when it did not.
        attempts: One `Attempt` for each request sent for it in the run that got the result.
        idempotency_key: The key its requests carried. `None` when they carried none.
        possibly_duplicated: Whether the row may have been executed more than once, with no key known to keep the
            gateway from it: it may have been paid for twice.
        is_from_journal: Whether an earlier run got it, and nothing was sent in this one.
        status: HTTP status of the answer. `None` when there was none.
        request_id: The gateway's id of the request, for its operators.
        governance: What the gateway decided. `None` where it says nothing.
        usage: Token counts. `None` when there are none.
        gateway: What reads `body`. `None` reads it as the OpenAI family does.
        is_kept: Whether the journal has it. Not where there is none, and not of rows that were none or are in doubt.
    """

    row: BatchRow
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    error: ModelEngineError | None = None
    attempts: tuple[Attempt, ...] = field(default=(), repr=False)
    idempotency_key: str | None = None
    possibly_duplicated: bool = False
    is_from_journal: bool = False
    status: int | None = None
    request_id: str | None = None
    governance: Governance | None = field(default=None, repr=False)
    usage: UsageInfo | None = None
    gateway: Gateway | None = field(default=None, repr=False, compare=False)
    is_kept: bool = False

    @property
    def id(self) -> str:
        """The id of the row."""
        return self.row.id

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def response(self) -> LLMResponse:
        """The answer of a chat, decoded anew each time it is asked for.

        Raises:
            ModelEngineError: Why the row failed; or the answer cannot be read as one of a chat.
        """
        answer = self._answer()
        response = (self.gateway or _OPENAI_FAMILY).decode_chat(answer)
        return _with_transfer(response, self)

    @property
    def embeddings(self) -> EmbeddingResponse:
        """The vectors of an embeddings row. Errors as of `response`."""
        answer = self._answer()
        response = (self.gateway or _OPENAI_FAMILY).decode_embeddings(answer)
        return _with_transfer(response, self)

    def line(self) -> bytes:
        """The result as one line of JSON in our shape, without its line end.

        ``{"id", "status", "body", "attempts", ...}``, or ``"error"`` in place of ``"body"``. What is not there is left
        out: ``request_id``, ``usage``, ``idempotency_key``, ``governance``; and ``possibly_duplicated`` unless it is
        true.
        """
        members: dict[str, Any] = {"id": self.row.id}
        if self.status is not None:
            members["status"] = self.status
        if self.error is None:
            members["body"] = self.body
        else:
            members["error"] = _error_members(self.error)
        if self.request_id is not None:
            members["request_id"] = self.request_id
        if self.usage is not None:
            members["usage"] = _present(self.usage)
        members["attempts"] = [_attempt_members(attempt) for attempt in self.attempts]
        if self.idempotency_key is not None:
            members["idempotency_key"] = self.idempotency_key
        if self.possibly_duplicated:
            members["possibly_duplicated"] = True
        if self.governance is not None:
            members["governance"] = _present(self.governance)
        return _encoded(members)

    def openai_line(self) -> bytes:
        """The result as a line of OpenAI's batch output, without its line end."""
        return openai_line(self.line())

    @classmethod
    def of_line(
        cls, line: bytes, row: BatchRow, *, gateway: Gateway | None = None, is_from_journal: bool = True
    ) -> BatchResult:
        """The result that a line of ours tells of.

        Raises:
            JournalDamagedError: It is no such line.
        """
        members = _members(line)
        told, ledger = members.get("error"), members.get("attempts", ())
        decided, counted = members.get("governance"), members.get("usage")
        error = None if told is None else _error(told)
        key: str | None = members.get("idempotency_key")
        attempts = tuple(_attempt(number, entry) for number, entry in enumerate(ledger, 1))
        if error is not None:
            error.attempts, error.idempotency_key = attempts, key
        return cls(
            row,
            members.get("body"),
            error,
            attempts,
            key,
            members.get("possibly_duplicated", False),
            is_from_journal,
            members.get("status"),
            members.get("request_id"),
            None if decided is None else _governance(decided),
            None if counted is None else UsageInfo(**counted),
            gateway,
            is_from_journal,
        )

    def _answer(self) -> Answer:
        if self.error is not None:
            raise copied(self.error)
        headers = {} if self.request_id is None else {"x-request-id": self.request_id}
        return Answer(self.status or 200, headers, orjson.dumps(self.body), 0.0)


def openai_line(line: bytes) -> bytes:
    """A line of ours as a line of OpenAI's batch output (``{"id", "custom_id", "response", "error"}``).

    A failure that the gateway answered has its status and an error body as ``response``, as OpenAI's error files have;
    one without an answer has ``error`` alone. The ``id`` is made of ours, so that it is the same each time.

    Raises:
        JournalDamagedError: It is no line of ours.
    """
    members = _members(line)
    error, status = members.get("error"), members.get("status")
    body = members.get("body")
    if error is not None:
        names = {"message": "message", "type": "gateway_type", "code": "code", "param": "param"}
        body = {"error": {name: error.get(ours) for name, ours in names.items()}}
    answered = {"status_code": status or 200, "request_id": members.get("request_id") or "", "body": body}
    return _encoded(
        {
            "id": f"batch_req_{members['id']}",
            "custom_id": members["id"],
            "response": answered if error is None or status is not None else None,
            "error": None if error is None else {"code": error["type"], "message": error["message"]},
        }
    )


_ERROR_TEXTS = ("code", "param", "gateway", "phase", "advice", "retry_after", "request_id")
_ATTEMPT_TEXTS = ("status", "request_id", "error", "phase", "wait", "why")
_attempt_texts = attrgetter(*_ATTEMPT_TEXTS)


def _error_members(error: ModelEngineError) -> dict[str, Any]:
    """What a line tells of an error. Its headers and its body stay out: they are long, and the texts say it."""
    members: dict[str, Any] = {"type": type_name(error), "message": error.message}
    if error.status is not None:
        members["status"] = error.status
    for name in _ERROR_TEXTS:
        if (value := getattr(error, name)) is not None:
            members[name] = value
    if error.type is not None:
        members["gateway_type"] = error.type
    if error.model_name is not None:
        members["model"] = error.model_name
    return members


def _error(members: Mapping[str, Any]) -> ModelEngineError:
    """The error that its members tell of; of a class that is not known, one of the root's."""
    found = getattr(errors, members["type"], None)
    is_ours = isinstance(found, type) and issubclass(found, ModelEngineError)
    error_class: Any = found if is_ours else ModelEngineError
    told = {name: members[name] for name in _ERROR_TEXTS if name in members}
    error: ModelEngineError = error_class(
        members["message"], members.get("model"), members.get("status"), type=members.get("gateway_type"), **told
    )
    return error


def _attempt_members(attempt: Attempt) -> dict[str, Any]:
    """What a line tells of an attempt. Its moments are of a clock that ends with the process: the seconds remain."""
    members: dict[str, Any] = {}
    if attempt.ended is not None:
        members["seconds"] = round(attempt.ended - attempt.started, 6)
    told = zip(_ATTEMPT_TEXTS, _attempt_texts(attempt))
    members |= {name: value for name, value in told if value is not None}
    if attempt.possibly_duplicated:
        members["possibly_duplicated"] = True
    return members


def _attempt(number: int, members: Mapping[str, Any]) -> Attempt:
    told = {name: members[name] for name in _ATTEMPT_TEXTS if name in members}
    return Attempt(
        number, 0.0, members.get("seconds"), possibly_duplicated=members.get("possibly_duplicated", False), **told
    )


_NAMES = {kind: tuple(each.name for each in fields(kind)) for kind in (Governance, UsageInfo)}
_VALUES = {kind: attrgetter(*names) for kind, names in _NAMES.items()}


def _present(value: Governance | UsageInfo) -> dict[str, Any]:
    """The fields that say something."""
    kind = type(value)
    members = zip(_NAMES[kind], _VALUES[kind](value))
    return {name: member for name, member in members if member is not None and member != () and member != {}}


def _governance(members: Mapping[str, Any]) -> Governance:
    known = {name: members[name] for name in _NAMES[Governance] if name in members}
    for name in ("redactions", "incidents"):
        if name in known:
            known[name] = tuple(known[name])
    return Governance(**known)


def _members(line: bytes) -> dict[str, Any]:
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise JournalDamagedError(f"a result is not JSON: {error}") from None
    if not (isinstance(members, dict) and isinstance(members.get("id"), str)):
        raise JournalDamagedError("a result is not an object with an id")
    if ("body" in members) == ("error" in members):
        raise JournalDamagedError(f"result {members['id']!r:.80} has neither a body nor an error, or both")
    return members


def _encoded(members: dict[str, Any]) -> bytes:
    return orjson.dumps(members, default=str, option=orjson.OPT_NON_STR_KEYS)


def _with_transfer(response: T, result: BatchResult) -> T:
    """Write what belongs to the row on its answer, which is fresh and nobody else's yet."""
    object.__setattr__(response, "attempts", result.attempts)
    object.__setattr__(response, "idempotency_key", result.idempotency_key)
    if response.governance is None:
        object.__setattr__(response, "governance", result.governance)
    return response
