"""What goes on the wire for one request, byte by byte.

A plan is what steps and answers are turned into, and all that the wire has to understand. It holds
bytes, pauses and an end, and no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from .answers import Chunking


class Ending(Enum):
    """How an exchange ends."""

    COMPLETE = "complete"
    """The body ends as HTTP says; the connection can serve the next request."""
    CLOSE = "close"
    """The connection is closed (FIN) after what was written has left."""
    RESET = "reset"
    """The connection is reset (RST) after what was written was handed to the kernel."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for so many seconds, `math.inf` for ever; `ping` is written every `ping_every_s`."""

    seconds: float
    ping: bytes = b""
    ping_every_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Unframed:
    """Bytes of a chunked body that are no chunk."""

    data: bytes


Item = bytes | Pause | Unframed
"""One write, or a pause between two."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers, without those that frame the body (length, chunking, connection)."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One exchange from the moment the request was accepted.

    Args:
        head: `None` sends no byte at all.
        body: Writes and pauses in order.
        length: The content length to announce; `None` announces a chunked body.
        before_s: Seconds of silence before the head; `math.inf` is for ever.
        interim: Writes and pauses after that silence and before the head, as they are.
        after: Written as it is right after the end of the body.
        write_size: Bytes of each write, head and framing included, with `write_every_s` seconds between;
            `None` writes what is there.
        executes: The model runs for this request: once `before_s` is over, it counts as run.
        keeps: The answer is kept under the request's idempotency key.
    """

    head: Head | None
    body: Sequence[Item] = ()
    length: int | None = None
    before_s: float = 0.0
    interim: Sequence[bytes | Pause] = ()
    after: bytes = b""
    write_size: int | None = None
    write_every_s: float = 0.0
    ending: Ending = Ending.COMPLETE
    executes: bool = False
    keeps: bool = False

    @property
    def is_stream(self) -> bool:
        return self.head is not None and self.length is None


def rechunk(body: Iterable[Item], chunking: Chunking) -> list[Item]:
    """Cut the writes between two pauses anew: `"event"` as they are, `"whole"` as one, or n bytes each.

    Empty writes are left out: an empty chunk would be the last one.
    """
    if chunking == "event":
        return [item for item in body if item]
    items: list[Item] = []
    run: list[bytes] = []
    for item in (*body, None):
        if isinstance(item, bytes):
            run.append(item)
            continue
        joined = b"".join(run)
        size = chunking if isinstance(chunking, int) else max(len(joined), 1)
        items += [joined[start : start + size] for start in range(0, len(joined), size)]
        run.clear()
        if item is not None:
            items.append(item)
    return items
