"""The values that go in and come out: answers, chunks, usage, clocks, the ledger.

Names follow NeMo Guardrails where it has one (`LLMResponse`, `delta_content`, `UsageInfo`), the OpenAI wire otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import orjson

from .errors import ConfigurationError, MalformedResponseError, ModelEngineError, Phase

Verdict = Literal["complete", "truncated", "filtered", "errored"]
"""How a stream ended.

``complete``: with its terminal mark, or a finish reason and a clean end. ``truncated``: without either. ``filtered``:
a content filter ended it. ``errored``: with an error, ours or the gateway's.
"""

OnBreak = Literal["raise", "keep_partial", "restart"]
"""What to do when a stream breaks off after output has come.

``raise``: the error, with what had arrived in ``error.partial``. ``keep_partial``: end the stream as if it were
complete; its summary says that it is not. ``restart``: send the request again, and give out a marker before what comes
then.
"""

UsageProvenance = Literal["reported", "replayed", "estimated", "absent"]
"""Where usage counts come from: the gateway, the gateway's memory of an earlier run, a guess of ours, or nowhere."""


class Message(TypedDict, total=False):
    """A chat message as it goes on the wire. Members not named here are sent as they are."""

    role: str
    content: Any
    name: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str


Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""What a call takes: a text (one user message), one message, or a sequence of messages."""


_FIRST_EVENT = 120.0  # seconds; queued and reasoning models are silent for a minute or two
_LONGEST = 1e9  # seconds, 30 years: what adds to a clock without an overflow
_ANSWER = 600.0  # seconds; reasoning answers of 265 and 532 s have been measured


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The clocks of a call, all separate, all in seconds. `None` turns a clock off.

    Args:
        queue: Waiting for a slot of the engine, before anything is sent.
        connect: TCP and TLS handshake.
        write: No byte of the request taken by the gateway, while some wait to be sent. In a session of the user's
            `first_event` and `answer` bound the sending as well.
        first_event: Silence between the request and the first event. A comment or ping shows life and restarts it.
        answer: Silence before a unary answer, which is the time the model takes for the whole of it. ``"auto"`` is
            600 s, the openai SDK's bound, while `first_event` has its default, and else `first_event`.
        idle: Silence between two reads once output has begun.
        progress: No new content although bytes, pings or empty deltas keep coming.
        deadline: Everything, over all attempts and waits. Nothing extends it.

    Raises:
        ConfigurationError: One of them is not a positive, finite number.
    """

    queue: float | None = 60.0
    connect: float | None = 5.0  # Linux itself gives up on a SYN after more than two minutes
    write: float | None = 60.0
    first_event: float | None = _FIRST_EVENT
    answer: float | Literal["auto"] | None = "auto"
    idle: float | None = 60.0
    progress: float | None = 300.0
    deadline: float | None = 1800.0  # reasoning answers of ten minutes have been measured

    def __post_init__(self) -> None:
        for name in self.__slots__:
            seconds = getattr(self, name)
            if seconds is None or (name == "answer" and seconds == "auto"):
                continue
            is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
            if not (is_number and 0 < seconds <= _LONGEST):
                text = f"Timeouts.{name} is a positive number of seconds or None, not {seconds!r:.80}"
                raise ConfigurationError(text)

    def until_head(self, *, stream: bool) -> float | None:
        """Seconds of silence between the request and the head of its answer. `None` for no bound.

        A streamed answer sends its head when it starts, a unary one when it is finished.
        """
        if stream:
            return self.first_event
        if self.answer == "auto":
            return _ANSWER if self.first_event == _FIRST_EVENT else self.first_event
        return self.answer


@dataclass(frozen=True, slots=True)
class UsageInfo:
    """Tokens, as the gateway counted them.

    `reasoning_tokens` are part of `output_tokens`, `cached_tokens` are part of `input_tokens`; both are `None` where
    the gateway does not tell.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCallFunction:
    """The function a model wants called.

    `arguments_json` is the JSON text as the model wrote it; `arguments` is that text decoded. Of a custom tool it is
    the input, which may be any text.
    """

    name: str
    arguments_json: str = "{}"

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as an object.

        Raises:
            MalformedResponseError: The model wrote something that is not a JSON object.
        """
        try:
            arguments = orjson.loads(self.arguments_json or "{}")
        except orjson.JSONDecodeError as error:
            raise MalformedResponseError(
                f"arguments of tool call {self.name!r} are not JSON: {error}", body=self.arguments_json
            ) from None
        if not isinstance(arguments, dict):
            raise MalformedResponseError(
                f"arguments of tool call {self.name!r} are not a JSON object", body=self.arguments_json
            )
        return arguments


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One complete tool call of an answer."""

    id: str
    function: ToolCallFunction
    type: str = "function"

    def to_dict(self) -> dict[str, Any]:
        """The call as it goes back on the wire, inside an assistant message."""
        if self.type == "custom":
            return {
                "id": self.id,
                "type": "custom",
                "custom": {"name": self.function.name, "input": self.function.arguments_json},
            }
        function = {"name": self.function.name, "arguments": self.function.arguments_json}
        return {"id": self.id, "type": self.type, "function": function}


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that makes constructing three times as slow, once per token
class ToolCallDelta:
    """A fragment of a tool call. Treat it as immutable.

    `id` and `name` come with the first fragment of an `index`, `arguments` in pieces.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Governance:
    """What a governed gateway decided about a call, in one shape for all gateways.

    Args:
        decision: The gateway's word for its decision, for instance ``"allow"`` or ``"blocked"``.
        audit_id: Id of the entry in the gateway's audit trail.
        request_id: Id of the request, for tracing.
        provider: Who ran the model behind the gateway.
        model: The model that ran, where it may differ from the one asked for.
        redactions: Kinds of data that were masked.
        pii_detected: Whether personal data was seen. `None` where the gateway does not say.
        block_reason: Why the call was refused.
        incidents: Security incidents the gateway names.
        cost: Price of the call in `currency`. `None` where unknown.
        currency: ISO 4217 code, for instance ``"USD"``.
        budget_remaining: What is left, by the gateway's name of the budget.
        latency_ms: Milliseconds as measured by the gateway.
        replayed: Whether the answer was replayed from an earlier run. `None` where the gateway does not say.
        extra: The gateway's own fields that have no name here.
    """

    decision: str | None = None
    audit_id: str | None = None
    request_id: str | None = None
    provider: str | None = None
    model: str | None = None
    redactions: tuple[str, ...] = ()
    pii_detected: bool | None = None
    block_reason: str | None = None
    incidents: tuple[str, ...] = ()
    cost: float | None = None
    currency: str | None = None
    budget_remaining: Mapping[str, float | int | None] | None = None
    latency_ms: float | None = None
    replayed: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Attempt:
    """One request on the wire: an entry of the ledger that results and errors carry.

    Times are of the monotonic clock, in seconds. `ended` is `None` while the attempt runs; a stream's attempt ends
    with the stream.
    """

    number: int
    started: float
    ended: float | None = None
    status: int | None = None
    request_id: str | None = None
    error: str | None = None
    """Class name of the failure, `None` while there is none."""
    phase: Phase | None = None
    wait: float | None = None
    """Seconds waited after this attempt, before the next. `None` when there was no next."""
    why: str | None = None
    """Why it was, or was not, tried again."""
    possibly_duplicated: bool = False
    """Whether the answer to an earlier attempt was lost, which may have run as well, and no idempotency key is known to
    have kept the gateway from running it twice: the answer may have been paid for twice.
    """


class _Ledgered:
    """What has a ledger."""

    __slots__ = ()

    @property
    def possibly_duplicated(self) -> bool:
        """Whether the request may have run more than once, see `Attempt.possibly_duplicated`."""
        attempts: tuple[Attempt, ...] = self.attempts  # type: ignore[attr-defined]
        return any(attempt.possibly_duplicated for attempt in attempts)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers asked for with ``n``. Fields as in `LLMResponse`.

    `extra` holds the members of the choice and its message that have no name here (``annotations``, ``audio``,
    ``content_filter_results``, ...), for each the last value that came, lists joined. It is not compared.
    """

    index: int = 0
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LLMResponse(_Ledgered):
    """A whole answer, from a unary call or accumulated from a stream.

    Two responses are equal when they say the same; what belongs to the transfer (ids, metadata, ledger) is not
    compared.

    Args:
        content: The text; ``""`` when the answer has none, for instance only tool calls.
        reasoning: What the model thought aloud. `None` when it did not.
        tool_calls: The tools it wants called. `None` when none.
        model: The model as the gateway names it.
        finish_reason: Why it stopped, in the gateway's word, kept as it came.
        stop_sequence: The sequence that stopped it, where a gateway tells (vLLM's ``stop_reason``).
        request_id: The ``id`` of the body (``chatcmpl-...``).
        usage: Token counts. `None` when not reported.
        provider_metadata: Members of the body that have no name here, and ``response_headers``.
        refusal: The model's refusal, where a gateway tells it from content.
        logprobs: As the gateway sent them.
        choices: All answers, ordered by index, when more than one was asked for; else the one above.
        created: Unix time in seconds, as the gateway says.
        gateway_request_id: The id in the response headers (``x-request-id``), for the gateway's operators.
        governance: What the gateway decided. `None` where it says nothing.
        attempts: One `Attempt` for each request sent.
        idempotency_key: The key the request carried. `None` when it carried none.
    """

    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    model: str | None = None
    finish_reason: str | None = None
    stop_sequence: str | None = None
    request_id: str | None = field(default=None, compare=False)
    usage: UsageInfo | None = None
    provider_metadata: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    refusal: str | None = None
    logprobs: Any = None
    choices: tuple[Choice, ...] = field(default=(), repr=False)
    created: int | None = field(default=None, compare=False)
    gateway_request_id: str | None = field(default=None, compare=False)
    governance: Governance | None = field(default=None, compare=False)
    attempts: tuple[Attempt, ...] = field(default=(), compare=False, repr=False)
    idempotency_key: str | None = field(default=None, compare=False)


class ChunkHead:
    """What is the same for all chunks of a stream, shared between them."""

    __slots__ = ("created", "model", "request_id", "response_headers")

    def __init__(
        self,
        request_id: str | None = None,
        model: str | None = None,
        created: int | None = None,
        response_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.request_id = request_id
        self.model = model
        self.created = created
        self.response_headers = response_headers


class LLMResponseChunk:
    """One piece of a streamed answer.

    Fields that a piece does not have are `None`; a piece may have several. Not to be changed by the receiver.

    A chunk is made for each event of a stream, so only what is present is stored: the defaults are class attributes.
    """

    delta_content: str | None = None
    delta_reasoning: str | None = None
    delta_tool_calls: tuple[ToolCallDelta, ...] | None = None
    delta_refusal: str | None = None
    finish_reason: str | None = None
    usage: UsageInfo | None = None
    index: int = 0
    """The choice this piece belongs to, when ``n`` is greater than 1."""
    role: str | None = None
    logprobs: Any = None
    tool_calls: tuple[ToolCall, ...] | None = None
    """The complete tool calls of this choice, on the chunk that has its finish reason."""
    extra: Mapping[str, Any] | None = None
    """Members of the event that have no name here."""
    choice_extra: Mapping[str, Any] | None = None
    """Members of the choice and its delta that have no name here."""
    restart: int | None = None
    """Of a marker alone: the stream broke off and begins anew, for the how many-th time. What came before it does not
    belong to the answer that follows.
    """
    head: ChunkHead = ChunkHead()

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            if name not in _CHUNK_FIELDS:
                raise TypeError(f"LLMResponseChunk has no field {name!r}")
            setattr(self, name, value)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> LLMResponseChunk:
        """A chunk that takes over a dictionary of its fields, unchecked: for decoders, which make one per event."""
        chunk = cls.__new__(cls)
        chunk.__dict__ = fields
        return chunk

    @property
    def request_id(self) -> str | None:
        """The ``id`` of the answer (``chatcmpl-...``)."""
        return self.head.request_id

    @property
    def model(self) -> str | None:
        """The model as the gateway names it."""
        return self.head.model

    @property
    def provider_metadata(self) -> dict[str, Any] | None:
        """`extra`, and the headers of the answer as ``response_headers``."""
        metadata = dict(self.extra or {})
        if self.head.response_headers is not None:
            metadata["response_headers"] = dict(self.head.response_headers)
        return metadata or None

    @property
    def has_content(self) -> bool:
        """Whether this is a piece of the answer: text, reasoning, a refusal, something of a tool call."""
        if self.delta_content or self.delta_reasoning or self.delta_refusal:
            return True
        return any(delta.arguments or delta.name or delta.id for delta in self.delta_tool_calls or ())

    @property
    def is_meaningful(self) -> bool:
        """Whether this is content or an end, and not a role, an id or a count alone."""
        return self.has_content or self.finish_reason is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LLMResponseChunk):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _COMPARED_CHUNK_FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        present = (
            f"{name}={value!r}"
            for name in _COMPARED_CHUNK_FIELDS
            if (value := getattr(self, name)) is not None and (name != "index" or value)
        )
        return f"LLMResponseChunk({', '.join(present)})"


class TextChunk(LLMResponseChunk):
    """A chunk that is a piece of the answer's text and nothing else of its own, as nearly all chunks of a stream are.

    It has slots for what it has, which takes half the time and memory of a dictionary. `extra` is shared by chunks.
    """

    __slots__ = ("delta_content", "extra", "head")


class ReasoningChunk(LLMResponseChunk):
    """As `TextChunk`, of a piece of reasoning."""

    __slots__ = ("delta_reasoning", "extra", "head")


class ArgumentsChunk(LLMResponseChunk):
    """As `TextChunk`, of a piece of a tool call's arguments."""

    __slots__ = ("delta_tool_calls", "extra", "head")


_COMPARED_CHUNK_FIELDS = (
    "delta_content",
    "delta_reasoning",
    "delta_tool_calls",
    "delta_refusal",
    "finish_reason",
    "usage",
    "index",
    "role",
    "logprobs",
    "tool_calls",
    "extra",
    "choice_extra",
    "restart",
)
_CHUNK_FIELDS = frozenset((*_COMPARED_CHUNK_FIELDS, "head"))


@dataclass(frozen=True, slots=True)
class StreamSummary(_Ledgered):
    """What a stream was, once it is over; while it runs, what it is so far.

    Times are of the monotonic clock, in seconds.

    Args:
        verdict: How it ended. `None` while it runs or was left early.
        started: When the call was made.
        first_event: When the first meaningful chunk was received. `None` before.
        first_content: When the first text of the answer was received, reasoning not counted. `None` before.
        last_event: When the last chunk was received. `None` before the first.
        chunks: Chunks received.
        reads: Socket reads that gave at least one chunk.
        bytes: Bytes of the body received.
        usage: Token counts. `None` when absent.
        usage_provenance: Where the counts come from.
        finish_reason: Of the first choice. `None` until one came.
        request_id: The ``id`` of the answer.
        gateway_request_id: The id in the response headers.
        idempotency_key: The key the request carried.
        governance: What the gateway decided.
        attempts: One `Attempt` for each request sent.
        error: What broke it off. `None` while it runs and when it is complete.
        restarts: How often it was begun anew after output had come.
    """

    verdict: Verdict | None
    started: float | None
    first_event: float | None
    first_content: float | None
    last_event: float | None
    chunks: int
    reads: int
    bytes: int
    usage: UsageInfo | None
    usage_provenance: UsageProvenance
    finish_reason: str | None
    request_id: str | None
    gateway_request_id: str | None
    idempotency_key: str | None
    governance: Governance | None
    attempts: tuple[Attempt, ...]
    error: ModelEngineError | None = None
    restarts: int = 0

    @property
    def time_to_first_event(self) -> float | None:
        """Seconds from the call to the first meaningful chunk, retries included. `None` before it."""
        if self.started is None or self.first_event is None:
            return None
        return self.first_event - self.started


@dataclass(frozen=True, slots=True)
class EmbeddingResponse(_Ledgered):
    """Vectors, in the order of the input.

    Args:
        embeddings: One list of floats for each input.
        model: The model as the gateway names it.
        usage: Token counts (`output_tokens` is 0). `None` when not reported.
        gateway_request_id, governance, attempts, idempotency_key: As in `LLMResponse`.
        provider_metadata: As in `LLMResponse`.
    """

    embeddings: tuple[list[float], ...]
    model: str | None = None
    usage: UsageInfo | None = None
    provider_metadata: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    gateway_request_id: str | None = field(default=None, compare=False)
    governance: Governance | None = field(default=None, compare=False)
    attempts: tuple[Attempt, ...] = field(default=(), compare=False, repr=False)
    idempotency_key: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that a gateway offers."""

    id: str
    created: int | None = None
    owned_by: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a gateway answers and is ready for requests.

    Args:
        ready: True when the gateway answered its health path with a success.
        status: HTTP status of the answer. `None` when none came.
        detail: What the gateway said, decoded, or the text of the failure.
        latency: Seconds until the answer.
    """

    ready: bool
    status: int | None
    detail: Any
    latency: float
