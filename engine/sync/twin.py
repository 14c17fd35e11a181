"""What all blocking engines have: the engine they stand for, its loop, its life."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..config import ModelConfig
from ..errors import ConfigurationError, EngineClosedError, EngineNotStartedError, ModelEngineError
from ..gateways import Gateway
from ..model_engine import ModelEngine as AsyncModelEngine
from ..stream import ChatStream as AsyncChatStream
from ..types import Timeouts
from .loop_thread import LoopFactory, LoopThread, refuse_inside_loop
from .stream import ChatStream

if TYPE_CHECKING:
    import aiohttp
    from multidict import CIMultiDictProxy
    from typing_extensions import Self

P = ParamSpec("P")
T = TypeVar("T")


class Twin:
    """Stands for an engine, and runs it on a loop of its own.

    A subclass calls `_wrap` in its constructor. Its methods are made by `blocking` and `blocking_stream`, or written
    with `_engine`, `_run` and `_stream`.
    """

    def _wrap(
        self,
        kind: Callable[..., AsyncModelEngine],
        *arguments: Any,
        session: Callable[[], aiohttp.ClientSession] | None = None,
        loop_factory: LoopFactory | None = None,
        **options: Any,
    ) -> None:
        """Stand for an engine of this class.

        Args:
            kind: The class.
            arguments: Of its constructor.
            session: Makes the session, on the loop, at each start; it is closed at the stop. `None` leaves it to the
                engine.
            loop_factory: Makes the loop. `None` is asyncio's own.
            options: Of its constructor.
        """
        if session is not None and not callable(session):
            raise ConfigurationError("session= is a function that makes one: a session belongs to an event loop")
        self._session = session
        self._loop_factory = loop_factory
        self._make = partial(kind, *arguments, **options)
        self._made = self._make(session=None)
        self._loop_thread: LoopThread | None = None
        self._was_started = False
        self._starting = threading.Lock()

    def __repr__(self) -> str:
        return f"<sync.{repr(self._made)[1:]}"

    @property
    def config(self) -> ModelConfig:
        """The configuration it was made of."""
        return self._made.config

    @property
    def model_name(self) -> str | None:
        """The model it asks for. `None` where the gateway chooses."""
        return self._made.model_name

    @property
    def gateway(self) -> Gateway:
        """What it speaks."""
        return self._made.gateway

    @property
    def timeouts(self) -> Timeouts:
        """The clocks of its calls."""
        return self._made.timeouts

    @property
    def body_param_defaults(self) -> Mapping[str, Any]:
        """Defaults of the request body."""
        return self._made.body_param_defaults

    @property
    def default_headers(self) -> CIMultiDictProxy[str]:
        """Headers of every request."""
        return self._made.default_headers

    @property
    def base_url(self) -> str:
        """The root that paths are appended to, without a trailing ``/v1``."""
        return self._made.base_url

    @property
    def is_running(self) -> bool:
        return self._loop_thread is not None

    def start(self) -> None:
        """Start the loop's thread and open the session. Twice is harmless.

        Raises:
            WrongEventLoopError: An event loop runs in this thread.
        """
        refuse_inside_loop()
        with self._starting:
            if self._loop_thread is not None:
                self._loop_thread.check_usable()
                return
            loop_thread = LoopThread(self._loop_factory)
            try:
                self._made = loop_thread.run(self._opened(loop_thread.resources))
            except BaseException:
                loop_thread.stop()
                raise
            self._loop_thread, self._was_started = loop_thread, True
            self._forgotten: weakref.finalize[[], Twin] = weakref.finalize(self, loop_thread.request_stop)
            self._forgotten.atexit = False  # at exit `loop_thread` waits for the thread, too

    def stop(self) -> None:
        """Close open streams and the session, and end the thread. Twice is harmless; `start` opens it again.

        Calls that wait in other threads raise an `EngineClosedError`. In a forked child it does nothing: the engine is
        the parent's.
        """
        refuse_inside_loop()
        with self._starting:
            loop_thread, self._loop_thread = self._loop_thread, None
            if loop_thread is not None:
                self._forgotten.detach()
                loop_thread.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _engine(self) -> AsyncModelEngine:
        """The engine, for a call that is about to be made.

        Raises:
            EngineStateError: It cannot be used, or not from here.
        """
        self._usable()
        return self._made

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the engine and wait for it."""
        try:
            loop_thread = self._usable()
        except ModelEngineError:
            coroutine.close()
            raise
        return loop_thread.run(coroutine)

    def _stream(self, stream: AsyncChatStream) -> ChatStream:
        """The twin of a stream of the engine."""
        return ChatStream(stream, self._usable(), self)

    def _usable(self) -> LoopThread:
        if (loop_thread := self._loop_thread) is not None:
            loop_thread.check_usable()
            return loop_thread
        if self._was_started:
            raise EngineClosedError("the engine has been stopped", self.model_name, gateway=self.gateway.name)
        raise EngineNotStartedError("the engine has not been started", self.model_name, gateway=self.gateway.name)

    async def _opened(self, resources: AsyncExitStack) -> AsyncModelEngine:
        engine = self._made
        if self._session is not None:
            engine = self._make(session=await resources.enter_async_context(self._session()))
        return await resources.enter_async_context(engine)


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Twin, P], T]:
    """Make the twin of a coroutine method: the same name, arguments and text; it returns when there is a result."""

    @wraps(method)
    def call(self: Twin, /, *arguments: P.args, **options: P.kwargs) -> T:
        result: T = self._run(getattr(self._engine, method.__name__)(*arguments, **options))
        return result

    return call


def blocking_stream(
    method: Callable[Concatenate[Any, P], AsyncChatStream],
) -> Callable[Concatenate[Twin, P], ChatStream]:
    """Make the twin of a method that returns a stream: the same name, arguments and text, and a blocking stream."""

    @wraps(method)
    def call(self: Twin, /, *arguments: P.args, **options: P.kwargs) -> ChatStream:
        return self._stream(getattr(self._engine, method.__name__)(*arguments, **options))

    return call
