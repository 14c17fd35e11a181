"""Plans that break HTTP, or strain it."""

from __future__ import annotations

import math
from dataclasses import replace

from .answer_plans import split, whole
from .mishap_plans import half
from .plan import Ending, Head, Item, Pause, Plan, Unframed
from .reply import Reply, merge_headers
from .status import reason_phrase
from .violations import BadChunkSize, Drip, Interim, LargeHeaders, Raw, StrayBytes

_ENDINGS = {"close": Ending.CLOSE, "reset": Ending.RESET, "hang": Ending.COMPLETE, "keep": Ending.COMPLETE}


def raw(step: Raw) -> Plan:
    """The bytes and nothing else."""
    body: list[Item] = []
    for write in step.writes:
        if isinstance(write, (int, float)):
            body.append(Pause(write))
        elif write:
            body.append(write.encode() if isinstance(write, str) else write)
    if step.end == "hang":
        body.append(Pause(math.inf))
    return Plan(None, body, ending=_ENDINGS[step.end], executes=step.executed, keeps=step.executed)


def dripped(step: Drip, reply: Reply) -> Plan:
    """The answer, a few bytes at a time."""
    return replace(whole(reply), write_size=step.size, write_every_s=step.every_s)


def announced(step: Interim, reply: Reply) -> Plan:
    """Informational responses, then the answer."""
    head = f"HTTP/1.1 {step.status} {reason_phrase(step.status)}\r\n\r\n".encode()
    if step.times is None:
        # The first one at once, the others as signs of life in a silence that does not end.
        return Plan(None, interim=[head, Pause(math.inf, head, step.every_s)])
    interim = [item for _ in range(step.times) for item in (head, Pause(step.every_s))]
    return replace(whole(reply), interim=interim)


def badly_chunked(step: BadChunkSize, reply: Reply) -> Plan:
    """A chunk whose size is no number."""
    plan, content = whole(reply), reply.content
    bad = Unframed(f"{step.size}\r\nwhat is this\r\n".encode())
    if isinstance(content, bytes):
        before: list[Item] = [half(content)]
    else:
        before = list(split(content, plan.body, step.after_events)[0])
    return replace(plan, body=[*before, bad], length=None, ending=Ending.CLOSE)


def followed(step: StrayBytes, reply: Reply) -> Plan:
    """The answer, and more."""
    return replace(whole(reply), after=step.data.encode())


def with_large_headers(step: LargeHeaders, reply: Reply) -> Plan:
    """The answer with more headers."""
    plan = whole(reply)
    if plan.head is None:
        return plan
    more = {f"x-large-{number}": "x" * step.size for number in range(1, step.count + 1)}
    return replace(plan, head=Head(plan.head.status, merge_headers(plan.head.headers, more)))
