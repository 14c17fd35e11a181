"""`ModelEngine`, blocking."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.middleware.stack import AnyMiddleware

from ..clock import SYSTEM_CLOCK, Clock
from ..config import ModelConfig
from ..credential import KeySource
from ..exchange import Operation
from ..gateways import Gateway, Request
from ..model_engine import ModelEngine as AsyncModelEngine
from ..types import EmbeddingResponse, Health, LLMResponse, Messages, ModelInfo, OnBreak, Timeouts
from .batch_results import BatchResults
from .loop_thread import LoopFactory
from .stream import ChatStream
from .twin import Twin

if TYPE_CHECKING:
    import aiohttp

    from ..batch.batch import BatchConcurrency, OnError
    from ..batch.feed import Rows
    from ..batch.row_retry import RowRetry
    from ..verdict import Answer

T = TypeVar("T")


class ModelEngine(Twin):
    """Calls one model at one gateway, and blocks until the answer is there.

    Use it as ``with``, or call `start` and `stop`. One engine serves any number of threads at a time. It is not used in
    a thread in which an event loop runs; there is `penstock.ModelEngine` for that.

    Ctrl-C ends a call or the wait for a chunk at once, with its connection. An engine that is never stopped is closed
    when it is forgotten, or when the interpreter ends. A forked child makes its own.

    Args:
        model_or_config: The model's name, a `ModelConfig`, a mapping or an object of that shape.
        gateway: Name of the gateway, or a `Gateway`. `None` takes the configuration's ``engine``.
        base_url: Where the gateway is, with or without a trailing ``/v1``. `None` takes the configuration's, else the
            gateway's own.
        api_key: The key, or a function (sync or async) that returns it, asked for each attempt. It runs in the loop's
            thread. `None` takes the key from the environment.
        middleware: The whole stack, outermost first. `None` is `default_stack()`, with the configuration's
            ``max_attempts``.
        timeouts: The clocks. `None` is `Timeouts()`, with the configuration's ``timeout`` and ``timeout_connect``.
        params: Defaults of the request body, over the configuration's.
        default_headers: Headers of every request, over those the engine sets.
        on_break: What to do when a stream breaks off after output: raise, keep what came, or begin anew; see
            `penstock.ChatStream`.
        allow_http: Whether a key may go over plain ``http://`` to another machine, where everybody on the way can
            read it.
        session: A function that makes a session to use as it is, with its proxies, TLS and limits. It is called on the
            engine's loop at each start, and what it made is closed at the stop. `None` makes one.
        clock: Where time comes from.
        loop_factory: Makes the event loop, for instance ``uvloop.new_event_loop``. `None` is asyncio's own.

    Raises:
        ConfigurationError: Something in it cannot work; nothing has been opened.
    """

    def __init__(
        self,
        model_or_config: str | ModelConfig | Mapping[str, Any] | Any,
        *,
        gateway: str | Gateway | None = None,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        middleware: Sequence[AnyMiddleware] | None = None,
        timeouts: Timeouts | None = None,
        params: Mapping[str, Any] | None = None,
        default_headers: Mapping[str, str] | None = None,
        on_break: OnBreak = "raise",
        allow_http: bool = False,
        session: Callable[[], aiohttp.ClientSession] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        loop_factory: LoopFactory | None = None,
    ) -> None:
        self._wrap(
            AsyncModelEngine,
            model_or_config,
            gateway=gateway,
            base_url=base_url,
            api_key=api_key,
            middleware=middleware,
            timeouts=timeouts,
            params=params,
            default_headers=default_headers,
            on_break=on_break,
            allow_http=allow_http,
            session=session,
            clock=clock,
            loop_factory=loop_factory,
        )

    def call(self, messages: Messages, **params: Any) -> dict[str, Any]:
        """Ask for an answer and return the JSON object as it came.

        Args:
            messages: A text (one user message), one message, or a sequence of messages.
            params: Members of the body, and `CallOptions`.

        Raises:
            InvalidRequestError: The messages are empty, or something cannot be encoded; nothing was sent.
            ModelEngineError: The call failed, see `penstock.engine.errors`.
        """
        return self._run(self._engine.call(messages, **params))

    def chat_completion(self, messages: Messages, **params: Any) -> LLMResponse:
        """Ask for an answer. Arguments and errors as for `call`."""
        return self._run(self._engine.chat_completion(messages, **params))

    def stream_call(self, messages: Messages, **params: Any) -> ChatStream:
        """Ask for a streamed answer. Nothing is sent before the stream is read.

        ``stream_options={"include_usage": True}`` is set unless given; ``stream_options=None`` leaves it out.
        Arguments as for `call`; errors of the call are raised where the stream is read.
        """
        return self._stream(self._engine.stream_call(messages, **params))

    def stream_chat_completion(self, messages: Messages, **params: Any) -> ChatStream:
        """As `stream_call`, under the name that goes with `chat_completion`."""
        return self._stream(self._engine.stream_chat_completion(messages, **params))

    def embed(self, input: str | Sequence[Any], **params: Any) -> EmbeddingResponse:
        """Ask for the vectors of a text, of a list of texts, or of lists of tokens.

        Args:
            input: At least one text. Vectors come in the same order.
            params: Members of the body (``dimensions=256``), and `CallOptions`. Defaults of the engine's body are not
                used here.
        """
        return self._run(self._engine.embed(input, **params))

    def request(self, request: Request, decode: Callable[[Answer], T], **options: Any) -> T:
        """Send any request of the gateway through the stack, and decode its success.

        Args:
            request: What to ask, see `penstock.engine.gateways.Request`.
            decode: Makes the result of the whole answer, in the loop's thread; raises a `ModelEngineError` for one that
                it cannot read.
            options: `CallOptions`.
        """
        return self._run(self._engine.request(request, decode, **options))

    def stream_request(self, request: Request, **options: Any) -> ChatStream:
        """As `request`, for a streamed answer, decoded as the gateway's streams are. Nothing is sent before it is
        read.
        """
        return self._stream(self._engine.stream_request(request, **options))

    def batch(
        self,
        rows: Rows,
        *,
        concurrency: BatchConcurrency = 64,
        ordered: bool = False,
        on_error: OnError = "record",
        journal: str | os.PathLike[str] | None = None,
        row_attempts: int | RowRetry | None = None,
        row_deadline: float | None = None,
    ) -> BatchResults:
        """Ask for the answers of many rows, so many at a time, and give out a result for each. Nothing is read before
        the first result is asked for.

        Args:
            rows: Any iterable or async iterable of prompts, messages or mappings, see `BatchRow.of`. It is read in the
                loop's thread.
            concurrency: Rows in flight: a number; ``"auto"`` or an `AdaptiveConcurrency` for a limit that finds itself.
            ordered: Whether results come in the order of the rows. Else they come as they are completed.
            on_error: Whether the failure of a row is a result (``"record"``), or ends the iteration (``"raise"``).
            journal: Path of a journal, with which a run that was killed goes on when it is made again. `None` keeps
                nothing.
            row_attempts: Calls for a row in all, each with the attempts of the engine's own retry; 3 by default.
            row_deadline: Seconds for a row over all calls and waits. `None` leaves it to the clocks of each call.
        """
        results = self._engine.batch(
            rows,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            journal=journal,
            row_attempts=row_attempts,
            row_deadline=row_deadline,
        )
        return BatchResults(results, self._usable(), self)

    def models(self, **options: Any) -> tuple[ModelInfo, ...]:
        """The models that the gateway offers."""
        return self._run(self._engine.models(**options))

    def health(self, **options: Any) -> Health:
        """Ask the gateway's health path once, without retries. An answer that it is not ready is a result, not an
        error.
        """
        return self._run(self._engine.health(**options))

    def probe(self, operation: Operation, **options: Any) -> Health:
        """As `health`, of any operation that tells how the gateway is."""
        return self._run(self._engine.probe(operation, **options))
