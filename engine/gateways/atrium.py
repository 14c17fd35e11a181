"""Monago Atrium: OpenAI's chat completions, with what was decided in ``X-Monago-*`` headers.

The gateway is closed. Headers, error bodies and statuses are those that its published client (monago-atrium 0.1.0)
reads and is tested with. Streams are not published by the vendor: they are read as OpenAI's, with the same headers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..body import read_object
from ..decode import decode_completion, stream_decoder
from ..errors import (
    Advice,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    ModelEngineError,
    ModelNotAllowedError,
    PermissionDeniedError,
    PIIBlockedError,
    PolicyBlockedError,
    QuotaExceededError,
    SecurityBlockedError,
)
from ..exchange import Operation, StreamDecoder
from ..types import Governance, LLMResponse
from ..verdict import Answer, Complaint, JudgeEvent, judge_event, judge_openai
from .base import Gateway, Request
from .openai import OpenAICompatibleGateway

CURRENCY = "IDR"  # Atrium charges in rupiah


class _NotOffered:
    """An operation of the family that this gateway lacks: asking the gateway for it is an error, before anything is
    sent.
    """

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __get__(self, gateway: Gateway | None, owner: type[Gateway]) -> Operation:
        if gateway is None:
            return self._operation
        text = f"gateway {gateway.name!r} does not offer {self._operation.name}"
        raise InvalidRequestError(text, gateway=gateway.name, phase="not_sent")


class AtriumGateway(OpenAICompatibleGateway):
    """Monago Atrium. It has chat completions and nothing else: no embeddings, no list of models, no health path.

    It refuses members that it does not know, so a body has what the caller gave and no more: no ``stream_options``
    (a stream reports usage only if the caller asks for it), and nothing that is `None`. Tags of a request have to go
    into headers (``default_headers``, ``extra_headers``); ``metadata`` and ``user`` are sent when given, and the vendor
    names no member that it would take.

    It is not known to look at idempotency keys: a request whose answer was lost is not sent again, unless the caller
    allows it (``Retry(ambiguous="always")``).
    """

    name = "atrium"
    base_url = "https://api.monago.io"
    key_variables = ("ATRIUM_API_KEY", "MONAGO_API_KEY")
    chat = Operation("chat", "POST", "/v1/chat/completions", keys="ignored")
    embeddings = _NotOffered(OpenAICompatibleGateway.embeddings)
    models = _NotOffered(OpenAICompatibleGateway.models)
    health = _NotOffered(OpenAICompatibleGateway.health)

    def encode_chat(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        named = [_without_null_name(message) for message in messages]
        request = super().encode_chat(model, named, {"stream_options": None, **params}, stream=stream)
        members = (request.body or {}).items()
        return Request(request.operation, {name: value for name, value in members if value is not None})

    def decode_object(self, answer: Answer) -> dict[str, Any]:
        with self._governing(answer):
            return read_object(answer, self._judge_under(answer))

    def decode_chat(self, answer: Answer) -> LLMResponse:
        with self._governing(answer):
            return decode_completion(answer, judge=self._judge_under(answer))

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        decoder = stream_decoder(head, judge=self._judge_under(head))
        decoder.governance = self.governance(head.headers)
        return decoder

    def judge(self, answer: Answer) -> ModelEngineError:
        governance = self.governance(answer.headers)
        error = judge_openai(answer, partial(self.verdict, governance=governance))
        error.governance = governance
        if isinstance(error, PolicyBlockedError):
            error.advice = "never"  # whatever x-should-retry a proxy on the way has written
        return error

    def verdict(
        self, status: int | None, complaint: Complaint, governance: Governance | None = None
    ) -> tuple[type[ModelEngineError], Advice | None]:
        """What the gateway says of its decision comes before the status, and codes come before words: the name of a
        policy or of a model may have any word in it.
        """
        general, advice = super().verdict(status, complaint)
        if status == 401:
            return general, advice
        for word in (complaint.code, complaint.type):
            if word in _BY_CODE:
                return _BY_CODE[word], None
        if status == 429 or issubclass(general, (PolicyBlockedError, QuotaExceededError)):
            return general, advice
        if (refusal := _refusal(status, complaint, governance)) is not None:
            return refusal, None
        if general is PermissionDeniedError:
            return AuthenticationError, "never"  # its client's word for 403; another key is needed, not a fresh one
        if general is ConflictError:
            return general, "never"  # not a lock here
        return general, advice

    def governance(self, headers: Mapping[str, str], body: Any = None) -> Governance | None:
        pii_detected = _text(headers, "Pii-Detected")
        cost = _number(headers, "Cost-Idr")
        governance = Governance(
            decision=_text(headers, "Policy-Decision"),
            audit_id=_text(headers, "Audit-Id"),
            provider=_text(headers, "Provider"),
            redactions=_list(headers, "Pii-Redacted"),
            pii_detected=None if pii_detected is None else pii_detected.lower() in _TRUE,
            block_reason=_text(headers, "Block-Reason"),
            incidents=_list(headers, "Security-Incident"),
            cost=cost,
            currency=None if cost is None else CURRENCY,
            latency_ms=_number(headers, "Latency-Ms"),
        )
        return None if governance == Governance() else governance

    @contextmanager
    def _governing(self, answer: Answer) -> Iterator[None]:
        """Puts the decision on whatever is wrong with a success: it was audited and charged all the same."""
        try:
            yield
        except ModelEngineError as error:
            error.governance = self.governance(answer.headers)
            raise

    def _judge_under(self, head: Answer) -> JudgeEvent:
        """Judges errors inside a success by what its head says of the decision."""

        def judge(complaint: Complaint) -> ModelEngineError:
            governance = self.governance(head.headers)
            return judge_event(complaint, partial(self.verdict, governance=governance))

        return judge


_BY_CODE: dict[str | None, type[PolicyBlockedError]] = {
    "pii_blocked": PIIBlockedError,
    "pii_violation": PIIBlockedError,
    "security_block": SecurityBlockedError,
    "security_violation": SecurityBlockedError,
    "model_not_allowed": ModelNotAllowedError,
    "policy_blocked": PolicyBlockedError,
}

_REFUSING = (None, 400, 422, 451)  # statuses at which words alone make a refusal; None is an error inside a success

_TRUE = ("1", "true", "yes", "y", "t")

# float() would also take nan, infinity, 1_000 and digits of other scripts
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _refusal(
    status: int | None, complaint: Complaint, governance: Governance | None
) -> type[PolicyBlockedError] | None:
    """The class of a refusal, by the words of code, type and reason. `None` when it is none."""
    decision, reason = (governance.decision, governance.block_reason) if governance is not None else (None, None)
    is_blocked = reason is not None or (decision or "").lower() == "blocked"
    if not is_blocked and status not in _REFUSING:
        return None
    words = f"{complaint.code or ''} {complaint.type or ''} {reason or ''}".lower()
    if "pii" in words:
        return PIIBlockedError
    if any(word in words for word in ("security", "injection", "jailbreak")):
        return SecurityBlockedError
    if "model" in words and any(word in words for word in ("allow", "denied")):
        return ModelNotAllowedError
    return PolicyBlockedError if is_blocked or "policy" in words else None


def _without_null_name(message: Any) -> Any:
    if message.get("name", "") is not None:
        return message
    return {name: value for name, value in message.items() if name != "name"}


def _text(headers: Mapping[str, str], name: str) -> str | None:
    """The text of an ``X-Monago-*`` header. `None` when it is missing or empty."""
    text = headers.get(f"X-Monago-{name}", "").strip()
    # Bytes that are not UTF-8 come as lone surrogates, which cannot be printed or sent on.
    return text.encode("utf-8", "replace").decode() or None


def _list(headers: Mapping[str, str], name: str) -> tuple[str, ...]:
    parts = (_text(headers, name) or "").split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _number(headers: Mapping[str, str], name: str) -> float | None:
    """A finite number. `None` for anything else."""
    text = _text(headers, name) or ""
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None
