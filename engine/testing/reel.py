"""Writes and pauses on their way, played by callbacks of the event loop.

A task that slept between two events would cost more than the event: here thousands of paced streams
share one timer (`pace`). Streams without a pace share one call in each turn of the loop, in which each
makes one write: whoever reads on the same loop can read every write by itself.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from aiohttp.web import RequestHandler

from .pace import Wheel
from .plan import Pause
from .sequence import Play


class Reel:
    """One answer on its way.

    Args:
        before_end: Called when the next write is the last that matters.
    """

    def __init__(
        self,
        plays: Sequence[Play],
        transport: asyncio.Transport,
        protocol: RequestHandler,
        wheel: Wheel,
        before_end: Callable[[], None],
    ) -> None:
        self._plays = plays
        self._transport = transport
        self._protocol = protocol
        self._wheel = wheel
        self._before_end = before_end
        self._loop = asyncio.get_running_loop()
        self._at = 0
        self._due = self._loop.time()  # moments are counted from the first, so that late wake-ups do not add up
        self._pause_end: float | None = None
        self._next_ping = math.inf
        self._slot = 0
        self._stop: asyncio.Future[bool]

    async def play_on(self) -> bool:
        """Play until the end, or until the client reads too slowly. Returns whether something is left."""
        self._stop = self._loop.create_future()
        self._go_on()
        try:
            return await self._stop
        finally:
            self._wheel.forget(self._slot, self._go_on)

    def _go_on(self) -> None:
        if self._stop.done():
            return
        try:
            self._play()
        except Exception as error:
            self._stop.set_exception(error)

    def _play(self) -> None:
        """Up to the next write, and it; then others have their turn, also when this is late."""
        while self._at < len(self._plays):
            play = self._plays[self._at]
            if isinstance(play, bytes):
                self._at += 1
                self._write(play)
                if not self._stop.done() and self._at < len(self._plays):
                    self._next()
                    return
            elif isinstance(play, Pause):
                if self._is_waiting(play):
                    return
                self._at += 1
            else:
                self._at += 1
                self._before_end()
        if not self._stop.done():
            self._stop.set_result(False)

    def _next(self) -> None:
        """Go on in a moment: when a pause is over that comes now, else after all others had their turn."""
        play = self._plays[self._at]
        if isinstance(play, Pause):
            if self._is_waiting(play):
                return
            self._at += 1
        self._wheel.call_soon(self._go_on)

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return  # the client is gone, and the cancellation on its way
        self._transport.write(data)
        if self._protocol.writing_paused:
            self._stop.set_result(True)

    def _is_waiting(self, pause: Pause) -> bool:
        """Be silent until `due` plus the pause. Returns whether that is still to come."""
        now = self._loop.time()
        if self._pause_end is None:
            self._pause_end = self._due + pause.seconds
            self._next_ping = now + pause.ping_every_s
        if now >= self._pause_end:
            self._due, self._pause_end = self._pause_end, None
            return False
        if now >= self._next_ping:
            self._next_ping = now + pause.ping_every_s
            self._write(pause.ping)
            if self._stop.done():
                return True
        moment = min(self._pause_end, self._next_ping)
        if moment < math.inf:
            self._slot = self._wheel.call_at(moment, self._go_on)
        return True
