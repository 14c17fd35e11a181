"""What each step makes of an answer: from step and reply to plan."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from .dialects.dialect import Dialect
from .dialects.framing import EventStream
from .dialects.problem import Problem, Response
from .dialects.request import Request
from .http_date import HttpDate
from .idempotency import IN_PROGRESS, REPLAY_HEADER
from .plan import Ending, Head, Item, Pause, Plan, rechunk
from .reply import JSON, Reply, merge_headers
from .steps import (
    Answer,
    Block,
    Cut,
    Empty,
    ErrorEvent,
    Fail,
    GarbageFrame,
    HangUp,
    Html,
    InProgress,
    InvalidJson,
    NoDone,
    ProviderError,
    ReplayWithoutContent,
    Reset,
    Stall,
    Step,
    Truncate,
)


def stage(step: Step, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    """Turn a step and the reply it concerns into what goes on the wire."""
    plan = _spoil(step, reply, dialect, request)
    return replace(plan, body=rechunk(plan.body, reply.answer.chunking))


def error_plan(response: Response) -> Plan:
    """An error that the model has no part in."""
    body = b"" if response.body is None else orjson.dumps(response.body)
    return _short(Head(response.status, merge_headers((JSON,) if body else (), response.headers)), body)


def _spoil(step: Step, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    match step:
        case Answer():
            return _whole(reply)
        case Cut():
            return _cut(step, reply)
        case Truncate():
            return _truncated(step, reply)
        case NoDone():
            return _without_done(reply)
        case Stall():
            return _stalled(step, reply)
        case ErrorEvent():
            return _failed_inside(step, reply, dialect, request)
        case GarbageFrame():
            return _with_garbage(step, reply)
        case Fail():
            return _failed(step, dialect, request)
        case Reset():
            return _reset(step, reply)
        case HangUp():
            return Plan(None, ending=Ending.CLOSE, executes=step.executed, keeps=step.executed)
        case Html():
            head = Head(step.status, (("content-type", "text/html; charset=utf-8"),))
            return _short(head, step.body.encode(), executed=step.executed)
        case Empty():
            return _short(Head(step.status), b"", executed=step.executed)
        case InvalidJson():
            return _short(Head(200, (JSON,)), step.body.encode(), executed=step.executed)
        case Block():
            return _blocked(step, reply, dialect, request)
        case ProviderError():
            return _failed_behind(step, reply, dialect, request)
        case InProgress():
            return error_plan(dialect.error(IN_PROGRESS, request))
        case ReplayWithoutContent():
            return _emptied(reply, dialect)


def _short(head: Head, body: bytes, *, executed: bool = False) -> Plan:
    """A body of known length that is no answer."""
    return Plan(head, [body] if body else [], length=len(body), executes=executed, keeps=executed)


def _whole(reply: Reply) -> Plan:
    """The reply with nothing wrong."""
    head, content = reply.head(), reply.content
    if isinstance(content, bytes):
        body = [content] if content else []
        return Plan(head, body, length=len(content), before_s=reply.work_s, executes=reply.runs_model, keeps=True)
    return Plan(head, _timeline(content, reply.answer), executes=True, keeps=True)


def _timeline(stream: EventStream, answer: Answer) -> list[Item]:
    """The events of a stream with the pauses of its pace."""
    items: list[Item] = [*stream.comments]
    if answer.ttft_s:
        items.append(Pause(answer.ttft_s))
    items += stream.opening
    if answer.delay_s:
        delay = Pause(answer.delay_s)
        for delta in stream.deltas:
            items += (delta, delay)
        if stream.deltas:
            items.pop()
    else:
        items += stream.deltas
    items += stream.closing
    if stream.done:
        items.append(stream.done)
    if answer.slow_terminator_s:
        items.append(Pause(answer.slow_terminator_s))
    return items


def _split(stream: EventStream, body: Sequence[Item], events: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """A timeline up to right after so many events, and the rest of it."""
    writes = len(stream.comments) + events
    for index, item in enumerate(body):
        if writes == 0:
            return body[:index], body[index:]
        writes -= isinstance(item, bytes)
    return body, []


def _cut(step: Cut, reply: Reply) -> Plan:
    plan = replace(_whole(reply), ending=Ending.CLOSE if step.by == "close" else Ending.RESET)
    if step.after_bytes is not None:
        return replace(plan, body=_first_bytes(plan.body, step.after_bytes))
    if isinstance(reply.content, bytes):
        return replace(plan, body=[_half(reply.content)])
    return replace(plan, body=_split(reply.content, plan.body, step.after_events or 0)[0])


def _first_bytes(body: Sequence[Item], size: int) -> list[Item]:
    kept: list[Item] = []
    for item in body:
        if isinstance(item, bytes):
            item, size = item[:size], size - len(item)
        kept.append(item)
        if size <= 0:
            break
    return kept


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _truncated(step: Truncate, reply: Reply) -> Plan:
    plan, content = _whole(reply), reply.content
    if isinstance(content, bytes):
        half = _half(content)
        return replace(plan, body=[half], length=len(half))
    deltas = len(content.opening) + len(content.deltas)
    events = deltas if step.after_events is None else step.after_events
    return replace(plan, body=_split(content, plan.body, events)[0])


def _without_done(reply: Reply) -> Plan:
    if isinstance(reply.content, bytes):
        return _whole(reply)
    return _whole(replace(reply, content=replace(reply.content, done=b"")))


def _stalled(step: Stall, reply: Reply) -> Plan:
    plan = _whole(reply)
    silence_s = math.inf if step.for_s is None else step.for_s
    if step.when == "before_headers":
        return replace(plan, before_s=silence_s + plan.before_s)
    if isinstance(reply.content, bytes):
        return replace(plan, body=[Pause(silence_s), *plan.body])
    ping = reply.content.framing.ping()
    before, after = _split(reply.content, plan.body, step.after_events)
    every_s = step.ping_every_s if ping and step.ping_every_s is not None else math.inf
    return replace(plan, body=[*before, Pause(silence_s, ping, every_s), *after])


def _failed_inside(step: ErrorEvent, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    content = reply.content
    if isinstance(content, bytes):
        error = dialect.error(Problem(500), request).body if step.error is None else {"error": step.error}
        body = orjson.dumps(error)
        return replace(_whole(reply), body=[body], length=len(body), keeps=False)
    if step.error is None:
        error = dialect.error(Problem(500), request, in_stream=True).body
    else:
        error = content.framing.wrap(step.error)
    frame = content.framing.error(error, event_name=step.event_name)
    return _ended_by(frame, content, _whole(reply), step.after_events, step.done)


def _ended_by(frame: bytes, stream: EventStream, plan: Plan, after_events: int, done: bool | None) -> Plan:
    """The plan of a stream that ends with this frame after so many events."""
    before, _ = _split(stream, plan.body, after_events)
    is_marked = stream.done_after_error if done is None else done
    return replace(plan, body=[*before, frame, *([stream.done] if is_marked and stream.done else [])], keeps=False)


def _with_garbage(step: GarbageFrame, reply: Reply) -> Plan:
    plan, content = _whole(reply), reply.content
    if isinstance(content, bytes):
        body = step.data.encode()
        return replace(plan, body=[body], length=len(body))
    before, after = _split(content, plan.body, step.after_events)
    return replace(plan, body=[*before, content.framing.garbage(step.data), *after])


def _reset(step: Reset, reply: Reply) -> Plan:
    plan = replace(_whole(reply), body=[]) if step.when == "after_headers" else Plan(None)
    return replace(plan, ending=Ending.RESET, executes=step.executed, keeps=step.executed)


def _failed(step: Fail, dialect: Dialect, request: Request) -> Plan:
    if step.body is None:
        problem = Problem(step.status, step.message, code=step.code, type=step.type, details=step.details)
        response = dialect.error(problem, request)
        own, body = (JSON, *response.headers), orjson.dumps(response.body)
    else:
        own, body = _given_body(step.body)
    head = Head(step.status, merge_headers((*own, *_hints(step)), step.headers))
    return _short(head, body, executed=step.executed)


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


def _blocked(step: Block, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    if isinstance(reply.content, bytes):
        return _whole(reply)  # the block itself is the reply, so that a key can keep it
    body = dialect.error(dialect.block(step, request), request, in_stream=True).body
    frame = reply.content.framing.error(body)
    return _ended_by(frame, reply.content, _whole(reply), step.after_events, step.done)


def _failed_behind(step: ProviderError, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    problem = dialect.provider_error(step, request)
    if step.when == "before" or isinstance(reply.content, bytes):
        response = dialect.error(problem, request)
        return error_plan(replace(response, headers=merge_headers(response.headers, step.headers)))
    frame = reply.content.framing.error(dialect.error(problem, request, in_stream=True).body)
    return _ended_by(frame, reply.content, _whole(reply), step.after_events, step.done)


def _emptied(reply: Reply, dialect: Dialect) -> Plan:
    emptied = reply.without_content(dialect)
    marked = replace(emptied, headers=merge_headers(emptied.headers, {REPLAY_HEADER: "true"}))
    return replace(_whole(marked), executes=False, keeps=False)
