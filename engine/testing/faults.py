"""What each step makes of an answer: from step and reply to plan."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from .dialects.dialect import Dialect, EventStream
from .http_date import HttpDate
from .plan import Ending, Head, Item, Pause, Plan, rechunk
from .steps import (
    OWN_ANSWER,
    Answer,
    Cut,
    Empty,
    ErrorEvent,
    Fail,
    GarbageFrame,
    HangUp,
    Headers,
    Html,
    InvalidJson,
    NoDone,
    Reset,
    Stall,
    Step,
    Truncate,
)

_JSON = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in its dialect, before anything goes wrong with it.

    Args:
        content: The JSON body, or the stream.
        answer: Its pace, its way of writing, and its headers.
        work_s: How long the model works on an answer that is not streamed.
    """

    content: bytes | EventStream
    answer: Answer
    work_s: float = 0.0

    def at_once(self) -> Reply:
        """The same reply without its pace, as it comes out of a store."""
        return replace(self, answer=replace(self.answer, ttft_s=0.0, delay_s=0.0, slow_terminator_s=0.0), work_s=0.0)


def answer_of(step: Step) -> Answer:
    """The answer that a step gives, spoils or loses."""
    if isinstance(step, Answer):
        return step
    if isinstance(step, (Fail, Html, Empty, InvalidJson)):
        return OWN_ANSWER
    return step.of


def stage(step: Step, reply: Reply, dialect: Dialect) -> Plan:
    """Turn a step and the reply it concerns into what goes on the wire."""
    plan = _spoil(step, reply, dialect)
    return replace(plan, body=rechunk(plan.body, reply.answer.chunking))


def error_plan(status: int, body: object) -> Plan:
    """A JSON error that no step asked for."""
    return _short(Head(status, (_JSON,)), orjson.dumps(body))


def _spoil(step: Step, reply: Reply, dialect: Dialect) -> Plan:
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
            return _stalled(step, reply, dialect)
        case ErrorEvent():
            return _failed_inside(step, reply, dialect)
        case GarbageFrame():
            return _with_garbage(step, reply, dialect)
        case Fail():
            return _failed(step, dialect)
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
            return _short(Head(200, (_JSON,)), step.body.encode(), executed=step.executed)


def _short(head: Head, body: bytes, *, executed: bool = False) -> Plan:
    """A body of known length that is no answer."""
    return Plan(head, [body] if body else [], length=len(body), executes=executed, keeps=executed)


def _whole(reply: Reply) -> Plan:
    """The reply with nothing wrong."""
    content, headers = reply.content, reply.answer.headers
    if isinstance(content, bytes):
        head = Head(200, merge_headers((_JSON,), headers))
        return Plan(head, [content], length=len(content), before_s=reply.work_s, executes=True, keeps=True)
    own = (("content-type", content.content_type), ("cache-control", "no-cache"))
    return Plan(Head(200, merge_headers(own, headers)), _timeline(content, reply.answer), executes=True, keeps=True)


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


def _stalled(step: Stall, reply: Reply, dialect: Dialect) -> Plan:
    plan = _whole(reply)
    silence_s = math.inf if step.for_s is None else step.for_s
    if step.when == "before_headers":
        return replace(plan, before_s=silence_s + plan.before_s)
    if isinstance(reply.content, bytes):
        return replace(plan, body=[Pause(silence_s), *plan.body])
    ping = dialect.ping(line_end=reply.answer.line_end.encode())
    before, after = _split(reply.content, plan.body, step.after_events)
    every_s = math.inf if step.ping_every_s is None else step.ping_every_s
    return replace(plan, body=[*before, Pause(silence_s, ping, every_s), *after])


def _failed_inside(step: ErrorEvent, reply: Reply, dialect: Dialect) -> Plan:
    plan, content = replace(_whole(reply), keeps=False), reply.content
    if isinstance(content, bytes):
        error = dialect.error_body(500) if step.error is None else {"error": step.error}
        body = orjson.dumps(error)
        return replace(plan, body=[body], length=len(body))
    frame = dialect.error_event(step.error, event_name=step.event_name, line_end=reply.answer.line_end.encode())
    before, _ = _split(content, plan.body, step.after_events)
    return replace(plan, body=[*before, frame, *([content.done] if step.done and content.done else [])])


def _with_garbage(step: GarbageFrame, reply: Reply, dialect: Dialect) -> Plan:
    plan, content = _whole(reply), reply.content
    if isinstance(content, bytes):
        body = step.data.encode()
        return replace(plan, body=[body], length=len(body))
    frame = dialect.garbage_event(step.data, line_end=reply.answer.line_end.encode())
    before, after = _split(content, plan.body, step.after_events)
    return replace(plan, body=[*before, frame, *after])


def _reset(step: Reset, reply: Reply) -> Plan:
    plan = replace(_whole(reply), body=[]) if step.when == "after_headers" else Plan(None)
    return replace(plan, ending=Ending.RESET, executes=step.executed, keeps=step.executed)


def _failed(step: Fail, dialect: Dialect) -> Plan:
    headers: list[tuple[str, str]] = []
    body = step.body
    if body is None:
        body = orjson.dumps(dialect.error_body(step.status, step.message, code=step.code, type=step.type))
        headers.append(_JSON)
    elif isinstance(body, str):
        body = body.encode()
        headers.append(("content-type", "text/plain; charset=utf-8"))
    elif not isinstance(body, bytes):
        body = orjson.dumps(dict(body))
        headers.append(_JSON)
    head = Head(step.status, merge_headers((*headers, *_hints(step)), step.headers))
    return _short(head, body, executed=step.executed)


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


def merge_headers(own: Sequence[tuple[str, str]], given: Headers) -> tuple[tuple[str, str], ...]:
    """`given` headers after our own ones, less those of the same name."""
    pairs = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
    names = {name.lower() for name, _ in pairs}
    return (*((name, value) for name, value in own if name.lower() not in names), *pairs)
