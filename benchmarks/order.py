"""What a client asks of the load server. It stands in the prompt, so that every client can say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

_PATTERN = re.compile(rb"corpus=[\w=&.+-]+")


@dataclass(frozen=True)
class Order:
    """A stream to send.

    Args:
        corpus: See `corpora`.
        pieces: Events with text in it.
        write: Bytes of a write, of streams without a pace; 1 is an event a write.
        rate: Events per second. 0 is without a pace: as fast as the socket takes them.
        joins: Streams of the same order that have to be open before the paced ones among them go on after their first
            piece.
        stamped: Whether the text of a paced event is the time at which it was written, as ``time.monotonic_ns()`` has
            it, and a space.
        first: Seconds from a request to its first piece, of paced streams that do not wait for one another, see
            `bench_server`.
        spread: And up to so many seconds more, at random.
        number: Tells orders apart that are otherwise alike.
    """

    corpus: str = "openai"
    pieces: int = 2000
    write: int = 16384
    rate: float = 0.0
    joins: int = 1
    stamped: bool = False
    first: float = 0.0
    spread: float = 0.0
    number: int = 0

    @property
    def prompt(self) -> str:
        return urlencode({name: int(value) if value is True else value for name, value in vars(self).items() if value})

    @classmethod
    def found_in(cls, body: bytes) -> Order | None:
        """The order in the body of a request. `None` when there is none."""
        match = _PATTERN.search(body)
        if match is None:
            return None
        given = dict(parse_qsl(match[0].decode()))
        name = given.pop("corpus")
        return cls(name, **{field: type(getattr(cls, field))(float(value)) for field, value in given.items()})
