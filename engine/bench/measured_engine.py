"""The engine that is measured with: its connections stamp what they send and get, and it hides no failure.

It is `ModelEngine` in all that goes over the wire. It sends nothing again and takes no key for a request: an answer
that came at the second try would be a slow answer, and nobody would see the failure before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from aiohttp.client_proto import ResponseHandler

from penstock.middleware.auth import Auth
from penstock.middleware.classify import Classify
from penstock.middleware.stack import compose

from ..connection import BufferedConnection, ConnectionProtocol
from ..exchange import StreamDecoder
from ..gateways import Request
from ..model_engine import CallOptions, ModelEngine, PreparedCall, encode_body, to_messages
from ..pool import read_memory
from ..session import OwnSession
from ..stream import ChatStream
from ..timers import Watchdog
from ..transport import Transport
from ..types import LLMResponseChunk, Messages
from ..verdict import Answer
from .meter import CURRENT, Meter

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..credential import KeySource
    from ..gateways import Gateway
    from ..types import Timeouts

_NO_OPTIONS = CallOptions()


class MeasuredEngine(ModelEngine):
    """Makes the requests of a run. Arguments as for `ModelEngine`."""

    def __init__(
        self,
        model_or_config: str | ModelConfig | Mapping[str, Any] | Any,
        *,
        gateway: str | Gateway | None = None,
        base_url: str | None = None,
        api_key: KeySource | None = None,
        timeouts: Timeouts | None = None,
        params: Mapping[str, Any] | None = None,
        default_headers: Mapping[str, str] | None = None,
        allow_http: bool = False,
    ) -> None:
        super().__init__(
            model_or_config,
            gateway=gateway,
            base_url=base_url,
            api_key=api_key,
            middleware=[Auth(), Classify()],
            timeouts=timeouts,
            params=params,
            default_headers=default_headers,
            allow_http=allow_http,
        )
        self._measured = _MeasuredTransport()
        self._transport = self._measured
        self._handler = compose(self._middleware, self._transport)

    @property
    def connections(self) -> int:
        """How many were opened since the start."""
        return self._measured.connections

    def prepared(self, messages: Messages, params: Mapping[str, Any]) -> PreparedCall:
        """Encode a request for `opened`, now and not when its time has come.

        Args:
            messages: As for `ModelEngine.stream_call`.
            params: Members of the body, over the engine's.
        """
        _, model, body = self._split(params, self.body_param_defaults)
        request = self.gateway.encode_chat(model, to_messages(messages), body, stream=True)
        return PreparedCall(
            "chat", model, encode_body(request.body or {}), request.headers, request.query, request.secrets
        )

    def opened(self, call: PreparedCall) -> ChatStream:
        """The stream of a prepared request. Nothing is sent before it is read."""
        request = Request(self.gateway.chat, None, call.headers, call.query, call.secrets)
        meter, decoder = CURRENT.get(), self.gateway.stream_decoder
        noting = decoder if meter is None else partial(_noting_first_event, decoder, meter)
        exchange = self._exchange(request, _NO_OPTIONS, noting, model=call.model, stream=True, body=call.body)
        return self._stream(exchange, _NO_OPTIONS)


def _noting_first_event(decode: Callable[[Answer], StreamDecoder], meter: Meter, head: Answer) -> StreamDecoder:
    """A decoder that tells the meter of its first event: a stream keeps a role back until output comes.

    It is told by an attribute in the place of the method, which is gone after the first event: a decoder around the
    decoder would cost each read something.
    """
    decoder = decode(head)
    feed, own = decoder.feed, vars(decoder)

    def feed_first(data: bytes) -> list[LLMResponseChunk]:
        chunks = feed(data)
        if chunks:
            own.pop("feed", None)
            meter.note_first_event()
        return chunks

    own["feed"] = feed_first
    return decoder


class _MeasuredTransport(Transport):
    """Its connections know the meter of the request they serve."""

    connections = 0

    def start(self) -> None:
        super().start()
        assert self._opened is not None
        session = self._opened.session
        assert isinstance(session, OwnSession)
        loop = asyncio.get_running_loop()
        session.connector._factory = partial(self._new_connection, loop, self._opened.watchdog, read_memory(loop))
        self.connections = 0

    def _new_connection(
        self, loop: asyncio.AbstractEventLoop, watchdog: Watchdog, memory: memoryview | None
    ) -> ResponseHandler:
        if memory is None:
            return _MeasuredConnection(self, loop, watchdog)
        return _MeasuredBufferedConnection(self, loop, watchdog, memory)


class _MeasuredConnection(ConnectionProtocol):
    """Stamps the meter of its request.

    It holds the meter, and not the other way round: a short answer has given its connection back, perhaps to another
    request, before the task that asked for it runs again.
    """

    def __init__(self, transport: _MeasuredTransport, loop: asyncio.AbstractEventLoop, *rest: Any) -> None:
        super().__init__(loop, *rest)
        self._counted_by = transport
        self._meter: Meter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._counted_by.connections += 1
        super().connection_made(transport)

    def set_response_params(self, *, read_timeout: float | None = None, **params: Any) -> None:
        """Called in the task of the request, when the connection is there and before anything is written."""
        self._meter = meter = CURRENT.get()
        if meter is not None:
            meter.is_new_connection = not self._requests
            meter.sent = monotonic_ns()
        super().set_response_params(read_timeout=read_timeout, **params)

    def data_received(self, data: bytes) -> None:
        if (meter := self._meter) is not None:
            meter.arrived = now = monotonic_ns()
            if not meter.head:
                meter.head = now
        super().data_received(data)


class _MeasuredBufferedConnection(_MeasuredConnection, BufferedConnection):
    """The same, on a loop that reads into memory that it is given."""

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._memory[:nbytes]))
