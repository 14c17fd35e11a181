"""A row on its way to the gateway and back, as values that can cross to another process, and the one call it makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelEngineError
from ..gateways import Gateway
from ..types import Attempt, Governance, Timeouts, UsageInfo
from ..usage import read_usage
from ..verdict import Answer

if TYPE_CHECKING:
    from penstock.middleware.stack import AnyHandler

    from ..model_engine import ModelEngine, PreparedCall


class Prepared(NamedTuple):
    """What is to be sent for a row. Pickles.

    Attributes:
        token: Its number in the run, to tell it by.
        call: The call, encoded.
        key: Its idempotency key. `None` sends none.
        timeout: Seconds the call may take. `None` leaves it to the engine.
    """

    token: int
    call: PreparedCall
    key: str | None = None
    timeout: float | None = None


class Outcome(NamedTuple):
    """What a call came to: an answer, or an error. Pickles. Fields as in `BatchResult`."""

    body: Mapping[str, Any] | None = None
    error: ModelEngineError | None = None
    attempts: tuple[Attempt, ...] = ()
    status: int | None = None
    request_id: str | None = None
    governance: Governance | None = None
    usage: UsageInfo | None = None


async def execute(
    engine: ModelEngine, prepared: Prepared, *, handler: AnyHandler | None = None, timeouts: Timeouts | None = None
) -> Outcome:
    """Make the call of a row. What fails is an outcome; only cancellation and bugs are raised.

    Args:
        engine: Who sends it, started.
        prepared: What to send.
        handler: The stack to go through. `None` is the engine's.
        timeouts: The clocks. `None` are the engine's.
    """
    read = partial(_READERS[prepared.call.operation], engine.gateway)
    try:
        read_of, context = await engine._send_prepared(
            prepared.call,
            read,
            idempotency_key=prepared.key,
            timeout=prepared.timeout,
            timeouts=timeouts,
            handler=handler,
        )
    except ModelEngineError as error:
        error.__traceback__ = None  # it is kept, and its frames hold the request
        return Outcome(None, error, error.attempts, error.status, error.request_id, error.governance)
    body, usage, governance, status, request_id = read_of
    return Outcome(
        body,
        None,
        tuple(context.attempts),
        status,
        context.shown_id(request_id),
        governance or context.governance,
        usage,
    )


class _Read(NamedTuple):
    body: dict[str, Any]
    usage: UsageInfo | None
    governance: Governance | None
    status: int
    request_id: str | None


def _read_chat(gateway: Gateway, answer: Answer) -> _Read:
    """The answer as it came. What is not plainly one is decoded as well: a success without an answer in it is a failure
    of its row. Decoding them all would cost a third of the call.
    """
    body = gateway.decode_object(answer)
    if _is_completion(body):
        return _Read(body, read_usage(body.get("usage")), None, answer.status, answer.headers.get("x-request-id"))
    response = gateway.decode_chat(answer)
    return _Read(body, response.usage, response.governance, answer.status, response.gateway_request_id)


def _is_completion(body: dict[str, Any]) -> bool:
    """Whether this is a chat completion of the OpenAI family with a text in it."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    return isinstance(message, dict) and isinstance(message.get("content"), str)


def _read_embeddings(gateway: Gateway, answer: Answer) -> _Read:
    body = gateway.decode_object(answer)
    governance = gateway.governance(answer.headers, body)
    return _Read(body, read_usage(body.get("usage")), governance, answer.status, answer.headers.get("x-request-id"))


_READERS = {"chat": _read_chat, "embeddings": _read_embeddings}
