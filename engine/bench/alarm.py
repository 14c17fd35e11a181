"""A timer that is not rounded to milliseconds.

Event loops wait for whole milliseconds (`epoll_wait`), so a request would start up to one too late, and half of one on
the average: more than all the rest of what this client adds. On Linux a `timerfd` ends the wait at the moment itself;
elsewhere it is the loop's own timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

_CLOCK_MONOTONIC = 1  # the clock of `time.monotonic_ns` on Linux
_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls back once at a moment of `time.monotonic_ns`, which may be set anew as often as one likes.

    Bound to the running loop; to be closed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback: Callable[[], None] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._file = _new_timer()
        if self._file is not None:
            self._loop.add_reader(self._file, self._ring)

    @property
    def is_precise(self) -> bool:
        return self._file is not None

    def set(self, moment: int, callback: Callable[[], None]) -> None:
        """Call back at this moment, in a later turn of the loop also when it is past; what was set before is off."""
        self._callback = callback
        if self._file is not None:
            moment = max(moment, 1)  # 0 turns a timerfd off
            spec = _Itimerspec(_Timespec(0, 0), _Timespec(moment // _NS, moment % _NS))
            _LIBC.timerfd_settime(self._file, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(moment / _NS, self._ring)

    def close(self) -> None:
        """Call back no more. Twice is harmless."""
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _ring(self) -> None:
        if self._file is not None:
            with contextlib.suppress(BlockingIOError):  # it was set anew in the same turn of the loop
                os.read(self._file, 8)
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _new_timer() -> int | None:
    """A `timerfd`, `None` where there is none."""
    if not hasattr(_LIBC, "timerfd_create"):
        return None
    file: int = _LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return file if file >= 0 else None
