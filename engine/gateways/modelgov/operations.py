"""What one can ask of Modelgov, as methods of its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from ...errors import InvalidRequestError, MalformedResponseError
from ...types import EmbeddingResponse, Health, LLMResponse, Messages
from ...verdict import Answer
from ..base import Caller, Request
from .arguments import to_query
from .dialect import ModelgovGateway
from .shapes import (
    DocumentSource,
    Explanation,
    ExtractedDocument,
    ProviderHealth,
    Usage,
    UsageSummary,
    UsageTransactions,
)

if TYPE_CHECKING:
    from ...stream import ChatStream

_GATEWAY = ModelgovGateway()  # has no state, so one serves every engine


class ChatCaller(Caller, Protocol):
    """A `Caller` that chats, too."""

    async def chat_completion(self, messages: Messages, **params: Any) -> LLMResponse: ...

    def stream_call(self, messages: Messages, **params: Any) -> ChatStream: ...


class ModelgovOperations:
    """Modelgov's operations by the names of its SDK, beside those of every engine.

    All take `CallOptions`, too (``timeout``, ``extra_headers``, ...). Arguments that are `None` are not sent. What
    several of them take:

    * ``user_id``, ``user_type``, ``feature``: who asks and for what. The gateway's policy decides by them.
    * ``model_class``: the class of models asked for. ``requested_model_class`` is another name of it, and counts less.
    * ``project_id``, ``environment``, ``budget_node_id``: which budgets it counts against.
    * ``metadata``: at most 32 members, kept in the audit trail.
    * ``input_tokens_estimate``: tokens that the caller expects the prompt to have.
    * ``request_id``: an id of the caller's own, up to 128 characters, under which the gateway groups requests.
    * ``idempotency_key``: the caller's own key. Without one, each call gets a new one.

    `InvalidRequestError` is raised before anything is sent when one of the first three is missing or empty; any
    `ModelEngineError` when a call fails, and `ReplayedWithoutContentError` when its key was used before and the gateway
    has not kept what it answered.
    """

    async def chat(
        self: ChatCaller,
        messages: Messages,
        *,
        user_id: str,
        user_type: str,
        feature: str,
        context: Sequence[str | Mapping[str, Any]] | None = None,
        model_class: str | None = None,
        requested_model_class: str | None = None,
        input_tokens_estimate: int | None = None,
        temperature: float | None = None,
        project_id: str | None = None,
        environment: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        budget_node_id: str | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> LLMResponse:
        """Ask for an answer.

        A message's content may be a list of text and image parts. `context` are passages that the answer has to be
        grounded in, `temperature` is from 0 to 2, `response_format` is of the form ``{"type": "json_schema",
        "jsonSchema": {...}}``, or has the type ``json_object`` or ``text``.
        """
        return await self.chat_completion(
            messages,
            **_given(
                user_id=user_id,
                user_type=user_type,
                feature=feature,
                context=context,
                model_class=model_class,
                requested_model_class=requested_model_class,
                input_tokens_estimate=input_tokens_estimate,
                temperature=temperature,
                project_id=project_id,
                environment=environment,
                metadata=metadata,
                response_format=response_format,
                budget_node_id=budget_node_id,
                request_id=request_id,
                idempotency_key=idempotency_key,
            ),
            **options,
        )

    def chat_stream(
        self: ChatCaller,
        messages: Messages,
        *,
        user_id: str,
        user_type: str,
        feature: str,
        context: Sequence[str | Mapping[str, Any]] | None = None,
        model_class: str | None = None,
        requested_model_class: str | None = None,
        input_tokens_estimate: int | None = None,
        temperature: float | None = None,
        project_id: str | None = None,
        environment: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        response_format: Mapping[str, Any] | None = None,
        budget_node_id: str | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> ChatStream:
        """Ask for a streamed answer. Arguments are those of `chat`; nothing is sent before the stream is read.

        The last chunk has the gateway's done frame in its `extra`, and the whole answer has it in its
        `provider_metadata`, as ``done``. The gateway takes no idempotency key for a stream: given one, reading raises
        `IdempotencyNotSupportedError`.
        """
        return self.stream_call(
            messages,
            **_given(
                user_id=user_id,
                user_type=user_type,
                feature=feature,
                context=context,
                model_class=model_class,
                requested_model_class=requested_model_class,
                input_tokens_estimate=input_tokens_estimate,
                temperature=temperature,
                project_id=project_id,
                environment=environment,
                metadata=metadata,
                response_format=response_format,
                budget_node_id=budget_node_id,
                request_id=request_id,
            ),
            **options,
        )

    async def embed(
        self: Caller,
        input: str | Sequence[str],
        *,
        user_id: str,
        user_type: str,
        feature: str,
        model_class: str | None = None,
        requested_model_class: str | None = None,
        input_tokens_estimate: int | None = None,
        project_id: str | None = None,
        environment: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        dimensions: int | None = None,
        model: str | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> EmbeddingResponse:
        """Ask for the vectors of a text, or of up to 256 texts, in their order.

        `dimensions` is the length of the vectors. `model` is one more name of `model_class`, and counts least.
        """
        if not isinstance(input, (str, list, tuple)) or not input:
            raise InvalidRequestError("there is nothing to embed: give a text or a list of texts", phase="not_sent")
        members = _given(
            user_id=user_id,
            user_type=user_type,
            feature=feature,
            model_class=model_class,
            requested_model_class=requested_model_class,
            input_tokens_estimate=input_tokens_estimate,
            project_id=project_id,
            environment=environment,
            metadata=metadata,
            dimensions=dimensions,
            request_id=request_id,
        )
        count = 1 if isinstance(input, str) else len(input)

        def decode(answer: Answer) -> EmbeddingResponse:
            response = _GATEWAY.decode_embeddings(answer)
            if len(response.embeddings) != count:
                raise MalformedResponseError(f"{len(response.embeddings)} vectors came for {count} inputs")
            return response

        return await self.request(_GATEWAY.encode_embeddings(model, input, members), decode, **options)

    async def extract_document(
        self: Caller,
        *,
        user_id: str,
        user_type: str,
        feature: str,
        provider: str,
        document: DocumentSource,
        model_class: str | None = None,
        requested_model_class: str | None = None,
        model: str | None = None,
        pages: int | None = None,
        project_id: str | None = None,
        environment: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> ExtractedDocument:
        """Ask for the text of a document.

        `provider` reads it (``"tesseract"``, ...), with its `model`; `document` says where it is, by one of ``base64``,
        ``url`` and ``s3``; `pages` is how many it has.
        """
        members = _given(
            user_id=user_id,
            user_type=user_type,
            feature=feature,
            provider=provider,
            document=document,
            model_class=model_class,
            requested_model_class=requested_model_class,
            model=model,
            pages=pages,
            project_id=project_id,
            environment=environment,
            metadata=metadata,
            request_id=request_id,
        )
        payload = await self.request(_GATEWAY.encode_document(members), _GATEWAY.decode_object, **options)
        return cast(ExtractedDocument, payload)

    async def explain(
        self: Caller,
        *,
        user_id: str,
        user_type: str,
        feature: str,
        model_class: str | None = None,
        requested_model_class: str | None = None,
        input_tokens_estimate: int | None = None,
        project_id: str | None = None,
        environment: str | None = None,
        request_id: str | None = None,
        **options: Any,
    ) -> Explanation:
        """Ask what would be decided about a chat, without having it. A block is an answer here, and no error."""
        members = _given(
            user_id=user_id,
            user_type=user_type,
            feature=feature,
            model_class=model_class,
            requested_model_class=requested_model_class,
            input_tokens_estimate=input_tokens_estimate,
            project_id=project_id,
            environment=environment,
            request_id=request_id,
        )
        payload = await self.request(_GATEWAY.encode_explain(members), _GATEWAY.decode_object, **options)
        return cast(Explanation, payload)

    async def get_usage(
        self: Caller,
        *,
        user_id: str | None = None,
        feature: str | None = None,
        project_id: str | None = None,
        **options: Any,
    ) -> Usage:
        """Ask for the counters of budgets: everybody's, and those of a user and a feature where they are named."""
        query = to_query({"user_id": user_id, "feature": feature, "project_id": project_id})
        payload = await self.request(Request(_GATEWAY.usage, query=query), _GATEWAY.decode_object, **options)
        return cast(Usage, payload)

    async def get_usage_summary(
        self: Caller,
        *,
        feature: str | None = None,
        user_type: str | None = None,
        since: str | None = None,
        project_id: str | None = None,
        **options: Any,
    ) -> UsageSummary:
        """Ask how requests ended and what they cost.

        `since` is ``"24h"``, ``"7d"`` or a time in ISO 8601; `None` is the last 24 hours.
        """
        query = to_query({"feature": feature, "user_type": user_type, "since": since, "project_id": project_id})
        payload = await self.request(Request(_GATEWAY.usage_summary, query=query), _GATEWAY.decode_object, **options)
        return cast(UsageSummary, payload)

    async def get_usage_transactions(
        self: Caller,
        *,
        since: str | None = None,
        limit: int | None = None,
        project_id: str | None = None,
        **options: Any,
    ) -> UsageTransactions:
        """Ask what requests cost that had the same ``request_id``.

        `since` is as for `get_usage_summary`; `limit` is from 1 to 200.
        """
        query = to_query({"since": since, "limit": limit, "project_id": project_id})
        request = Request(_GATEWAY.usage_transactions, query=query)
        return cast(UsageTransactions, await self.request(request, _GATEWAY.decode_object, **options))

    async def get_provider_health(self: Caller, **options: Any) -> ProviderHealth:
        """Ask which models can be reached. The key has to be allowed to read usage."""
        payload = await self.request(Request(_GATEWAY.models), _GATEWAY.decode_object, **options)
        return cast(ProviderHealth, payload)

    async def ready(self: Caller, **options: Any) -> Health:
        """Ask whether the gateway takes requests; `ModelEngine.health` asks whether it lives. A "no" is a result, not
        an error.
        """
        return await self.probe(_GATEWAY.ready, **options)


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that were given: `None` would hide the engine's own defaults."""
    return {name: value for name, value in arguments.items() if value is not None}
