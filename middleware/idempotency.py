"""Gives each logical request one key, so that a gateway can tell a repetition from a second request."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from penstock.engine.errors import IdempotencyNotSupportedError, InvalidRequestError
from penstock.engine.exchange import CallContext, context_of

from .places import IDEMPOTENCY

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255  # characters; Stripe's and Modelgov's limit


def new_key() -> str:
    """A random key (UUIDv4)."""
    return str(uuid.uuid4())


class Idempotency:
    """Sends an idempotency key with every POST: the caller's own, or a new one.

    The key is made once for a logical call and is the same on every attempt. It is left out where the gateway refuses
    it.

    Needs on the request: nothing. Adds: the header, and ``context.idempotency_key``. Runs the handler once. Belongs
    outside `Retry`, so that attempts share the key, and inside whatever changes the model, the route or the body.

    Args:
        header: Name of the header.
        make_key: Gives a new key: 1 to 255 characters of visible ASCII.
        quoted: Send the key as a quoted structured-field string, as the IETF draft
            (draft-ietf-httpapi-idempotency-key-header, 2.1) wants it. Gateways that are known take it bare.
    """

    place: ClassVar[int] = IDEMPOTENCY

    def __init__(self, *, header: str = HEADER, make_key: Callable[[], str] = new_key, quoted: bool = False) -> None:
        self._header = header
        self._make_key = make_key
        self._quoted = quoted

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        key = request.headers.get(self._header) or context.idempotency_key
        if context.operation.keys == "refused":
            if key is not None:
                raise context.stamp(_not_supported(context))
        elif key is not None or request.method == "POST":
            context.idempotency_key = key = checked_idempotency_key(key or self._make_key())
            if self._header not in request.headers:
                request.headers[self._header] = f'"{key}"' if self._quoted else key
        return await handler(request)


def checked_idempotency_key(key: str) -> str:
    """The key, if it can be sent.

    Raises:
        InvalidRequestError: It is empty, longer than 255 characters, or not visible ASCII.
    """
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_LENGTH and all("!" <= character <= "~" for character in key):
        return key
    raise InvalidRequestError(
        f"an idempotency key is 1 to {MAX_KEY_LENGTH} characters of visible ASCII, not {key!r:.80}", phase="not_sent"
    )


def _not_supported(context: CallContext) -> IdempotencyNotSupportedError:
    what = f"{context.operation.name} stream" if context.stream else context.operation.name
    return IdempotencyNotSupportedError(
        f"the gateway refuses an idempotency key on a {what}, and one was given", phase="not_sent"
    )
