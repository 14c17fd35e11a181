"""What each step makes of an answer: from step and reply to plan."""

from __future__ import annotations

from dataclasses import replace

from . import failure_plans, mishap_plans, verdict_plans, violation_plans
from .answer_plans import short, whole
from .dialects.dialect import Dialect
from .dialects.request import Request
from .encoding import encoded
from .idempotency import IN_PROGRESS
from .plan import Ending, Head, Plan, rechunk
from .reply import JSON, Reply
from .steps import (
    Answer,
    BadChunkSize,
    Block,
    Cut,
    Drip,
    Empty,
    Endless,
    ErrorEvent,
    Fail,
    GarbageFrame,
    HangUp,
    Html,
    HugeEvent,
    InProgress,
    Interim,
    InvalidJson,
    KeyEcho,
    LargeHeaders,
    NoDone,
    ProviderError,
    Raw,
    Redirect,
    ReplayWithoutContent,
    Reset,
    Stall,
    Step,
    StrayBytes,
    Truncate,
)


def stage(step: Step, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    """Turn a step and the reply it concerns into what goes on the wire."""
    plan = _plan(step, reply, dialect, request)
    if reply.answer.encoding is not None:
        plan = encoded(plan, reply.answer.encoding)
    return replace(plan, body=rechunk(plan.body, reply.answer.chunking))


def _plan(step: Step, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    match step:
        case Answer() | HugeEvent():
            return whole(reply)
        case Cut():
            return mishap_plans.cut(step, reply)
        case Truncate():
            return mishap_plans.truncated(step, reply)
        case NoDone():
            return mishap_plans.without_done(reply)
        case Stall():
            return mishap_plans.stalled(step, reply)
        case ErrorEvent():
            return mishap_plans.failed_inside(step, reply, dialect, request)
        case GarbageFrame():
            return mishap_plans.with_garbage(step, reply)
        case Endless():
            return mishap_plans.endless(step, reply)
        case Block():
            return verdict_plans.blocked(step, reply, dialect, request)
        case ProviderError():
            return verdict_plans.failed_behind(step, reply, dialect, request)
        case InProgress():
            return failure_plans.error_plan(dialect.error(IN_PROGRESS, request))
        case ReplayWithoutContent():
            return verdict_plans.emptied(reply, dialect)
        case Raw():
            return violation_plans.raw(step)
        case Drip():
            return violation_plans.dripped(step, reply)
        case Interim():
            return violation_plans.announced(step, reply)
        case BadChunkSize():
            return violation_plans.badly_chunked(step, reply)
        case StrayBytes():
            return violation_plans.followed(step, reply)
        case LargeHeaders():
            return violation_plans.with_large_headers(step, reply)
        case _:
            return _without_answer(step, reply, dialect, request)


def _without_answer(
    step: Fail | Reset | HangUp | Html | Empty | InvalidJson | Redirect | KeyEcho,
    reply: Reply,
    dialect: Dialect,
    request: Request,
) -> Plan:
    match step:
        case Fail():
            return failure_plans.failed(step, dialect, request)
        case Reset():
            return failure_plans.reset(step, reply)
        case HangUp():
            return Plan(None, ending=Ending.CLOSE, executes=step.executed, keeps=step.executed)
        case Html():
            head = Head(step.status, (("content-type", "text/html; charset=utf-8"),))
            return short(head, step.body.encode(), executed=step.executed)
        case Empty():
            return short(Head(step.status), b"", executed=step.executed)
        case InvalidJson():
            return short(Head(200, (JSON,)), step.body.encode(), executed=step.executed)
        case Redirect():
            return failure_plans.redirected(step)
        case KeyEcho():
            return failure_plans.echoed(step, dialect, request)
