"""The engine: one model at one gateway, its session, its stack, and the calls one can make."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import orjson
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from penstock.middleware.idempotency import Idempotency
from penstock.middleware.places import BREAKER, LIMITER, RETRY
from penstock.middleware.policy import Ambiguous
from penstock.middleware.retry import Retry
from penstock.middleware.stack import AnyHandler, AnyMiddleware, checked_stack, compose, default_stack

from .clock import SYSTEM_CLOCK, Clock
from .config import (
    ENGINE_PARAMETERS,
    ModelConfig,
    frozen,
    header_texts,
    query_pairs,
    resolve_credential,
    resolve_gateway,
    resolve_root,
)
from .credential import KeySource, check_plain_http
from .errors import (
    ConfigurationError,
    EngineClosedError,
    EngineNotStartedError,
    ForkedProcessError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    WrongEventLoopError,
)
from .exchange import CallContext, Exchange, Operation, Reply, Target
from .gateways import Gateway, Request
from .headers import credentials_in
from .stream import ChatStream
from .timers import TaskLimit
from .transport import Transport
from .types import EmbeddingResponse, Health, LLMResponse, Messages, ModelInfo, OnBreak, Timeouts

if TYPE_CHECKING:
    import aiohttp
    from typing_extensions import Self

    from .batch.batch import BatchConcurrency, OnError
    from .batch.batch_results import BatchResults
    from .batch.feed import Rows
    from .batch.row_retry import RowRetry
    from .verdict import Answer

T = TypeVar("T")


@dataclass(frozen=True)
class CallOptions:
    """What a call may say beside its body. Given as keyword arguments of the same names; they do not go into the body.

    Args:
        timeouts: Clocks for this call, in place of the engine's.
        timeout: Seconds for the whole call: its deadline.
        idempotency_key: The caller's own key, 1 to 255 characters of visible ASCII.
        extra_headers: Headers for this call, over the engine's.
        extra_query: Names and values for the query, beside the engine's.
        extra_body: Members of the body, over all others.
        on_break: What to do when a stream breaks off after output, in place of the engine's. Of no effect on others.
    """

    timeouts: Timeouts | None = None
    timeout: float | None = None
    idempotency_key: str | None = None
    extra_headers: Mapping[str, str] | None = field(default=None, repr=False)  # may hold keys, and so may the query
    extra_query: Mapping[str, str] | None = field(default=None, repr=False)
    extra_body: Mapping[str, Any] | None = None
    on_break: OnBreak | None = None


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A unary call whose body is encoded: what is sent is settled, and nothing of it has an address or a key. Pickles.

    Args:
        operation: What is asked for.
        model: The model asked for. `None` where the gateway chooses.
        body: The JSON of the body, engine defaults in it.
        headers, query, secrets: As in `penstock.engine.gateways.Request`.
    """

    operation: Literal["chat", "embeddings"]
    model: str | None
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


_CALL_OPTIONS = tuple(CallOptions.__dataclass_fields__)
_CALL_OPTION_NAMES = frozenset(_CALL_OPTIONS)
_NO_OPTIONS = CallOptions()
_NOT_DEFAULTS = ENGINE_PARAMETERS | {"messages", "model", "stream", *_CALL_OPTIONS}  # of `params`


class ModelEngine:
    """Calls one model at one gateway.

    Use it as ``async with``, or call `start` and `stop`. One engine serves any number of calls at a time, on the
    event loop it was started on. All calls take the body's members as keyword arguments (``temperature=0``,
    ``tools=[...]``), and the names of `CallOptions` beside them.

    Args:
        model_or_config: The model's name, a `ModelConfig`, a mapping or an object of that shape.
        gateway: Name of the gateway, or a `Gateway`. `None` takes the configuration's ``engine``.
        base_url: Where the gateway is, with or without a trailing ``/v1``. `None` takes the configuration's, else the
            gateway's own.
        api_key: The key, or a function (sync or async) that returns it, asked for each attempt. `None` takes it from
            the environment (``OPENAI_API_KEY``, ``NVIDIA_API_KEY``, or the variable the configuration names).
        middleware: The whole stack, outermost first. `None` is `default_stack()`, with the configuration's
            ``max_attempts``, which has no place beside a stack.
        timeouts: The clocks, in place of the configuration's ``timeout`` and ``timeout_connect``. `None` is
            `Timeouts()` with these.
        params: Defaults of the request body, over the configuration's.
        default_headers: Headers of every request, over those the engine sets.
        on_break: What to do when a stream breaks off after output: raise, keep what came, or begin anew; see
            `ChatStream`.
        allow_http: Whether a key may go over plain ``http://`` to another machine, where everybody on the way can
            read it.
        session: A session to use as it is, with its proxies, TLS and limits; it is left open. `None` makes one.
        clock: Where time comes from.

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
        session: aiohttp.ClientSession | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.config = config = ModelConfig.of(model_or_config)
        self.model_name = config.model
        base_url = base_url if base_url is not None else config.parameters.get("base_url")
        self.gateway = resolve_gateway(gateway, config, base_url)
        if config.model is None and self.gateway.needs_model:
            raise ConfigurationError(f"gateway {self.gateway.name!r} wants to know which model: give its name")
        self._root = resolve_root(self.gateway, base_url)
        self._target = Target(
            self.gateway.name,
            self.gateway.judge,
            self._root.origin(),
            resolve_credential(self.gateway, config, api_key, self._root),
            self.gateway.auth_header,
            self.gateway.auth_scheme,
            allow_http,
        )
        self.timeouts, self._unary_deadline = _timeouts_of(config, timeouts)
        self.body_param_defaults = frozen({**config.body_defaults, **_checked_defaults(params or {})})
        headers = config.default_headers
        headers.update(header_texts("default_headers", default_headers))
        self.default_headers = CIMultiDictProxy(headers)
        self._default_query = config.default_query
        self._secrets = [*credentials_in(headers), *credentials_in(dict(self._default_query))]
        if not isinstance(allow_http, bool):
            raise ConfigurationError(f"allow_http= is true or false, not {type(allow_http).__name__}")
        has_credential = self._target.credential is not None or bool(self._secrets)
        check_plain_http(self._root, has_credential, allow_http)
        self._clock = clock
        self._middleware = checked_stack(_stack(config, middleware))
        self._sends_keys = any(isinstance(middleware, Idempotency) for middleware in self._middleware)
        self._on_break: OnBreak = self._checked_break(on_break)
        self._transport = Transport(session)
        self._handler: AnyHandler = compose(self._middleware, self._transport)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0  # the one it was started in
        self._was_started = False
        self._urls: dict[str, URL] = {}
        self._common_headers: dict[tuple[bool, bool], CIMultiDict[str]] = {}  # by: is it streamed, has it a body
        self._opening: dict[int, TaskLimit] = {}  # calls that have no answer yet, by the id of their context

    def __repr__(self) -> str:
        state = "running" if self._loop is not None else "stopped" if self._was_started else "not started"
        return f"<{type(self).__name__} {self.model_name!r} at {self.base_url}, {state}>"

    @property
    def base_url(self) -> str:
        """The root that paths are appended to, without a trailing ``/v1``."""
        return str(self._root).rstrip("/")

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    async def start(self) -> None:
        """Open the session on the running event loop. Twice is harmless.

        Raises:
            WrongEventLoopError: It runs on another event loop.
            ForkedProcessError: It runs in another process.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._transport.start()
            self._loop = loop
            self._process = os.getpid()
            self._was_started = True
            return
        self._check_process()
        if self._loop is not loop:
            raise self._wrong_loop()

    async def stop(self) -> None:
        """Close open streams and the session, if it is the engine's own. Twice is harmless; `start` opens it again.

        In a forked child it does nothing: the connections are the parent's.
        """
        if self._loop is None or self._process != os.getpid():
            return
        if self._loop is not asyncio.get_running_loop():
            raise self._wrong_loop()
        self._loop = None
        for limit in tuple(self._opening.values()):
            limit.interrupt(EngineClosedError("the engine was stopped before an answer came"))
        await self._transport.stop()
        for middleware in self._middleware:  # one that holds connections opens them again when it is used again
            if (close := getattr(middleware, "aclose", None)) is not None:
                await close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def call(self, messages: Messages, **params: Any) -> dict[str, Any]:
        """Ask for an answer and return the JSON object as it came.

        Args:
            messages: A text (one user message), one message, or a sequence of messages.
            params: Members of the body, and `CallOptions`.

        Raises:
            InvalidRequestError: The messages are empty, or something cannot be encoded; nothing was sent.
            ModelEngineError: The call failed, see `penstock.engine.errors`.
        """
        payload: dict[str, Any] = await self._answer(self._chat(messages, params, self.gateway.decode_object))
        return payload

    async def chat_completion(self, messages: Messages, **params: Any) -> LLMResponse:
        """Ask for an answer. Arguments and errors as for `call`."""
        exchange = self._chat(messages, params, self.gateway.decode_chat)
        response: LLMResponse = await self._answer(exchange)
        return _with_ledger(response, exchange.context)

    def stream_call(self, messages: Messages, **params: Any) -> ChatStream:
        """Ask for a streamed answer. Nothing is sent before the stream is read.

        ``stream_options={"include_usage": True}`` is set unless given; ``stream_options=None`` leaves it out.
        Arguments as for `call`; errors of the call are raised where the stream is read.
        """
        options, model, body = self._split(params, self.body_param_defaults)
        request = self.gateway.encode_chat(model, to_messages(messages), body, stream=True)
        exchange = self._exchange(request, options, self.gateway.stream_decoder, model=model, stream=True)
        return self._stream(exchange, options)

    def stream_chat_completion(self, messages: Messages, **params: Any) -> ChatStream:
        """As `stream_call`, under the name that goes with `chat_completion`."""
        return self.stream_call(messages, **params)

    async def embed(self, input: str | Sequence[Any], **params: Any) -> EmbeddingResponse:
        """Ask for the vectors of a text, of a list of texts, or of lists of tokens.

        Args:
            input: At least one text. Vectors come in the same order.
            params: Members of the body (``dimensions=256``), and `CallOptions`. Defaults of the engine's body are not
                used here.
        """
        if not isinstance(input, (str, list, tuple)) or not input:
            raise InvalidRequestError("there is nothing to embed: give a text or a list of texts", phase="not_sent")
        options, model, body = self._split(params, {})
        request = self.gateway.encode_embeddings(model, input, body)
        exchange = self._exchange(request, options, self.gateway.decode_embeddings, model=model)
        reply = await self._send(exchange)
        response: EmbeddingResponse = await reply.result()
        count = 1 if isinstance(input, str) or isinstance(input[0], int) else len(input)
        if len(response.embeddings) != count:
            got = len(response.embeddings)
            text = f"{got} vectors came for {count} inputs"
            raise exchange.context.stamp(MalformedResponseError(text, status=reply.status, phase="before_output"))
        return _with_ledger(response, exchange.context)

    async def request(self, request: Request, decode: Callable[[Answer], T], **options: Any) -> T:
        """Send any request of the gateway through the stack, and decode its success.

        The typed operations of gateways are made of this; it also serves paths that have no method here.

        Args:
            request: What to ask, see `penstock.engine.gateways.Request`.
            decode: Makes the result of the whole answer; raises a `ModelEngineError` for one that it cannot read.
            options: `CallOptions`.
        """
        call_options = _options(options)
        exchange = self._exchange(_extended(request, call_options), call_options, decode)
        result: T = await self._answer(exchange)
        return _with_ledger(result, exchange.context)

    def stream_request(self, request: Request, **options: Any) -> ChatStream:
        """As `request`, for a streamed answer, decoded as the gateway's streams are. Nothing is sent before it is
        read.
        """
        call_options = _options(options)
        request = _extended(request, call_options)
        exchange = self._exchange(request, call_options, self.gateway.stream_decoder, stream=True)
        return self._stream(exchange, call_options)

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
            rows: Any iterable or async iterable of prompts, messages or mappings, see `BatchRow.of`.
            concurrency: Rows in flight: a number; ``"auto"`` or an `AdaptiveConcurrency` for a limit that finds itself.
            ordered: Whether results come in the order of the rows. Else they come as they are completed.
            on_error: Whether the failure of a row is a result (``"record"``), or ends the iteration (``"raise"``).
            journal: Path of a journal, with which a run that was killed goes on when it is made again. `None` keeps
                nothing.
            row_attempts: Calls for a row in all, each with the attempts of the engine's own retry; 3 by default.
            row_deadline: Seconds for a row over all calls and waits. `None` leaves it to the clocks of each call.

        Raises:
            ConfigurationError: An option cannot work. More options: `penstock.engine.batch.batch.Batch`.
        """
        from .batch.batch import Batch

        return Batch(
            self,
            journal=journal,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            row_attempts=row_attempts,
            row_deadline=row_deadline,
        ).results(rows)

    async def models(self, **options: Any) -> tuple[ModelInfo, ...]:
        """The models that the gateway offers."""
        exchange = self._exchange(Request(self.gateway.models), _options(options), self.gateway.decode_models)
        models: tuple[ModelInfo, ...] = await self._answer(exchange)
        return models

    async def health(self, **options: Any) -> Health:
        """Ask the gateway's health path once, without retries. An answer that it is not ready is a result, not an
        error.
        """
        return await self.probe(self.gateway.health, **options)

    async def probe(self, operation: Operation, **options: Any) -> Health:
        """As `health`, of any operation that tells how the gateway is."""
        self._check_usable()
        started = self._clock.monotonic()
        exchange = self._exchange(Request(operation), _options(options), _decode_anything)
        try:
            reply = await self._once(exchange)
            status, detail = reply.status, await reply.result()
        except ModelEngineError as error:
            return Health(False, error.status, str(error), self._clock.monotonic() - started)
        return Health(True, status, detail, self._clock.monotonic() - started)

    def _prepared(self, operation: Literal["chat", "embeddings"], members: Mapping[str, Any]) -> PreparedCall:
        """Encode a unary call of which all members are data: none of them is taken for an option of the call."""
        if not _CALL_OPTION_NAMES.isdisjoint(members):
            misplaced = sorted(_CALL_OPTION_NAMES.intersection(members))
            text = f"{misplaced[0]} is an option of the call, not a member of its body"
            raise InvalidRequestError(text, param=misplaced[0], phase="not_sent")
        if operation == "chat":
            _, model, body = self._split(members, self.body_param_defaults)
            request = self.gateway.encode_chat(model, to_messages(body.pop("messages", ())), body, stream=False)
        else:
            # An answer that is kept as it came is for readers who do not know base64: floats, the API's own default.
            _, model, body = self._split(members, {"encoding_format": "float"})
            request = self.gateway.encode_embeddings(model, body.pop("input", None), body)
        encoded = encode_body(request.body or {})
        return PreparedCall(operation, model, encoded, request.headers, request.query, request.secrets)

    async def _send_prepared(
        self,
        call: PreparedCall,
        decode: Callable[[Answer], T],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        timeouts: Timeouts | None = None,
        handler: AnyHandler | None = None,
    ) -> tuple[T, CallContext]:
        """Send a prepared call, through another stack where one is given. Returns what `decode` makes of the answer."""
        options = CallOptions(timeouts, timeout, idempotency_key)
        operation = self.gateway.chat if call.operation == "chat" else self.gateway.embeddings
        request = Request(operation, None, call.headers, call.query, call.secrets)
        exchange = self._exchange(request, options, decode, model=call.model, body=call.body)
        reply = await self._committed(exchange, handler or self._handler)
        result: T = await reply.result()
        return result, exchange.context

    @property
    def _ambiguous(self) -> Ambiguous:
        """The rule of the stack for requests that may have run."""
        for middleware in self._middleware:
            if isinstance(middleware, Retry):
                return middleware.ambiguous
        return "keyed"

    @property
    def _limiter(self) -> Any:
        """What stands in the stack as its limiter. `None` when nothing does."""
        limiters = (each for each in self._middleware if getattr(each, "place", None) == LIMITER)
        return next(limiters, None)

    @property
    def _unary_timeouts(self) -> Timeouts:
        """The clocks of a unary call that says nothing about them."""
        return self._timeouts_of(_NO_OPTIONS, stream=False)

    def _handler_with(self, limiter: AnyMiddleware) -> AnyHandler:
        """The stack with a limiter in its place.

        Raises:
            ConfigurationError: It has one.
        """
        if self._limiter is not None:
            raise ConfigurationError("the engine has a Limiter already: give it the limits of the batch")
        inside = (middleware for middleware in self._middleware if (getattr(middleware, "place", None) or 0) > LIMITER)
        first = next(inside, None)
        position = len(self._middleware) if first is None else self._middleware.index(first)
        stack = [*self._middleware[:position], limiter, *self._middleware[position:]]
        return compose(checked_stack(stack), self._transport)

    def _chat(self, messages: Messages, params: Mapping[str, Any], decode: Callable[[Answer], Any]) -> Exchange:
        options, model, body = self._split(params, self.body_param_defaults)
        request = self.gateway.encode_chat(model, to_messages(messages), body, stream=False)
        return self._exchange(request, options, decode, model=model)

    async def _answer(self, exchange: Exchange) -> Any:
        """The decoded answer of a unary call."""
        reply = await self._send(exchange)
        return await reply.result()

    def _stream(self, exchange: Exchange, options: CallOptions) -> ChatStream:
        self._check_usable()
        on_break: OnBreak = self._on_break
        if options.on_break is not None:
            on_break = self._checked_break(options.on_break)
        return ChatStream(exchange.context, lambda: self._send(exchange), self._interrupt, on_break)

    def _checked_break(self, on_break: OnBreak) -> OnBreak:
        known: tuple[str, ...] = get_args(OnBreak)
        if on_break not in known:
            raise ConfigurationError(f"on_break= is one of {', '.join(known)}, not {on_break!r:.80}")
        if on_break == "restart" and not any(isinstance(middleware, Retry) for middleware in self._middleware):
            raise ConfigurationError("on_break='restart' needs a Retry middleware in the stack")
        return on_break

    def _send(self, exchange: Exchange) -> Awaitable[Reply]:
        return self._committed(exchange, self._handler)

    async def _once(self, exchange: Exchange) -> Reply:
        """Past what repeats, counts or holds back: the question is how the gateway is now."""
        left_out = (RETRY, BREAKER, LIMITER)
        stack = [each for each in self._middleware if getattr(each, "place", None) not in left_out]
        return await self._committed(exchange, compose(stack, self._transport))

    async def _committed(self, exchange: Exchange, handler: AnyHandler) -> Reply:
        self._check_usable()
        context = exchange.context
        if not context.attempts:  # a stream that is begun anew has no more time than it had
            context.started = self._clock.monotonic()
            if (seconds := context.timeouts.deadline) is not None:
                context.deadline = context.started + seconds
        limit = self._opening[id(context)] = self._transport.limited(context)
        try:
            with limit:
                reply: Reply = await handler(exchange)
                await reply.commit()  # a stack without Retry has not done it
                if context.governance is None:  # else a stream has told more than its head
                    context.governance = self.gateway.governance(reply.headers)
                return reply
        except ModelEngineError as error:
            context.stamp(error)
            raise
        finally:
            del self._opening[id(context)]
        assert limit.error is not None
        limit.error.phase = (context.attempts[-1].phase or "before_output") if context.attempts else "not_sent"
        raise context.stamp(limit.error)

    def _interrupt(self, context: CallContext, error: ModelEngineError) -> None:
        """End a call that has no answer yet, wherever it waits."""
        if (limit := self._opening.get(id(context))) is not None:
            limit.interrupt(error)

    def _check_usable(self) -> None:
        if self._loop is None:
            if self._was_started:
                raise EngineClosedError("the engine has been stopped", self.model_name, gateway=self.gateway.name)
            raise EngineNotStartedError("the engine has not been started", self.model_name, gateway=self.gateway.name)
        self._check_process()
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None  # a stream is made outside of the loop; reading it will tell
        if running is not None and running is not self._loop:
            raise self._wrong_loop()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            text = "the engine was started in another process, before this one was forked"
            raise ForkedProcessError(text, self.model_name, gateway=self.gateway.name)

    def _wrong_loop(self) -> WrongEventLoopError:
        return WrongEventLoopError(
            "the engine is used from another event loop than the one it was started on",
            self.model_name,
            gateway=self.gateway.name,
        )

    def _exchange(
        self,
        request: Request,
        options: CallOptions,
        decoder: Callable[[Answer], Any],
        *,
        model: str | None = None,
        stream: bool = False,
        body: bytes | None = None,
    ) -> Exchange:
        """Encode a request. Everything that can be wrong with it is found here, before anything is sent."""
        if options.idempotency_key is not None and not self._sends_keys:
            raise InvalidRequestError("idempotency_key= needs an Idempotency middleware in the stack", phase="not_sent")
        operation = request.operation
        context = CallContext(
            self._target,
            operation,
            model if model is not None else self.model_name,
            stream,
            self._timeouts_of(options, stream),
            clock=self._clock,
            idempotency_key=options.idempotency_key,
        )
        if request.body is not None:
            try:
                body = encode_body(request.body)
            except ModelEngineError as error:
                raise context.stamp(error) from None
        url = self._url(operation, request.query, options)
        headers = self._headers(request.headers, stream=stream, has_body=body is not None)
        context.secrets.update(self._secrets, request.secrets)
        if request.headers or options.extra_headers is not None or options.extra_query is not None:
            extra = header_texts("extra_headers", options.extra_headers, InvalidRequestError)
            headers.update(extra)
            if secrets := [*credentials_in(request.headers), *credentials_in(extra), *_secrets_in_query(options)]:
                check_plain_http(url, True, self._target.allow_http)
                context.secrets.update(secrets)
        return Exchange(operation.method, url, headers=headers, body=body, context=context, decoder=decoder)

    def _headers(self, own: Mapping[str, str], *, stream: bool, has_body: bool) -> CIMultiDict[str]:
        """The headers of a request, with those that are its own. Where it has none they are put together once."""
        headers: CIMultiDict[str]
        if not own and (known := self._common_headers.get((stream, has_body))) is not None:
            headers = known.copy()
            return headers
        headers = CIMultiDict(self.gateway.headers)
        headers.update(own)
        headers["Accept"] = "text/event-stream" if stream else "application/json"
        if has_body:
            headers["Content-Type"] = "application/json"
        headers.update(self.default_headers)
        if not own:
            self._common_headers[stream, has_body] = headers.copy()
        return headers

    def _url(self, operation: Operation, query: tuple[tuple[str, str], ...], options: CallOptions) -> URL:
        url = self._urls.get(operation.path)
        if url is None:
            path = self._root.raw_path.rstrip("/") + operation.path
            url = self._urls[operation.path] = self._root.with_path(path, encoded=True).with_query(self._default_query)
        if query or options.extra_query:
            url = url.extend_query([*query, *query_pairs("extra_query", options.extra_query, InvalidRequestError)])
        return url

    def _timeouts_of(self, options: CallOptions, stream: bool) -> Timeouts:
        timeouts = _checked_timeouts(options.timeouts or self.timeouts)
        deadline = options.timeout
        if deadline is None and not stream and options.timeouts is None:
            deadline = self._unary_deadline
        return timeouts if deadline is None else replace(timeouts, deadline=deadline)

    def _split(
        self, params: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> tuple[CallOptions, str | None, dict[str, Any]]:
        """The keyword arguments of a call as options, model and members of the body."""
        body = dict(params)
        options = _NO_OPTIONS
        if not _CALL_OPTION_NAMES.isdisjoint(body):
            options = CallOptions(**{name: body.pop(name) for name in _CALL_OPTIONS if name in body})
        model = body.pop("model", self.model_name)
        if model is None and not self.gateway.needs_model:
            pass
        elif not isinstance(model, str) or not model:
            raise InvalidRequestError(f"model is a name, not {model!r:.80}", param="model", phase="not_sent")
        if not ENGINE_PARAMETERS.isdisjoint(body):
            misplaced = sorted(ENGINE_PARAMETERS.intersection(body))
            text = f"{misplaced[0]} is an option of the engine, not of a call"
            raise InvalidRequestError(text, param=misplaced[0], phase="not_sent")
        if not isinstance(options.extra_body or {}, Mapping):
            raise InvalidRequestError("extra_body is a mapping", param="extra_body", phase="not_sent")
        return options, model, {**defaults, **body, **(options.extra_body or {})}


def _options(options: Mapping[str, Any]) -> CallOptions:
    if unknown := sorted(options.keys() - set(_CALL_OPTIONS)):
        text = f"{unknown[0]} is not an option here; there are {', '.join(_CALL_OPTIONS)}"
        raise InvalidRequestError(text, param=unknown[0], phase="not_sent")
    return CallOptions(**options)


def _extended(request: Request, options: CallOptions) -> Request:
    if options.extra_body is None:
        return request
    if not isinstance(options.extra_body, Mapping):
        raise InvalidRequestError("extra_body is a mapping", param="extra_body", phase="not_sent")
    return replace(request, body={**(request.body or {}), **options.extra_body})


def to_messages(messages: Messages) -> list[Any]:
    """Messages as a list: a text becomes one user message, one message a list of one.

    Raises:
        InvalidRequestError: There are none, or something among them is not a message.
    """
    if isinstance(messages, str):
        listed: list[Any] = [{"role": "user", "content": messages}] if messages else []
    elif isinstance(messages, Mapping):
        listed = [messages] if messages else []
    elif isinstance(messages, Sequence) and not isinstance(messages, (bytes, bytearray)):
        listed = list(messages)
    else:
        raise InvalidRequestError(
            f"messages are a text, a message or a list of messages, not {type(messages).__name__}", phase="not_sent"
        )
    if not listed:
        raise InvalidRequestError("there are no messages to send", phase="not_sent")
    for position, message in enumerate(listed):
        if not isinstance(message, (dict, Mapping)):
            raise InvalidRequestError(
                f"messages[{position}] is {type(message).__name__}, not a mapping with role and content",
                param=f"messages[{position}]",
                phase="not_sent",
            )
        if not message.get("role"):
            text = f"messages[{position}] has no role"
            raise InvalidRequestError(text, param=f"messages[{position}].role", phase="not_sent")
    return listed


def encode_body(body: Mapping[str, Any]) -> bytes:
    """The JSON of a request body.

    Raises:
        InvalidRequestError: A member cannot be encoded; the message names it.
    """
    try:
        encoded = orjson.dumps(body, default=_as_dict)
    except TypeError as error:
        name = _unserialisable(body)
        raise InvalidRequestError(f"{name} cannot be sent as JSON: {error}", param=name, phase="not_sent") from None
    # orjson writes NaN and infinity as null, so without a null there is nothing to look for.
    if b"null" in encoded and (path := _not_finite(body, "")):
        name = path.partition(".")[0].partition("[")[0]
        raise InvalidRequestError(f"{path} is not a finite number: JSON has none", param=name, phase="not_sent")
    return encoded


def _as_dict(value: Any) -> dict[Any, Any]:
    """Other mappings than `dict`, which orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _unserialisable(body: Mapping[str, Any]) -> str:
    for name, value in body.items():
        try:
            orjson.dumps({name: value}, default=_as_dict)
        except TypeError:
            return str(name)
    return "the body"


def _not_finite(value: Any, path: str) -> str | None:
    """Where in the body there is a NaN or an infinity. `None` when nowhere."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    members: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        members = ((f"{path}.{name}" if path else str(name), member) for name, member in value.items())
    elif isinstance(value, (list, tuple)):
        members = ((f"{path}[{position}]", member) for position, member in enumerate(value))
    return next((found for where, member in members if (found := _not_finite(member, where))), None)


def _with_ledger(response: T, context: CallContext) -> T:
    """Write what belongs to the call on its answer. The answer is fresh and nobody else's yet, so it is not copied."""
    if isinstance(response, (LLMResponse, EmbeddingResponse)):
        object.__setattr__(response, "attempts", tuple(context.attempts))
        object.__setattr__(response, "idempotency_key", context.idempotency_key)
        object.__setattr__(response, "gateway_request_id", context.shown_id(response.gateway_request_id))
        if response.governance is None:
            object.__setattr__(response, "governance", context.governance)
    return response


def _stack(config: ModelConfig, middleware: Sequence[AnyMiddleware] | None) -> Sequence[AnyMiddleware]:
    max_attempts = config.parameters.get("max_attempts")
    if max_attempts is None:
        return default_stack() if middleware is None else middleware
    if middleware is not None:
        raise ConfigurationError(
            f"parameters['max_attempts'] has no effect beside middleware=: leave it out, and say it there, as "
            f"Retry(max_attempts={max_attempts!r:.20})"
        )
    return default_stack(retry=Retry(max_attempts=max_attempts))


def _timeouts_of(config: ModelConfig, timeouts: Timeouts | None) -> tuple[Timeouts, float | None]:
    """The engine's clocks, and a deadline for unary calls.

    NeMo Guardrails' ``timeout`` is the time for a whole unary call and the silence allowed in a stream.
    """
    if timeouts is not None:
        return _checked_timeouts(timeouts), None
    timeouts = Timeouts()
    if (connect := config.seconds("timeout_connect")) is not None:
        timeouts = replace(timeouts, connect=connect)
    if (timeout := config.seconds("timeout")) is not None:
        timeouts = replace(timeouts, first_event=timeout, idle=timeout)
    return timeouts, timeout


def _checked_timeouts(timeouts: Timeouts) -> Timeouts:
    if not isinstance(timeouts, Timeouts):
        raise ConfigurationError(f"timeouts= is a Timeouts, not {timeouts!r:.80}; timeout= is a number of seconds")
    return timeouts


def _checked_defaults(params: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        raise ConfigurationError(f"params= is a mapping of body members, not {type(params).__name__}")
    if misplaced := sorted(_NOT_DEFAULTS.intersection(params)):
        raise ConfigurationError(f"params= are defaults of the request body, and {misplaced[0]!r} cannot be one")
    return params


def _secrets_in_query(options: CallOptions) -> list[str]:
    return credentials_in({name: str(value) for name, value in (options.extra_query or {}).items()})


def _decode_anything(answer: Answer) -> Any:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.body[:1000].decode("utf-8", "replace")
