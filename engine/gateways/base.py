"""What a gateway is to the engine: paths, encoders, decoders, verdicts and facts. No I/O, no state, one instance for
all calls.

A new dialect is a new file with a subclass of `Gateway`, and a line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ..errors import Advice, ModelEngineError
from ..exchange import Operation, StreamDecoder
from ..types import EmbeddingResponse, Governance, Health, LLMResponse, ModelInfo
from ..verdict import Answer, Complaint, judge_event, judge_openai, openai_verdict

if TYPE_CHECKING:
    from ..stream import ChatStream

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a gateway wants it, before it has an address.

    Args:
        operation: What is asked for.
        body: Members of the JSON body. `None` sends no body.
        headers: Headers beside those the engine sets.
        query: Names and values of the query.
        secrets: What is secret in the body, and may come back in an error.
    """

    operation: Operation
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


class Gateway:
    """A dialect. The defaults are those of an OpenAI-compatible gateway without a public address."""

    name: str
    base_url: ClassVar[str | None] = None
    """Where it is, when the user does not say. `None` asks the user."""
    key_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that may hold the key, first one first."""
    auth_header: ClassVar[str] = "Authorization"
    auth_scheme: ClassVar[str] = "Bearer"
    needs_model: ClassVar[bool] = True
    """Whether a call has to name a model. False where the gateway chooses one by its own rules."""
    root_suffix: ClassVar[str] = "/v1"
    """What a user may have put at the end of the base URL; paths of operations begin with it."""

    chat: ClassVar[Operation]
    embeddings: ClassVar[Operation]
    models: ClassVar[Operation]
    health: ClassVar[Operation]

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every request, under those of the request itself."""
        return {}

    def encode_chat(
        self, model: str | None, messages: list[Any], params: Mapping[str, Any], *, stream: bool
    ) -> Request:
        """The request for an answer to messages. `params` go into the body as they are, those given as `None` too."""
        raise NotImplementedError  # abstract

    def encode_embeddings(self, model: str | None, inputs: Any, params: Mapping[str, Any]) -> Request:
        """The request for vectors of a text, a list of texts, or lists of tokens."""
        raise NotImplementedError  # abstract

    def decode_object(self, answer: Answer) -> dict[str, Any]:
        """The JSON object of a success.

        Raises:
            ModelEngineError: It is not one, or it is an error in a success.
        """
        raise NotImplementedError  # abstract

    def decode_chat(self, answer: Answer) -> LLMResponse:
        """The answer of a unary chat."""
        raise NotImplementedError  # abstract

    def decode_embeddings(self, answer: Answer) -> EmbeddingResponse:
        """The vectors, in the order of the input."""
        raise NotImplementedError  # abstract

    def decode_models(self, answer: Answer) -> tuple[ModelInfo, ...]:
        """The models a gateway offers."""
        raise NotImplementedError  # abstract

    def stream_decoder(self, head: Answer) -> StreamDecoder:
        """A decoder for one stream, whose head is here and whose body (empty in `head`) follows."""
        raise NotImplementedError  # abstract

    def verdict(self, status: int | None, complaint: Complaint) -> tuple[type[ModelEngineError], Advice | None]:
        """The verdict table: class and advice for a status and what the body says, see `VerdictTable`."""
        return openai_verdict(status, complaint)

    def judge(self, answer: Answer) -> ModelEngineError:
        """What an error answer means, with what the gateway says about its decision."""
        error = judge_openai(answer, self.verdict)
        error.governance = self.governance(answer.headers, error.body)
        return error

    def judge_event(self, complaint: Complaint) -> ModelEngineError:
        """What an error inside a success means, with what the gateway says about its decision."""
        error = judge_event(complaint, self.verdict)
        error.governance = self.governance({}, error.body)
        return error

    def governance(self, headers: Mapping[str, str], body: Any = None) -> Governance | None:
        """What an answer says about the gateway's decision. `None` when nothing.

        Args:
            headers: Headers of the answer; look-ups ignore case.
            body: Its decoded body, where it has been read. Of any type.
        """
        return None


class Caller(Protocol):
    """An engine, as the typed operations of a gateway see it: they are methods of the engine's class."""

    async def request(self, request: Request, decode: Callable[[Answer], T], **options: Any) -> T:
        """Send a request of a gateway through the stack and decode its success. `options` are the call's options."""
        ...

    async def probe(self, operation: Operation, **options: Any) -> Health:
        """Ask once how the gateway is."""
        ...

    def stream_request(self, request: Request, **options: Any) -> ChatStream:
        """As `request`, for a streamed answer, decoded by the gateway's `stream_decoder`."""
        ...
