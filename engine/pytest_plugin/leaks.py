"""What a test has left open: streams, calls under way, slots of limiters, answers that the gateway still sends.

Connections that are kept for the next call are none of these.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import pytest

from penstock.middleware.limiter import Limiter

from ..exchange import Exchange, Reply
from ..model_engine import ModelEngine
from ..stream import ChatStream
from ..testing import Gateway

GRACE = 0.5  # seconds for what is ending when the test does; what was forgotten does not end by itself
_PAUSE = 0.005  # seconds between two looks
_PLACE = "_penstock_opened_at"  # attribute of a stream


class Watch:
    """Notes what is opened inside of `noting`, on every engine of the process, and says what of it is open.

    Args:
        gateway: The gateway of the test. `None` when it has none.
        traces: Whether to tell the whole way to where something was opened, not the line alone.
    """

    def __init__(self, gateway: Gateway | None, *, traces: bool = False) -> None:
        self._gateway = gateway
        self._place = _whole_way if traces else _line
        self._streams: WeakSet[ChatStream] = WeakSet()
        self._dropped: list[str] = []
        self._calls: dict[object, str] = {}
        # With how many were in use before: an engine of a whole session may serve others than this test.
        self._slots: WeakKeyDictionary[Limiter, int] = WeakKeyDictionary()
        self._answers: WeakKeyDictionary[ModelEngine, int] = WeakKeyDictionary()

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what is opened inside of the block."""
        commit, init, finalize = ModelEngine._committed, ChatStream.__init__, ChatStream.__del__

        async def note_call(engine: ModelEngine, exchange: Exchange, handler: Callable[[Any], Awaitable[Any]]) -> Reply:
            self._note_engine(engine)
            self._calls[exchange] = f"{exchange!r}, in {_task_name()}, {self._place()}"
            try:
                return await commit(engine, exchange, handler)
            finally:
                del self._calls[exchange]

        def note_stream(stream: ChatStream, *args: Any, **options: Any) -> None:
            init(stream, *args, **options)
            setattr(stream, _PLACE, self._place())
            self._streams.add(stream)

        def note_drop(stream: ChatStream) -> None:
            if _is_open(stream):
                self._dropped.append(f"stream: {stream!r}, dropped without aclose(), {getattr(stream, _PLACE, '')}")
                self._streams.discard(stream)  # told once, also when what closes it keeps it for a while
            finalize(stream)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ModelEngine, "_committed", note_call)
            patch.setattr(ChatStream, "__init__", note_stream)
            patch.setattr(ChatStream, "__del__", note_drop)
            yield

    def found(self) -> list[str]:
        """What is open now, a text for each."""
        found = list(self._dropped)
        found += [f"stream: {each!r}, {getattr(each, _PLACE)}" for each in tuple(self._streams) if _is_open(each)]
        found += [f"call: {text}" for text in tuple(self._calls.values())]
        if not found:  # else these are theirs
            found += [
                f"connection: {number} of {engine!r}, with an answer that no middleware released"
                for engine, before in tuple(self._answers.items())
                if (number := len(engine._transport._replies) - before) > 0
            ]
        found += [
            f"slot: {number} of {limiter!r}"
            for limiter, before in tuple(self._slots.items())
            if (number := limiter.in_flight - before) > 0
        ]
        if not found and self._gateway is not None:
            found += [f"connection: the gateway still answers {c!r}" for c in self._gateway.calls if _is_running(c)]
        return found

    async def settled(self) -> list[str]:
        """As `found`, when what is ending has had the time to."""
        end = time.monotonic() + GRACE
        while (found := self.found()) and time.monotonic() < end:  # noqa: ASYNC110  # nobody tells of all of these
            await asyncio.sleep(_PAUSE)
        return found

    def settled_here(self) -> list[str]:
        """As `settled`, for a test that blocks."""
        end = time.monotonic() + GRACE
        while (found := self.found()) and time.monotonic() < end:
            time.sleep(_PAUSE)
        return found

    def _note_engine(self, engine: ModelEngine) -> None:
        if engine not in self._answers:
            self._answers[engine] = len(engine._transport._replies)
            for middleware in engine._middleware:
                if isinstance(middleware, Limiter):
                    self._slots.setdefault(middleware, middleware.in_flight)


def report(found: list[str]) -> str:
    """What the failed test is told."""
    return "\n  ".join(("the test left open:", *found))


def _is_open(stream: ChatStream) -> bool:
    return stream._reply is not None and not stream._is_closed


def _is_running(call: Any) -> bool:
    return bool(call.outcome == "running")


def _task_name() -> str:
    task = asyncio.current_task()
    assert task is not None
    return f"task {task.get_name()!r} of {getattr(task.get_coro(), '__qualname__', '?')}"


def _line() -> str:
    """Where the program called us."""
    frame = next(_frames(), None)
    if frame is None:
        return "from a task that does nothing else"
    return f"from {frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"


def _whole_way() -> str:
    """How the program came to call us, the outermost first."""
    lines = [traceback.FrameSummary(f.f_code.co_filename, f.f_lineno, f.f_code.co_name) for f in _frames()]
    return "from\n" + "".join(traceback.format_list(lines[::-1])).rstrip() if lines else _line()


def _frames() -> Iterator[FrameType]:
    """The program's frames, the innermost first: from where it calls us out to the event loop, or to pytest."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and _package(frame) not in ("_pytest", "asyncio", "threading"):
        if _package(frame) not in ("contextlib", "penstock"):
            yield frame
        frame = frame.f_back


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
