"""Gives each logical request one key, so that a gateway can tell a repetition from a second request."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from penstock.engine.errors import ConfigurationError, IdempotencyNotSupportedError, InvalidRequestError
from penstock.engine.exchange import CallContext, context_of
from penstock.engine.headers import is_header_name

from .places import IDEMPOTENCY

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255  # characters; Stripe's and Modelgov's limit
_HEADER_NOTE = "idempotency_header"  # in the context's notes: the header in use, where it is not `HEADER`


def new_key() -> str:
    """A random key: a UUID of version 4 (RFC 9562, 5.4)."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class Idempotency:
    """Sends an idempotency key with every POST: the caller's own, or a new one.

    The key is made once for a logical call and is the same on every attempt. It is left out where the gateway refuses
    it. A redirect that a plain session follows is another request: it gets a key of its own.

    Needs on the request: nothing. Adds: the header, and ``context.idempotency_key``. Runs the handler once. Belongs
    outside `Retry`, so that attempts share the key, and inside whatever changes the model, the route or the body.

    Args:
        header: Name of the header.
        make_key: Gives a new key: 1 to 255 characters of visible ASCII.
        quoted: Send the key as a quoted structured-field string, as the IETF draft
            (draft-ietf-httpapi-idempotency-key-header, 2.1) wants it. Gateways that are known take it bare. A header
            that the caller set is sent as it is.

    Raises:
        ConfigurationError: The header is no name of one, `make_key` no function, or `quoted` no truth value.
        InvalidRequestError: On a request: the key cannot be sent, or the caller gave two.
        IdempotencyNotSupportedError: On a request: the caller gave a key, and the gateway refuses one.
    """

    place: ClassVar[int] = IDEMPOTENCY

    def __init__(self, *, header: str = HEADER, make_key: Callable[[], str] = new_key, quoted: bool = False) -> None:
        if not (isinstance(header, str) and is_header_name(header)):
            raise ConfigurationError(f"Idempotency(header=...) is the name of a header, not {header!r:.80}")
        if not callable(make_key):
            raise ConfigurationError(f"Idempotency(make_key=...) is a function, not {type(make_key).__name__}")
        if not isinstance(quoted, bool):
            raise ConfigurationError(f"Idempotency(quoted=...) is true or false, not {type(quoted).__name__}")
        self._header = header
        self._make_key = make_key
        self._quoted = quoted

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        context = context_of(request)
        key = self._given_key(request, context)
        if context.operation.keys == "refused":
            if key is not None:
                raise context.stamp(_not_supported(context))
            return await handler(request)
        if key is None and request.method == "POST":
            key = self._make_key()
        if key is not None:
            context.idempotency_key = checked_idempotency_key(key)
            context.notes[_HEADER_NOTE] = self._header
            if self._header not in request.headers:
                request.headers[self._header] = _quoted(key) if self._quoted else key
        return await handler(request)

    def _given_key(self, request: Any, context: CallContext) -> str | None:
        header: str | None = request.headers.get(self._header)
        option = context.idempotency_key
        if header is None:
            return option
        if option is not None and header not in (option, _quoted(option)):
            raise InvalidRequestError(
                f"two idempotency keys were given: {option!r:.80}, and {header!r:.80} as the header", phase="not_sent"
            )
        return header


def checked_idempotency_key(key: str) -> str:
    """The key, if it can be sent.

    Raises:
        InvalidRequestError: It is empty, longer than 255 characters, or not visible ASCII.
    """
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_LENGTH and _is_visible_ascii(key):
        return key
    raise InvalidRequestError(
        f"an idempotency key is 1 to {MAX_KEY_LENGTH} characters of visible ASCII, not {key!r:.80}", phase="not_sent"
    )


def is_keyed(request: Any, context: CallContext) -> bool:
    """Whether a request carries an idempotency key. The header counts: a key that nobody sends protects nothing."""
    return context.notes.get(_HEADER_NOTE, HEADER) in request.headers


def _is_visible_ascii(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def _quoted(key: str) -> str:
    """The key as a string of RFC 8941 (3.3.3)."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _not_supported(context: CallContext) -> IdempotencyNotSupportedError:
    what = f"{context.operation.name} stream" if context.stream else context.operation.name
    return IdempotencyNotSupportedError(
        f"the gateway refuses an idempotency key on a {what}, and one was given", phase="not_sent"
    )
