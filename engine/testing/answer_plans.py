"""An answer with nothing wrong, as a plan, and where its events stand in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .answers import Answer
from .dialects.framing import EventStream
from .plan import Head, Item, Pause, Plan
from .reply import Reply


def short(head: Head, body: bytes, *, executed: bool = False) -> Plan:
    """A body of known length that is no answer."""
    return Plan(head, [body] if body else [], length=len(body), executes=executed, keeps=executed)


def whole(reply: Reply) -> Plan:
    """The reply with nothing wrong."""
    head, content = reply.head(), reply.content
    if isinstance(content, bytes):
        body = [content] if content else []
        return Plan(head, body, length=len(content), before_s=reply.work_s, executes=reply.runs_model, keeps=True)
    return Plan(head, _timeline(content, reply.answer, reply.seed), executes=True, keeps=True)


def split(stream: EventStream, body: Sequence[Item], events: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """A timeline up to right after so many events, and the rest of it."""
    writes = len(stream.comments) + events
    for index, item in enumerate(body):
        if writes == 0:
            return body[:index], body[index:]
        writes -= isinstance(item, bytes)
    return body, []


def _timeline(stream: EventStream, answer: Answer, seed: str) -> list[Item]:
    """The events of a stream with the pauses of its pace."""
    pause = _pauses(answer.jitter_s, seed)
    items: list[Item] = [*stream.comments]
    if answer.ttft_s:
        items.append(pause(answer.ttft_s))
    items += stream.opening
    if answer.delay_s:
        for delta in stream.deltas:
            items += (delta, pause(answer.delay_s))
        if stream.deltas:
            items.pop()
    else:
        items += stream.deltas
    items += stream.closing
    if stream.done:
        items.append(stream.done)
    if answer.slow_terminator_s:
        items.append(pause(answer.slow_terminator_s))
    return items


def _pauses(jitter_s: float, seed: str) -> Callable[[float], Pause]:
    """Makes the pauses of one stream; even ones share one value, since a long stream has thousands."""
    if not jitter_s:
        made: dict[float, Pause] = {}
        return lambda seconds: made.setdefault(seconds, Pause(seconds))
    draw = random.Random(seed)
    return lambda seconds: Pause(max(0.0, draw.uniform(seconds - jitter_s, seconds + jitter_s)))
