"""What comes instead of an answer, as plans."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from .answer_plans import short, whole
from .dialects.dialect import Dialect
from .dialects.problem import Problem, Response
from .dialects.request import Request
from .failures import Fail, KeyEcho, Redirect, Reset
from .http_date import HttpDate
from .plan import Ending, Head, Plan
from .reply import JSON, Reply, merge_headers


def error_plan(response: Response) -> Plan:
    """An error that the model has no part in."""
    body = b"" if response.body is None else orjson.dumps(response.body)
    return short(Head(response.status, merge_headers((JSON,) if body else (), response.headers)), body)


def reset(step: Reset, reply: Reply) -> Plan:
    """The connection is reset."""
    plan = replace(whole(reply), body=[]) if step.when == "after_headers" else Plan(None)
    return replace(plan, ending=Ending.RESET, executes=step.executed, keeps=step.executed)


def failed(step: Fail, dialect: Dialect, request: Request) -> Plan:
    """An error status, with what the script gives for its body."""
    if step.body is None:
        problem = Problem(step.status, step.message, code=step.code, type=step.type, details=step.details)
        response = dialect.error(problem, request)
        own, body = (JSON, *response.headers), orjson.dumps(response.body)
    else:
        own, body = _given_body(step.body)
    head = Head(step.status, merge_headers((*own, *_hints(step)), step.headers))
    return short(head, body, executed=step.executed)


def _given_body(body: Mapping[str, Any] | str | bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """The headers and bytes of a body that a script gives."""
    if isinstance(body, bytes):
        return (), body
    if isinstance(body, str):
        return (("content-type", "text/plain; charset=utf-8"),), body.encode()
    return (JSON,), orjson.dumps(dict(body))


def _hints(step: Fail) -> list[tuple[str, str]]:
    """When and whether to try again, as headers."""
    hints: list[tuple[str, str]] = []
    if isinstance(step.retry_after, HttpDate):
        hints.append(("retry-after", step.retry_after.text(time.time())))
    elif step.retry_after is not None:
        hints.append(("retry-after", str(step.retry_after)))
    if step.retry_after_ms is not None:
        hints.append(("retry-after-ms", str(step.retry_after_ms)))
    if step.should_retry is not None:
        hints.append(("x-should-retry", "true" if step.should_retry else "false"))
    return hints


def redirected(step: Redirect) -> Plan:
    """A redirect has no body."""
    return short(Head(step.status, (("location", step.to),)), b"", executed=step.executed)


def echoed(step: KeyEcho, dialect: Dialect, request: Request) -> Plan:
    """The credential of the request in the error's message, and in a header."""
    credential = request.headers.get("authorization") or request.headers.get("x-api-key") or "none"
    response = dialect.error(Problem(step.status, f"Incorrect API key provided: {credential}."), request)
    plan = error_plan(replace(response, headers=merge_headers(response.headers, {"x-echo": credential})))
    return replace(plan, executes=step.executed, keeps=step.executed)
