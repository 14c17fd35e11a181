"""What a governing gateway has to say, as plans."""

from __future__ import annotations

from dataclasses import replace

from .answer_plans import whole
from .dialects.dialect import Dialect
from .dialects.request import Request
from .failure_plans import error_plan
from .idempotency import REPLAY_HEADER
from .mishap_plans import ended_by
from .plan import Plan
from .reply import Reply, merge_headers
from .verdicts import Block, ProviderError


def blocked(step: Block, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    """The gateway blocks."""
    if isinstance(reply.content, bytes):
        return whole(reply)  # the block itself is the reply, so that a key can keep it
    body = dialect.error(dialect.block(step, request), request, in_stream=True).body
    frame = reply.content.framing.error(body)
    return ended_by(frame, reply.content, whole(reply), step.after_events, step.done)


def failed_behind(step: ProviderError, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    """The provider fails, and the gateway says so."""
    problem = dialect.provider_error(step, request)
    if step.when == "before" or isinstance(reply.content, bytes):
        response = dialect.error(problem, request)
        return error_plan(replace(response, headers=merge_headers(response.headers, step.headers)))
    frame = reply.content.framing.error(dialect.error(problem, request, in_stream=True).body)
    return ended_by(frame, reply.content, whole(reply), step.after_events, step.done)


def emptied(reply: Reply, dialect: Dialect) -> Plan:
    """A replay without its text."""
    emptied = reply.without_content(dialect)
    marked = replace(emptied, headers=merge_headers(emptied.headers, {REPLAY_HEADER: "true"}))
    return replace(whole(marked), executes=False, keeps=False)
