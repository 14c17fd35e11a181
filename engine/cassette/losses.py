"""How an exchange was lost, as a word for a cassette, and as the exception that a client gets for it.

A replay raises what aiohttp raised, so that it goes through the same translation as in life.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from .. import errors
from ..failures import KeptConnectionLostError

CLOCK = "clock"
"""A clock of ours ran out; the `why` is the name of its error."""


def loss_of(error: BaseException) -> tuple[str, str] | None:
    """The word for a failure, and what is known beside it. `None` for what is no failure of the exchange."""
    if isinstance(error, errors.ClockError):
        return CLOCK, type(error).__name__
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return "tls", _tls_reason(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name", _error_name(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect", _error_name(error)
    for word, kind in _KINDS.items():
        if isinstance(error, kind):
            return word, _error_name(error)
    return None


def exception_of(how: str, why: str, url: URL, request_info: Any) -> BaseException:
    """The exception for a word of `loss_of`; of a word that is not known, a lost connection."""
    if how == CLOCK:
        return _clock_error(why)
    number = getattr(errno, why, 0)
    cause = OSError(number, os.strerror(number)) if number else OSError(why or how)
    if how in ("tls", "name", "connect"):
        key = ConnectionKey(url.host or "", url.port, url.scheme == "https", True, None, None, None)
        if how == "tls":
            cause = ssl.SSLError(1, why)
            cause.reason = why
            return aiohttp.ClientConnectorSSLError(key, cause)
        kind = aiohttp.ClientConnectorDNSError if how == "name" else aiohttp.ClientConnectorError
        return kind(key, cause)
    if how == "protocol":
        return aiohttp.ClientResponseError(request_info, (), status=400, message="not HTTP, when it was recorded")
    if how == "reset":
        return aiohttp.ClientOSError(*cause.args)
    make: Any = _MAKERS.get(how, aiohttp.ClientConnectionError)
    error: BaseException = make() if how in ("closed", "kept") else make("lost like this when it was recorded")
    return error


def _clock_error(name: str) -> errors.ClockError:
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ClockError)):
        kind = errors.IdleTimeoutError
    return kind("a clock ran out here when this was recorded", phase="no_answer")


# Asked from top to bottom: the special before the general
_KINDS: dict[str, Any] = {
    "connect_timeout": aiohttp.ConnectionTimeoutError,
    "kept": KeptConnectionLostError,
    "closed": aiohttp.ServerDisconnectedError,
    "truncated": aiohttp.ClientPayloadError,
    "protocol": (aiohttp.ClientResponseError, HttpProcessingError),
    "timeout": asyncio.TimeoutError,
    "reset": OSError,
    "connection": (aiohttp.ClientError, RuntimeError),
}

_MAKERS: dict[str, Any] = {
    "connect_timeout": aiohttp.ConnectionTimeoutError,
    "kept": KeptConnectionLostError,
    "closed": aiohttp.ServerDisconnectedError,
    "truncated": aiohttp.ClientPayloadError,
    "timeout": aiohttp.SocketTimeoutError,
}


def _error_name(error: BaseException) -> str:
    """The name of an operating system's error, such as ``ECONNREFUSED``; ``""`` where there is none."""
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    return errno.errorcode.get(number, "") if isinstance(number, int) else ""


def _tls_reason(error: BaseException) -> str:
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    return str(getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__)
