"""Faults before a request is on its way."""

from __future__ import annotations

from ..acts import answers, at_once, close, reset, sulk, take
from ..scenario import BACKED_OFF, Scenario, answered, failed

_LARGE = 10_000_000  # bytes; more than the buffers of both ends hold
NAME = "Connecting and sending"

SCENARIOS = [
    Scenario(
        "refused",
        "nobody listens",
        both=failed("ConnectError", "not_sent", "after", *BACKED_OFF),
        place="nobody",
    ),
    Scenario(
        "not-accepted",
        "connections are not accepted",
        both=failed("ConnectTimeoutError", "not_sent", "after", *BACKED_OFF),
        place="full",
        clocks={"connect": 0.1},
    ),
    Scenario(
        "unknown-name",
        "the name does not exist",
        both=failed("ConnectError", "not_sent", "after", *BACKED_OFF),
        place="unknown",
    ),
    Scenario(
        "plain-for-tls",
        "speaks plain HTTP where TLS is wanted",
        [at_once(take(10), b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", close)],
        both=failed("TLSError", "not_sent", "never"),
        place="tls",
    ),
    Scenario(
        "reset-at-accept",
        "resets as soon as it accepts",
        [at_once(reset), answers()],
        both=answered(*BACKED_OFF[:1]),
    ),
    Scenario(
        "closed-at-accept",
        "closes as soon as it accepts, each time",
        [at_once(close)],
        both=failed("DisconnectedError", "no_answer", "after", *BACKED_OFF),
    ),
    Scenario(
        "upload-not-read",
        "does not read a request of 10 MB",
        [at_once(sulk)],
        both=failed("WriteTimeoutError", "no_answer", "after", *BACKED_OFF),
        clocks={"write": 0.1},
        prompt=_LARGE,
    ),
    Scenario(
        "upload-reset",
        "resets in the middle of the upload, then answers",
        [at_once(take(1000), reset), answers()],
        both=answered(*BACKED_OFF[:1]),
        prompt=_LARGE,
    ),
    Scenario(
        "upload-refused",
        "answers 413 and closes, without reading the upload",
        [
            at_once(
                take(1000),
                b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                close,
            )
        ],
        both=failed("InvalidRequestError", "rejected", "never"),
        prompt=_LARGE,
    ),
]
