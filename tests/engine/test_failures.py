"""aiohttp's exceptions as ours."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import http_exceptions
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from penstock.engine.errors import (
    ConnectError,
    ConnectTimeoutError,
    DisconnectedError,
    IdleTimeoutError,
    ModelEngineError,
    ProtocolError,
    RedirectError,
    TLSError,
    TransportError,
)
from penstock.engine.failures import FOREIGN, KeptConnectionLostError, translate

KEY: Any = SimpleNamespace(ssl=True, host="gateway.test", port=443, is_ssl=True)
SECRET = "sk-secret-0123456789"
REQUEST: Any = aiohttp.RequestInfo(
    URL(f"https://gateway.test/v1?key={SECRET}"),
    "POST",
    CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {SECRET}"})),
)
REFUSED = ConnectionRefusedError(111, "Connection refused")
UNKNOWN_HOST = socket.gaierror(-2, "Name or service not known")
BAD_CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")

TABLE = [
    (aiohttp.ClientConnectorError(KEY, REFUSED), ConnectError, "not_sent"),
    (aiohttp.ClientConnectorDNSError(KEY, UNKNOWN_HOST), ConnectError, "not_sent"),
    (aiohttp.ClientProxyConnectionError(KEY, REFUSED), ConnectError, "not_sent"),
    (aiohttp.ClientHttpProxyError(REQUEST, (), status=407), ConnectError, "not_sent"),
    (aiohttp.ConnectionTimeoutError("Connection timeout"), ConnectTimeoutError, "not_sent"),
    (aiohttp.ClientConnectorCertificateError(KEY, BAD_CERTIFICATE), TLSError, "not_sent"),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number")), TLSError, "not_sent"),
    (aiohttp.ServerFingerprintMismatch(b"a", b"b", "gateway.test", 443), TLSError, "not_sent"),
    (aiohttp.InvalidURL("http://"), ConnectError, "not_sent"),
    (aiohttp.NonHttpUrlClientError("ftp://gateway.test"), ConnectError, "not_sent"),
    (KeptConnectionLostError(), DisconnectedError, "no_answer"),
    (aiohttp.ServerDisconnectedError(), DisconnectedError, "no_answer"),
    (aiohttp.ClientOSError(104, "Connection reset by peer"), DisconnectedError, "no_answer"),
    (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), DisconnectedError, "no_answer"),
    (aiohttp.ClientConnectionError("Connector is closed."), DisconnectedError, "no_answer"),
    (aiohttp.ClientPayloadError("Response payload is not completed"), DisconnectedError, "no_answer"),
    (ConnectionResetError(104, "Connection reset by peer"), DisconnectedError, "no_answer"),
    (TimeoutError(110, "Connection timed out"), DisconnectedError, "no_answer"),
    (ssl.SSLError(1, "decryption failed or bad record mac"), DisconnectedError, "no_answer"),
    (RuntimeError("Connection closed."), DisconnectedError, "no_answer"),
    (aiohttp.TooManyRedirects(REQUEST, ()), RedirectError, "no_answer"),
    (aiohttp.ClientResponseError(REQUEST, ()), ProtocolError, "no_answer"),
    (http_exceptions.LineTooLong(b"x", 8190), ProtocolError, "no_answer"),
    (http_exceptions.TransferEncodingError("bad chunk"), ProtocolError, "no_answer"),
    (aiohttp.SocketTimeoutError("Timeout on reading"), IdleTimeoutError, "no_answer"),
    (asyncio.TimeoutError(), IdleTimeoutError, "no_answer"),
    (ValueError("Newline or carriage return detected in headers"), TransportError, "no_answer"),
    (aiohttp.ClientError("something new"), TransportError, "no_answer"),
]


@pytest.mark.parametrize(("foreign", "ours", "phase"), TABLE, ids=[type(row[0]).__name__ for row in TABLE])
def test_each_failure_has_a_class_and_a_phase(foreign: BaseException, ours: type[ModelEngineError], phase: str) -> None:
    error = translate(foreign, "no_answer")
    assert (type(error), error.phase) == (ours, phase)


@pytest.mark.parametrize("foreign", [row[0] for row in TABLE], ids=lambda error: type(error).__name__)
def test_nothing_of_the_request_is_in_the_error_or_its_causes(foreign: BaseException) -> None:
    error: BaseException | None = translate(foreign, "no_answer")
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        assert not isinstance(error, aiohttp.ClientError)
        error = error.__cause__ or error.__context__


def test_every_exception_that_aiohttps_client_raises_is_caught_and_has_a_meaning() -> None:
    not_of_requests = {"WSMessageTypeError", "WebSocketError", "EofStream"}
    exceptions = {
        member
        for module in (aiohttp, http_exceptions)
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Exception) and not issubclass(member, Warning)
    }
    unknown = {error.__name__ for error in exceptions if not issubclass(error, FOREIGN)} - not_of_requests
    assert not unknown


def test_the_system_error_stays_as_the_cause() -> None:
    error = translate(aiohttp.ClientConnectorError(KEY, REFUSED), "no_answer")
    assert (error.__cause__, error.message) == (REFUSED, "no connection could be made: Connection refused")


@pytest.mark.parametrize(
    "foreign",
    [
        aiohttp.ClientConnectorCertificateError(KEY, BAD_CERTIFICATE),
        aiohttp.InvalidURL("http://"),
        aiohttp.ClientHttpProxyError(REQUEST, (), status=407),
        ValueError("Newline or carriage return detected in headers"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_pass_by_itself_is_not_worth_another_try(foreign: BaseException) -> None:
    assert translate(foreign, "no_answer").advice == "never"


def test_an_error_of_ours_is_left_alone() -> None:
    error = IdleTimeoutError("silence")
    assert translate(error, "no_answer") is error
