"""What breaks HTTP itself, or strains it, around an answer that would have been fine.

What none of these can say, `raw()` can: bytes as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

from .answers import OWN_ANSWER, Answer, check_not_negative


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of an answer, head and framing included. `raw(b"...", 0.1, b"...")` makes one.

    Args:
        writes: Bytes; a text, which is sent as UTF-8; or a number, so many seconds of silence.
        end: `"close"` (FIN) or `"reset"` (RST) the connection, `"hang"` says nothing more and leaves it
            open, `"keep"` takes the next request on it.
        executed: The model ran, and its answer is kept under the idempotency key.
    """

    kind: ClassVar[str] = "raw"

    writes: Sequence[bytes | str | float]
    _: KW_ONLY
    end: Literal["close", "reset", "hang", "keep"] = "close"
    executed: bool = False
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        for write in self.writes:
            if isinstance(write, (int, float)):
                check_not_negative(pause_s=write)
        object.__setattr__(self, "writes", tuple(map(_as_text, self.writes)))


def _as_text(write: bytes | str | float) -> bytes | str | float:
    """Bytes as the text that they are, if they are one: so a script can be read."""
    try:
        return write.decode() if isinstance(write, bytes) else write
    except UnicodeDecodeError:
        return write


def raw(
    *writes: bytes | str | float, end: Literal["close", "reset", "hang", "keep"] = "close", executed: bool = False
) -> Raw:
    """A `Raw` of these writes and pauses."""
    return Raw(writes, end=end, executed=executed)


@dataclass(frozen=True, slots=True)
class Drip:
    """The whole response, head and framing too, in writes of `size` bytes with `every_s` seconds between."""

    kind: ClassVar[str] = "drip"

    every_s: float = 0.0
    _: KW_ONLY
    size: int = 1
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(every_s=self.every_s)
        if self.size < 1:
            raise ValueError(f"size is at least 1 byte a write, not {self.size}")


@dataclass(frozen=True, slots=True)
class Interim:
    """Informational responses (1xx) before the answer, `every_s` seconds apart.

    `times=None` sends them for ever, and no answer.
    """

    kind: ClassVar[str] = "interim"

    status: int = 103
    _: KW_ONLY
    times: int | None = 1
    every_s: float = 0.0
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 199 or self.status == 101:  # 101 is final: another protocol follows
            raise ValueError(f"interim() takes a status from 100 to 199 and not 101, not {self.status}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"interim() happens at least once, not {self.times} times")
        check_not_negative(every_s=self.every_s)
        if self.times is None and self.every_s == 0:
            raise ValueError("interim(times=None) needs every_s above 0, or it would fill the memory of its reader")


@dataclass(frozen=True, slots=True)
class BadChunkSize:
    """After so many events of a chunked body a chunk whose size is no number; then the connection is closed.

    An answer that is not streamed is sent in chunks, too: half of it, then the bad one.
    """

    kind: ClassVar[str] = "bad_chunk_size"

    _: KW_ONLY
    after_events: int = 2
    size: str = "xyz"
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(after_events=self.after_events)


@dataclass(frozen=True, slots=True)
class StrayBytes:
    """A complete answer, and in the same write bytes that nobody asked for. The connection stays open."""

    kind: ClassVar[str] = "stray_bytes"

    data: str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
    _: KW_ONLY
    of: Answer = OWN_ANSWER


@dataclass(frozen=True, slots=True)
class LargeHeaders:
    """An answer with `count` more headers, each with a value of `size` bytes. Most clients take 8 kB or 16 kB."""

    kind: ClassVar[str] = "large_headers"

    size: int = 16_000
    _: KW_ONLY
    count: int = 1
    of: Answer = OWN_ANSWER

    def __post_init__(self) -> None:
        check_not_negative(size=self.size, count=self.count)
