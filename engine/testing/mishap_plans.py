"""What mishaps make of an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import orjson

from .answer_plans import split, whole
from .dialects.dialect import Dialect
from .dialects.framing import EventStream
from .dialects.problem import Problem
from .dialects.request import Request
from .mishaps import Cut, Endless, ErrorEvent, GarbageFrame, Stall, Truncate
from .plan import Ending, Item, Pause, Plan
from .reply import Reply


def cut(step: Cut, reply: Reply) -> Plan:
    """The answer up to where the connection ends."""
    plan = replace(whole(reply), ending=Ending.CLOSE if step.by == "close" else Ending.RESET)
    if step.after_bytes is not None:
        return replace(plan, body=_first_bytes(plan.body, step.after_bytes))
    if isinstance(reply.content, bytes):
        return replace(plan, body=[half(reply.content)])
    return replace(plan, body=split(reply.content, plan.body, step.after_events or 0)[0])


def _first_bytes(body: Sequence[Item], size: int) -> list[Item]:
    kept: list[Item] = []
    for item in body:
        if isinstance(item, bytes):
            item, size = item[:size], size - len(item)
        kept.append(item)
        if size <= 0:
            break
    return kept


def half(content: bytes) -> bytes:
    """What is sent of an answer that is not streamed and breaks off."""
    return content[: len(content) // 2]


def truncated(step: Truncate, reply: Reply) -> Plan:
    """The answer up to where its body ends."""
    plan, content = whole(reply), reply.content
    if isinstance(content, bytes):
        kept = half(content)
        return replace(plan, body=[kept], length=len(kept))
    deltas = len(content.opening) + len(content.deltas)
    events = deltas if step.after_events is None else step.after_events
    done = [content.done] if step.done and content.done else []
    return replace(plan, body=[*split(content, plan.body, events)[0], *done])


def without_done(reply: Reply) -> Plan:
    """The stream without its terminal mark."""
    if isinstance(reply.content, bytes):
        return whole(reply)
    return whole(replace(reply, content=replace(reply.content, done=b"")))


def stalled(step: Stall, reply: Reply) -> Plan:
    """The answer with a silence in it."""
    plan = whole(reply)
    silence_s = math.inf if step.for_s is None else step.for_s
    if step.when == "before_headers":
        return replace(plan, before_s=silence_s + plan.before_s)
    if isinstance(reply.content, bytes):
        return replace(plan, body=[Pause(silence_s), *plan.body])
    ping = reply.content.framing.ping()
    before, after = split(reply.content, plan.body, step.after_events)
    every_s = step.ping_every_s if ping and step.ping_every_s is not None else math.inf
    return replace(plan, body=[*before, Pause(silence_s, ping, every_s), *after])


def failed_inside(step: ErrorEvent, reply: Reply, dialect: Dialect, request: Request) -> Plan:
    """The stream up to its error."""
    content = reply.content
    if isinstance(content, bytes):
        error = dialect.error(Problem(500), request).body if step.error is None else {"error": step.error}
        body = orjson.dumps(error)
        return replace(whole(reply), body=[body], length=len(body), keeps=False)
    if step.error is None:
        error = dialect.error(Problem(500), request, in_stream=True).body
    else:
        error = content.framing.wrap(step.error)
    frame = content.framing.error(error, event_name=step.event_name)
    return ended_by(frame, content, whole(reply), step.after_events, step.done)


def ended_by(frame: bytes, stream: EventStream, plan: Plan, after_events: int, done: bool | None) -> Plan:
    """The plan of a stream that ends with this frame after so many events."""
    before, _ = split(stream, plan.body, after_events)
    is_marked = stream.done_after_error if done is None else done
    return replace(plan, body=[*before, frame, *([stream.done] if is_marked and stream.done else [])], keeps=False)


def with_garbage(step: GarbageFrame, reply: Reply) -> Plan:
    """The stream with a frame that is none."""
    plan, content = whole(reply), reply.content
    if isinstance(content, bytes):
        body = step.data.encode()
        return replace(plan, body=[body], length=len(body))
    before, after = split(content, plan.body, step.after_events)
    return replace(plan, body=[*before, content.framing.garbage(step.data), *after])


def endless(step: Endless, reply: Reply) -> Plan:
    """The deltas, and the last one again and again."""
    plan, content = whole(reply), reply.content
    if isinstance(content, bytes):
        return replace(plan, body=[Pause(math.inf)])
    again = content.deltas[-1] if content.deltas else b""
    before, _ = split(content, plan.body, len(content.opening) + len(content.deltas))
    every_s = step.every_s if again else math.inf
    return replace(plan, body=[*before, Pause(math.inf, again, every_s)])
