"""What one can ask of OmniGate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ...body import excerpt, read_object
from ...errors import InvalidRequestError, MalformedResponseError
from ...members import kind_of
from ...types import LLMResponse, Messages
from ...verdict import Answer
from ..base import Caller, Gateway, Request
from .gateway import CREATE_API_KEY, ME, METRICS, SET_PROVIDER_KEY, SIGNUP, OmniGateGateway, require_texts
from .types import (
    CallParams,
    MetricsGroup,
    MetricsRange,
    OmniGateAccount,
    OmniGateApiKey,
    OmniGateChatParams,
    OmniGateMetrics,
    OmniGateProject,
    Provider,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...stream import ChatStream


class Engine(Caller, Protocol):
    """An engine, as the operations of OmniGate see it."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def model_name(self) -> str | None: ...

    @property
    def body_param_defaults(self) -> Mapping[str, Any]: ...

    async def chat_completion(self, messages: Messages, **params: Any) -> LLMResponse: ...

    def stream_call(self, messages: Messages, **params: Any) -> ChatStream: ...


class OmniGateOperations:
    """What OmniGate can be asked. All take the options of a call, see `CallParams`.

    The models it offers are `models`, with `OmniGateModelExtra` as the ``extra`` of each; its health is `health`.
    """

    async def chat(self: Engine, messages: Messages, **params: Unpack[OmniGateChatParams]) -> LLMResponse:
        """Ask for an answer, with its cost, provider and budgets in `LLMResponse.governance`.

        Args:
            messages: A text (one user message), one message, or a sequence of messages; roles are system, user and
                assistant, and content is text.
            params: See `OmniGateChatParams`.
        """
        return await self.chat_completion(messages, **params)

    def chat_stream(self: Engine, messages: Messages, **params: Unpack[OmniGateChatParams]) -> ChatStream:
        """Ask for an answer as a stream of plain text: no usage, no cost, no finish reason.

        A model that writes a line beginning with ``[error] `` cannot be told from a failure; `completions_stream` does
        not have these limits. Arguments as for `chat`. Nothing is sent before the stream is read.
        """
        return self.stream_call(messages, **params)

    async def completions(self: Engine, messages: Messages, **params: Unpack[OmniGateChatParams]) -> LLMResponse:
        """Ask the twin of OpenAI's chat completions. Arguments as for `chat`; cost is not told here."""
        request, options = _completions(self, messages, params, stream=False)
        return await self.request(request, _dialect(self).decode_completions, **options)

    def completions_stream(self: Engine, messages: Messages, **params: Unpack[OmniGateChatParams]) -> ChatStream:
        """As `completions`, streamed as events, with usage and finish reason."""
        request, options = _completions(self, messages, params, stream=True)
        return self.stream_request(request, **options)

    async def signup(
        self: Caller,
        email: str,
        *,
        project_name: str = "Default",
        org_name: str | None = None,
        **options: Unpack[CallParams],
    ) -> OmniGateAccount:
        """Open an account; no key is needed, and none is sent. Never sent twice when the first may have run."""
        body = {"email": email, "project_name": project_name} | ({} if org_name is None else {"org_name": org_name})
        decode: Callable[[Answer], OmniGateAccount] = object_reader(("org_id", "project_id", "email", "api_key"))
        return await self.request(Request(SIGNUP, body), decode, **options)

    async def set_provider_key(
        self: Caller,
        provider: Provider,
        api_key: str,
        *,
        meta: Mapping[str, Any] | None = None,
        **options: Unpack[CallParams],
    ) -> None:
        """Store the project's key for a provider, in place of an earlier one.

        Args:
            provider: Whose key it is.
            api_key: The provider's key, of at least 8 characters.
            meta: Azure needs ``endpoint`` (https) and ``deployment``, and takes ``api_version``.
            options: See `CallParams`.
        """
        body: dict[str, Any] = {"provider": provider, "api_key": api_key}
        if meta is not None:
            body["meta"] = meta
        # The complaint about a body repeats the body.
        await self.request(Request(SET_PROVIDER_KEY, body, secrets=(api_key,)), _nothing, **options)

    async def create_api_key(self: Caller, name: str, **options: Unpack[CallParams]) -> OmniGateApiKey:
        """Make one more key for the project. Never sent twice when the first may have run."""
        decode: Callable[[Answer], OmniGateApiKey] = object_reader(("id", "name", "key_prefix", "api_key"))
        return await self.request(Request(CREATE_API_KEY, {"name": name}), decode, **options)

    async def me(self: Caller, **options: Unpack[CallParams]) -> OmniGateProject:
        """The project that the key belongs to."""
        decode: Callable[[Answer], OmniGateProject] = object_reader(("project_id", "org_id"))
        return await self.request(Request(ME), decode, **options)

    async def metrics(
        self: Caller,
        range: MetricsRange | None = "24h",
        *,
        from_: str | None = None,
        to: str | None = None,
        group_by: MetricsGroup | None = None,
        granularity: str | None = None,
        **options: Unpack[CallParams],
    ) -> OmniGateMetrics:
        """What the project has used.

        Args:
            range: The time up to now. `None` leaves it to the gateway.
            from_: Begin of another range, ISO 8601.
            to: Its end.
            group_by: What ``breakdown`` has a row for.
            granularity: Length of the intervals of ``timeseries``, for instance ``"day"``.
            options: See `CallParams`.
        """
        asked = {"range": range, "from": from_, "to": to, "group_by": group_by, "granularity": granularity}
        query = tuple((name, value) for name, value in asked.items() if value is not None)
        decode: Callable[[Answer], OmniGateMetrics] = object_reader(
            ("scope", "range_from", "range_to"), totals=dict, breakdown=list, timeseries=list
        )
        return await self.request(Request(METRICS, query=query), decode, **options)


def _completions(
    engine: Engine, messages: Messages, params: Mapping[str, Any], *, stream: bool
) -> tuple[Request, dict[str, Any]]:
    """The request for the twin, and the options of the call."""
    body = {**engine.body_param_defaults, **params}
    options = {name: body.pop(name) for name in CallParams.__annotations__ if name in body}
    extra = options.pop("extra_body", None) or {}
    if not isinstance(extra, Mapping):
        raise InvalidRequestError("extra_body is a mapping", param="extra_body", phase="not_sent")
    body |= extra
    model = body.pop("model", None) or engine.model_name
    return _dialect(engine).encode_completions(model, _listed(messages), body, stream=stream), options


def _dialect(engine: Engine) -> OmniGateGateway:
    assert isinstance(engine.gateway, OmniGateGateway), "these are operations of an engine that speaks OmniGate"
    return engine.gateway


def _listed(messages: Any) -> list[Any]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    elif isinstance(messages, Mapping):
        messages = [messages]
    if not isinstance(messages, (list, tuple)) or not all(isinstance(message, Mapping) for message in messages):
        raise InvalidRequestError("messages are a text, a message or a list of messages", phase="not_sent")
    if not messages:
        raise InvalidRequestError("there are no messages to send", phase="not_sent")
    return list(messages)


def object_reader(texts: tuple[str, ...], **shapes: type) -> Callable[[Answer], Any]:
    """A decoder for a JSON object.

    Args:
        texts: Members that have to be there, and to be text.
        shapes: Members of these types; what is missing or null is an empty one.
    """

    def read(answer: Answer) -> dict[str, Any]:
        payload = read_object(answer)
        try:
            require_texts(payload, texts)
            for name, shape in shapes.items():
                if payload.get(name) is None:
                    payload[name] = shape()
                elif not isinstance(payload[name], shape):
                    raise MalformedResponseError(f"{name} is {kind_of(payload[name])}")
        except MalformedResponseError as error:
            error.body = excerpt(answer.body)
            raise
        return payload

    return read


def _nothing(answer: Answer) -> None:
    """Decodes a success that has no body."""
