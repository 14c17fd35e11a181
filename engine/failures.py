"""aiohttp's exceptions as ours: the one edge at which foreign failures get a name and a phase.

aiohttp's own texts are not taken over: they contain URLs with queries, and its response errors hold the request with
its ``Authorization`` header. Only operating system and TLS errors stay as causes, without their tracebacks: the frames
of aiohttp have the header among their variables.
"""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from .errors import (
    Advice,
    ConnectError,
    ConnectTimeoutError,
    DisconnectedError,
    IdleTimeoutError,
    ModelEngineError,
    Phase,
    ProtocolError,
    RedirectError,
    TLSError,
    TransportError,
)

FOREIGN = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError, ValueError)
"""What a request or a read of aiohttp can raise, besides programming errors and cancellation."""


class KeptConnectionLostError(aiohttp.ServerDisconnectedError):
    """A connection that had served a request was lost with the next, before any answer: the server had closed it."""


def translate(error: BaseException, phase: Phase) -> ModelEngineError:
    """Our error for one of aiohttp's.

    Args:
        error: What aiohttp raised. One of ours is returned as it is.
        phase: How far the request had got, where the exception itself does not tell.
    """
    if isinstance(error, ModelEngineError):
        return error
    translated = _translate(error, phase)
    cause = _harmless_cause(error)
    if cause is not None:
        cause.__traceback__ = cause.__context__ = cause.__cause__ = None
    translated.__cause__ = cause
    translated.__suppress_context__ = True
    return translated


def _translate(error: BaseException, phase: Phase) -> ModelEngineError:
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return TLSError(f"the TLS handshake failed: {_reason(error)}", phase="not_sent")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectTimeoutError("no connection was made in time", phase="not_sent")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        advice: Advice = "after" if error.status >= 500 else "never"
        return ConnectError(f"the proxy refused with HTTP {error.status}", phase="not_sent", advice=advice)
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectError(f"no connection could be made: {_reason(error)}", phase="not_sent")
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return ConnectError("the URL is not one that can be connected to", phase="not_sent", advice="never")
    if isinstance(error, KeptConnectionLostError):
        text = "a connection kept from an earlier request was lost before an answer"
        return DisconnectedError(text, phase=phase, advice="now")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return DisconnectedError("the gateway closed the connection without an answer", phase=phase)
    if isinstance(error, aiohttp.ClientPayloadError):
        return DisconnectedError("the connection was lost in the middle of the answer", phase=phase)
    if isinstance(error, aiohttp.TooManyRedirects):
        return RedirectError("the gateway redirects in circles", phase=phase)
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        return ProtocolError("the gateway's answer is not valid HTTP", phase=phase)
    if isinstance(error, asyncio.TimeoutError) and getattr(error, "errno", None) is None:
        return IdleTimeoutError("the gateway fell silent", phase=phase)
    if isinstance(error, OSError):
        return DisconnectedError(f"the connection was lost: {_reason(error)}", phase=phase)
    if isinstance(error, (aiohttp.ClientConnectionError, RuntimeError)):  # RuntimeError is what a reader gets too late
        return DisconnectedError("the connection was lost", phase=phase)
    text = f"the request could not be made ({type(error).__name__})"
    return TransportError(text, phase=phase, advice="never" if isinstance(error, ValueError) else None)


def _reason(error: BaseException) -> str:
    """The operating system's words, which hold no URL and no header."""
    inner = _harmless_cause(error)
    if isinstance(inner, ssl.SSLError):
        # Missing on those that Python code has made.
        return getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return type(inner if inner is not None else error).__name__


def _harmless_cause(error: BaseException) -> BaseException | None:
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error.__cause__ or error
    is_harmless = isinstance(inner, (OSError, ssl.SSLError)) and not isinstance(inner, aiohttp.ClientError)
    return inner if is_harmless else None
