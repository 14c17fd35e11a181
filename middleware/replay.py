"""Answers from a cassette in place of the network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from penstock.engine.cassette.deck import CassettePath, Deck
from penstock.engine.cassette.library import Interaction
from penstock.engine.cassette.matching import DEFAULT_MATCH, Match
from penstock.engine.exchange import PLAIN_SESSION, context_of

from .places import WIRE


class Replay:
    """Answers every attempt from a cassette, byte for byte and in its time. Nothing is sent.

    The answer takes the way of one from the network: the engine's clocks, decoder, `Retry` and `Limiter` do not know
    the difference. Equal requests get their answers in the order of the recording, each once; a request that is not
    recorded is a `CassetteMismatchError` that shows the nearest one, and is not retried.

    Needs on the request: nothing. Adds: nothing. Runs the handler once in the engine, where only the session is
    passed over, and not at all on a plain session. Stands at the wire, inside everything, as `Record`.

    Args:
        path: The cassette. It is read at the first request.
        speed: How many times as fast as it was recorded; 0 is at once.
        match: What of a request is compared, as for `Record`.

    Raises:
        ConfigurationError: An option cannot work.
        CassetteError: On a request: the file cannot be read.
        CassetteMismatchError: On a request: nothing recorded answers it. On a read: the recording was left there.
    """

    place: ClassVar[int] = WIRE

    def __init__(self, path: CassettePath, *, speed: float = 1.0, match: Match = DEFAULT_MATCH) -> None:
        self._deck = Deck("Replay", path, "none", match=match, speed=speed)

    @property
    def unplayed(self) -> list[Interaction]:
        """Recorded requests that nobody has made yet, in their order."""
        library = self._deck.library
        assert library is not None  # its mode is "none"
        return library.unplayed

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await play(self._deck, request, handler)


async def play(deck: Deck, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """Have a request answered from the deck's cassette."""
    context = context_of(request)
    body = await body_of(request)

    async def wire(send: Callable[[], Awaitable[Any]]) -> Any:
        return await deck.play(request.method, request.url, request.headers, body, context.secrets)

    if context.target is PLAIN_SESSION:
        return await wire(lambda: handler(request))
    context.wire = wire
    try:
        return await handler(request)
    finally:
        context.wire = None


async def body_of(request: Any) -> bytes | None:
    """The body of a request as bytes. On a plain session one that comes from a generator is kept for sending."""
    body = request.body
    if body is None or isinstance(body, bytes):
        return body or None
    whole: bytes = await body.as_bytes()
    return whole
