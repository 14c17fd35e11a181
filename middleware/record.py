"""Writes down what the wire delivered, read by read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from penstock.engine.cassette.deck import CassettePath, Deck, Mode, recorded
from penstock.engine.cassette.matching import DEFAULT_MATCH, Match
from penstock.engine.cassette.take import Take
from penstock.engine.exchange import PLAIN_SESSION, context_of

from .places import WIRE
from .replay import body_of, play


class Record:
    """Records every attempt into a cassette, or plays it when there is one.

    What is recorded is what the connection delivered: each read of the body by itself with its time, the head, and how
    it ended, a lost connection and a clock that ran out among it. Secrets are taken out before anything is written.
    One object serves any number of engines, sessions, tasks and threads at a time; two objects cannot record into the
    same file at the same time.

    Needs on the request: nothing. Adds: nothing. Runs the handler once, or not at all on a plain session that is
    answered from the cassette. Stands at the wire, inside everything, so that each attempt is recorded by itself, and
    what is played goes through the same `Retry`, `Limiter`, `Classify`, clocks and decoder as what came over a
    network. In the engine the recorder sits between transport and session, whatever stands further in.

    Args:
        path: The cassette.
        mode: ``"once"`` records when there is no file, and else plays it. ``"none"`` plays, and a request that is not
            recorded is an error. ``"all"`` records anew; what was there is replaced with the first request.
        match: When it plays: what of a request is compared, some of ``"method"``, ``"host"``, ``"path"`` (with its
            query), ``"body"`` (JSON by value) and ``"headers"`` (without those that change), or a function of the
            recorded and the asked one.
        speed: When it plays: how many times as fast as recorded; 0 is at once.

    Raises:
        ConfigurationError: An option cannot work.
        CassetteError: On a request: the file cannot be written or read, or another object records into it.
        CassetteMismatchError: On a request: it plays, and nothing recorded answers.
    """

    place: ClassVar[int] = WIRE

    def __init__(
        self, path: CassettePath, *, mode: Mode = "once", match: Match = DEFAULT_MATCH, speed: float = 1.0
    ) -> None:
        self._deck = Deck("Record", path, mode, match=match, speed=speed)

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        if self._deck.library is not None:
            return await play(self._deck, request, handler)
        context = context_of(request)
        body = await body_of(request)
        takes: list[Take] = []

        async def wire(send: Callable[[], Awaitable[Any]]) -> Any:
            takes.append(self._deck.take(request.method, request.url, request.headers, body, context.secrets))
            return await recorded(takes[-1], send)

        try:
            if context.target is PLAIN_SESSION:
                return await wire(lambda: handler(request))
            context.wire = wire
            try:
                return await handler(request)
            finally:
                context.wire = None
        except BaseException as error:
            for take in takes:
                take.lost(error)  # such as a clock; nothing when it is known already
            raise
