"""One timer for everything that is paced, and one turn for everything that is not."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable

_SLOTS_PER_S = 1000  # what the clocks of event loops tell apart


class Wheel:
    """Calls back at given moments, those of one millisecond together, or in the next turn of the event loop.

    A timer of the event loop for each of thousands of streams costs more than what they write. Here a
    moment costs an entry in a list, and the loop has one timer at most, and one call in each turn.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, list[Callable[[], None]]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_slot = 0
        self._is_turning = False
        self._ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back once, in the next turn of the event loop, in the order of those who ask."""
        if not self._ready:
            self._loop.call_soon(self._go_round)
        self._ready.append(callback)

    def call_at(self, moment: float, callback: Callable[[], None]) -> int:
        """Call back once, up to a millisecond after this moment of the loop's clock. Returns what `forget` asks for."""
        slot = math.ceil(moment * _SLOTS_PER_S)
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.append(callback)
            return slot
        self._slots[slot] = [callback]
        heapq.heappush(self._order, slot)
        self._set_timer()
        return slot

    def forget(self, slot: int, callback: Callable[[], None]) -> None:
        """Do not call back. Harmless when it has been done."""
        waiting = self._slots.get(slot, [])
        if callback not in waiting:
            return
        waiting.remove(callback)
        if not waiting:
            del self._slots[slot]
            self._order.remove(slot)
            heapq.heapify(self._order)
            self._set_timer()

    def _go_round(self) -> None:
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()

    def _set_timer(self) -> None:
        if self._is_turning:
            return
        if self._timer is not None:
            if self._order and self._order[0] == self._timer_slot:
                return
            self._timer.cancel()
            self._timer = None
        if self._order:
            self._timer_slot = self._order[0]
            self._timer = self._loop.call_at(self._timer_slot / _SLOTS_PER_S, self._turn)

    def _turn(self) -> None:
        """Call back all whose moment has come."""
        self._timer = None
        self._is_turning = True
        now = self._loop.time() * _SLOTS_PER_S
        while self._order and self._order[0] <= now:
            for callback in self._slots.pop(heapq.heappop(self._order)):
                callback()
        self._is_turning = False
        self._set_timer()
