"""The recorded vectors of OpenAI's and NeMo Guardrails' clients, played to the engine over a socket.

``data/vectors/*.json`` hold what those clients were asked, what they sent, what the server answered and what came
out. The server here gives the same answers; the engine has to send the same requests and give the caller the same
information. Where it differs on purpose stands in `DEVIATIONS`, with the reason.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import orjson
import pytest
from aiohttp import web
from typing_extensions import Self

from penstock import ModelEngine, Retry, default_stack
from penstock.engine.errors import (
    AuthenticationError,
    ClockError,
    ConfigurationError,
    ConflictError,
    ContextWindowExceededError,
    EngineNotStartedError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    UnsupportedParameterError,
)
from penstock.engine.types import EmbeddingResponse, LLMResponse, ModelInfo
from tests.clocks import FakeClock

Vector = dict[str, Any]

FOLDER = Path(__file__).parent.parent / "data" / "vectors"
VECTORS: dict[str, Vector] = {
    vector["name"]: vector
    for name in ("openai", "nim")
    for vector in orjson.loads((FOLDER / f"{name}.json").read_bytes())["vectors"]
}

ASKS_FOR_USAGE = "usage is asked for by default, since a bill without it is a guess"
DEVIATIONS = {
    "openai.stream.plain": ASKS_FOR_USAGE,
    "openai.stream.reasoning_delta": ASKS_FOR_USAGE,
    "openai.stream.tool_call_fragments": ASKS_FOR_USAGE,
    "openai.stream.midstream_error": ASKS_FOR_USAGE,
    "openai.stream.error_event_name": ASKS_FOR_USAGE,
    "openai.stream.http_error": ASKS_FOR_USAGE,
    "openai.error.429_quota": "a quota that is used up is told from a throttle",
    "openai.models.retrieve": "one model is looked up in the list of models()",
    "nim.stream.tool_calls_without_finish": "a finish reason that did not come is not made up",
    "nim.stream.midstream_error_unknown": "ResourceExhausted before any output passes, and is tried again",
    "nim.retry.408_and_409_not_retried": "a conflict is a lock that may pass, and is tried again",
}

# What their classes tell apart, by our classes.
CLASSES: dict[str, tuple[type[ModelEngineError], ...]] = {
    "BadRequestError": (InvalidRequestError,),
    "AuthenticationError": (AuthenticationError,),
    "PermissionDeniedError": (PermissionDeniedError,),
    "NotFoundError": (NotFoundError,),
    "ConflictError": (ConflictError,),
    "UnprocessableEntityError": (InvalidRequestError,),
    "RateLimitError": (RateLimitError,),
    "InternalServerError": (ServerError,),
    "APIStatusError": (ModelEngineError,),
    "APIError": (ServerError,),
    "APIConnectionError": (TransportError,),
    "APITimeoutError": (ClockError,),
    "LLMBadRequestError": (InvalidRequestError,),
    "LLMContextWindowError": (ContextWindowExceededError,),
    "LLMUnsupportedParamsError": (UnsupportedParameterError,),
    "LLMAuthenticationError": (AuthenticationError,),
    "LLMRateLimitError": (RateLimitError,),
    "LLMServerError": (ServerError,),
    "LLMTimeoutError": (ClockError, RequestTimeoutError),
    "LLMConnectionError": (TransportError,),
    "LLMResponseValidationError": (MalformedResponseError,),
    "LLMClientError": (ModelEngineError,),
    "RuntimeError": (ConfigurationError,),
    "ValueError": (ConfigurationError,),
}

NOT_COMPARED = {
    *("accept", "accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"),
    "x-stainless-retry-count",  # our repetitions say how many came before them
}


class Server:
    """Gives the answers of a vector, one for each request and the last one again, and records the requests."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self._answers = answers
        self._closing = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle))

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.connections.add(request.transport)
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": [list(pair) for pair in request.query.items()],
                "headers": {
                    name.lower(): value for name, value in request.headers.items() if name.lower() not in NOT_COMPARED
                },
                "json": orjson.loads(body) if body else None,
            }
        )
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if answer.get("drop_connection_before_response"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if "delay_s" in answer:
            await self._closing.wait()  # longer than anybody is willing to wait
        return web.Response(status=answer["status"], headers=_headers(answer), body=_body(answer))


def _headers(answer: dict[str, Any]) -> dict[str, str]:
    headers = dict(answer["headers"])
    for name, value in headers.items():
        if value.startswith("@http-date:+"):
            headers[name] = formatdate(time() + int(value.removeprefix("@http-date:+")), usegmt=True)
    return headers


def _body(answer: dict[str, Any]) -> bytes:
    if "body" in answer:
        return orjson.dumps(answer["body"])
    return str(answer.get("sse", answer.get("text", ""))).encode()


@dataclass
class Played:
    """What came of playing a vector to the engine."""

    vector: Vector
    requests: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    waits: list[float] = field(default_factory=list)
    result: Any = None
    error: ModelEngineError | None = None


def engine_of(vector: Vector, url: str, clock: FakeClock | None) -> ModelEngine:
    """The engine, set up as the vector's client was."""
    options = vector.get("client_options", {})
    clocks: dict[str, Any] = {} if clock is None else {"clock": clock}
    if vector["name"].startswith("openai."):
        kwargs = vector["call"]["kwargs"]
        account = {"OpenAI-Organization": options.get("organization"), "OpenAI-Project": options.get("project")}
        return ModelEngine(
            kwargs.get("model", "gpt-4o-mini"),
            base_url=filled(options.get("base_url", "{base_url}/v1"), url),
            api_key="oai-test-key",
            default_headers={name: value for name, value in account.items() if value},
            middleware=default_stack(retry=Retry(max_attempts=options.get("max_retries", 0) + 1)),
            **clocks,
        )
    parameters = {"base_url": url + options.get("base_suffix", "")} if options.get("set_base_url", True) else {}
    config = {
        "engine": options.get("engine", "nim"),
        "model": options.get("model", "meta/llama-3.3-70b-instruct"),
        "api_key_env_var": options.get("api_key_env_var"),
        "parameters": {**parameters, **options.get("parameters", {})},
    }
    config["parameters"] = {name: filled(value, url) for name, value in config["parameters"].items()}
    return ModelEngine(config, **clocks)


def filled(value: Any, url: str) -> Any:
    return (
        value.replace("{base_url}", url).replace("{closed_port_url}", closed_port_url())
        if isinstance(value, str)
        else value
    )


def closed_port_url() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


async def ask(engine: ModelEngine, vector: Vector) -> Any:
    """The call of the vector, by our names."""
    method, kwargs = vector["call"]["method"], dict(vector["call"]["kwargs"])
    if "timeout" in vector.get("client_options", {}):
        kwargs["timeout"] = vector["client_options"]["timeout"]
    if method == "embeddings.create":
        return await engine.embed(kwargs.pop("input"), **kwargs)
    if method == "models.list":
        return await engine.models()
    if method == "call":
        return await engine.call(**kwargs)
    messages = kwargs.pop("messages", None) or kwargs.pop("prompt")
    if kwargs.get("stream") or method in ("stream_call", "stream_from_messages"):
        stream = engine.stream_call(messages, **kwargs)
        async for _ in stream:
            pass
        return await stream.response()
    return await engine.chat_completion(messages, **kwargs)


async def play(name: str, monkeypatch: pytest.MonkeyPatch) -> Played:
    vector = VECTORS[name]
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in vector.get("env", {}).items():
        monkeypatch.setenv(variable, value)
    is_timed = "delay_s" in (vector["response"] or {})
    clock = None if is_timed else FakeClock()
    played = Played(vector)
    async with Server(vector.get("responses") or [vector["response"]]) as server:
        try:
            engine = engine_of(vector, server.url, clock)
            if vector.get("client_options", {}).get("start", True):
                await engine.start()
            try:
                played.result = await ask(engine, vector)
            finally:
                await engine.stop()
        except ModelEngineError as error:
            played.error = error
        played.requests, played.connections = server.requests, len(server.connections)
    played.waits = clock.sleeps if clock is not None else []
    return played


@dataclass
class Said:
    """What an answer says, in one shape for their results and ours."""

    id: str | None = None
    model: str | None = None
    content: str = ""
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[tuple[str, str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    usage: tuple[int | None, ...] | None = None


def said_by_us(response: LLMResponse) -> Said:
    usage = response.usage
    return Said(
        response.request_id,
        response.model,
        response.content,
        response.reasoning,
        response.refusal,
        [(call.id, call.function.name, call.function.arguments) for call in response.tool_calls or ()],
        response.finish_reason,
        None if usage is None else astuple(usage),
    )


def said_by_openai(results: list[dict[str, Any]]) -> Said:
    """Of a whole completion, or of the chunks of a stream."""
    said, calls = Said(), dict[int, list[str]]()
    for result in results:
        said.id, said.model = result["id"], result["model"]
        for choice in result["choices"]:
            body = choice.get("message") or choice["delta"]
            said.content += body.get("content") or ""
            said.reasoning = (said.reasoning or "") + (body.get("reasoning_content") or "") or None
            said.refusal = said.refusal or body.get("refusal")
            said.finish_reason = choice["finish_reason"] or said.finish_reason
            for position, call in enumerate(body.get("tool_calls") or ()):
                joined = calls.setdefault(call.get("index", position), ["", "", ""])
                joined[0] += call.get("id") or ""
                joined[1] += call["function"].get("name") or ""
                joined[2] += call["function"]["arguments"]
        if usage := result.get("usage"):
            details = usage.get("completion_tokens_details", {}), usage.get("prompt_tokens_details", {})
            said.usage = (
                *(usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")),
                details[0].get("reasoning_tokens"),
                details[1].get("cached_tokens"),
            )
    said.tool_calls = [(id, name, orjson.loads(arguments)) for id, name, arguments in calls.values()]
    return said


def said_by_nemo(results: list[dict[str, Any]]) -> Said:
    said = Said()
    for result in results:
        said.id, said.model = result["request_id"], result.get("model") or said.model
        said.content += result.get("content") or result.get("delta_content") or ""
        reasoning = result.get("reasoning") or result.get("delta_reasoning") or ""
        said.reasoning = (said.reasoning or "") + reasoning or None
        said.finish_reason = result.get("finish_reason") or said.finish_reason
        for call in result.get("tool_calls") or result.get("delta_tool_calls") or ():
            said.tool_calls.append((call["id"], call["function"]["name"], call["function"]["arguments"]))
        if usage := result.get("usage"):
            names = ("input_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "cached_tokens")
            said.usage = tuple(usage.get(name) for name in names)
    return said


def check_result(played: Played) -> None:
    expected, result = played.vector["result"], played.result
    assert "error" not in expected, f"{result!r} is no error"
    if isinstance(result, EmbeddingResponse):
        value = expected["value"]
        assert list(result.embeddings) == [entry["embedding"] for entry in value["data"]]
        assert (result.model, result.usage and result.usage.total_tokens) == (
            value["model"],
            value["usage"]["total_tokens"],
        )
    elif isinstance(result, tuple):
        assert result == tuple(ModelInfo(card["id"], card["created"], card["owned_by"]) for card in expected["value"])
    elif isinstance(result, dict):
        assert result == expected
    else:
        check_response(played.vector, result)


def check_response(vector: Vector, response: LLMResponse) -> None:
    expected = vector["result"]
    results = expected.get("chunks") or [expected.get("value", expected)]
    theirs = said_by_openai(results) if vector["name"].startswith("openai.") else said_by_nemo(results)
    ours = said_by_us(response)
    if vector["name"] == "nim.stream.tool_calls_without_finish":
        theirs.finish_reason, theirs.model = None, ours.model
    assert ours == theirs
    if expected.get("request_id") and "value" in expected:
        assert response.gateway_request_id == expected["request_id"]
    for name, value in (results[-1].get("provider_metadata") or {}).items():
        metadata = response.provider_metadata or {}
        if name == "response_headers":
            value = {header: text for header, text in value.items() if metadata[name].get(header) != text}
            assert value == {}
        else:
            assert metadata[name] == value


def check_error(played: Played) -> None:
    error, expected = played.error, played.vector["result"]["error"]
    assert error is not None
    inner = expected["attributes"].get("inner_exception", expected)
    facts = {**expected["attributes"], **inner["attributes"]}
    if played.vector["name"] == "openai.error.429_quota":
        assert type(error) is QuotaExceededError
    else:
        assert isinstance(error, CLASSES[inner["class"]])
    status = facts.get("status_code") or None
    assert error.status == (status or error.status)
    if status is not None and played.vector["response"]:
        assert str(status) in str(error)
    for ours, theirs in (
        (error.code, facts.get("error_code") or facts.get("code")),
        (error.type, facts.get("error_type") or facts.get("type")),
        (error.param, facts.get("param")),
        (error.request_id, facts.get("request_id")),
    ):
        assert ours == (None if theirs is None else str(theirs))
    if isinstance(body := facts.get("body"), dict) and error.body is not None:
        got = orjson.loads(error.body) if isinstance(error, MalformedResponseError) else error.body
        assert got in (body, {"error": body})
    if isinstance(seconds := facts.get("retry_after_seconds"), (int, float)):
        assert error.retry_after == seconds
    if isinstance(body, dict) and (message := (body.get("error") or body).get("message") or body.get("detail")):
        assert error.message == message
    if played.vector["name"].startswith("nim.") and played.requests:
        assert error.model_name == facts["model_name"]
    check_partial(played, error)


def check_partial(played: Played, error: ModelEngineError) -> None:
    chunks = played.vector["result"].get("partial") or []
    if not chunks:
        assert error.partial is None
        return
    openai = played.vector["name"].startswith("openai.")
    theirs = said_by_openai(chunks) if openai else said_by_nemo(chunks)
    assert error.partial is not None
    assert said_by_us(error.partial) == theirs
    assert error.phase == "after_output"


def check_requests(played: Played) -> None:
    vector, requests = played.vector, played.requests
    expected = vector["request"]
    is_tried_again = DEVIATIONS.get(vector["name"], "").endswith("is tried again")
    assert len(requests) == (3 if is_tried_again else vector["attempts"])
    assert all(request == requests[0] for request in requests)
    if expected is None:
        return
    theirs = {name: value for name, value in expected["headers"].items() if name not in NOT_COMPARED}
    ours = dict(requests[0]["headers"])
    key = ours.pop("idempotency-key", None)
    assert (key is not None) == (expected["method"] == "POST")
    assert theirs.pop("idempotency-key", key) == key
    assert ours == theirs
    body = expected["json"]
    if DEVIATIONS.get(vector["name"]) == ASKS_FOR_USAGE or (body and body.get("stream")):
        body = {"stream_options": {"include_usage": True}, **body}
    assert {**requests[0], "headers": None} == {**expected, "headers": None, "json": body}


def check_waits(played: Played) -> None:
    """Never earlier than told, and at most a tenth later, or as late as the backoff says."""
    responses = played.vector.get("responses") or []
    if not responses or len(responses) != len(played.requests):
        return
    assert len(played.waits) == len(responses) - 1
    for position, (wait, response) in enumerate(zip(played.waits, responses)):
        earliest, latest = told(response)
        assert earliest <= wait <= max(latest * 1.1, 2.0**position)


def told(response: dict[str, Any]) -> tuple[float, float]:
    """Seconds that the answer asks to wait; between two of them when it says so by a date in whole seconds."""
    headers = response.get("headers", {})
    if headers.get("retry-after") == "@http-date:+2":
        return 0.5, 2.0
    seconds = float(headers.get("retry-after-ms", 0)) / 1000 or float(headers.get("retry-after", 0))
    return seconds, seconds


CONFORMING = [
    name for name, vector in VECTORS.items() if vector["conform"] != "info" and name != "openai.models.retrieve"
]


@pytest.mark.parametrize("name", CONFORMING)
async def test_the_same_requests_and_the_same_information(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(name, monkeypatch)

    check_requests(played)
    check_waits(played)
    if "tcp_connections" in played.vector and played.vector["attempts"] == len(played.requests):
        assert played.connections == played.vector["tcp_connections"]
    if played.error is None:
        check_result(played)
    elif name == "nim.lifecycle.not_started":
        assert isinstance(played.error, EngineNotStartedError)
    else:
        check_error(played)


def keys(played: Played) -> set[str | None]:
    return {request["headers"].get("idempotency-key") for request in played.requests}


ADVICE: dict[str, Callable[[Played], bool]] = {
    "openai.retry.quota_is_retried_too": lambda p: isinstance(p.error, QuotaExceededError) and len(p.requests) == 1,
    "openai.retry.dropped_connection": lambda p: len(p.requests) == 2 and len(keys(p)) == 1 and None not in keys(p),
    "nim.chat.call_ignores_config_defaults": lambda p: bool(p.requests[0]["json"]["temperature"] == 0.1),
    "nim.error.400_unsupported_param": lambda p: type(p.error) is UnsupportedParameterError,
    "nim.error.422_detail_list": lambda p: (
        p.error is not None
        and p.error.message == "body.messages: field required"
        and p.error.body == p.vector["response"]["body"]
    ),
    "nim.error.429_hosted": lambda p: isinstance(p.error, RateLimitError) and p.error.message == "Too Many Requests",
    "nim.error.429_quota": lambda p: isinstance(p.error, QuotaExceededError) and p.error.advice == "never",
    "nim.error.secret_redaction": lambda p: p.error is not None and "abcdef123" not in f"{p.error} {vars(p.error)}",
    "nim.error.200_text": lambda p: type(p.error) is MalformedResponseError and p.error.body == "hello",
    "nim.error.200_json_as_text_plain": lambda p: bool(p.result.content == "4"),
    "nim.error.200_with_error_object": lambda p: isinstance(p.error, ServerError) and p.error.message == "capacity",
    "nim.retry.retry_after_ignored": lambda p: len(p.waits) == 1 and 2.0 <= p.waits[0] <= 2.2,
    "nim.retry.501_is_retried": lambda p: isinstance(p.error, ServerError) and len(p.requests) == 1,
    "nim.retry.x_should_retry_false_ignored": lambda p: isinstance(p.error, ServerError) and len(p.requests) == 1,
    "nim.retry.connection_dropped": lambda p: len(p.requests) == 2 and len(keys(p)) == 1 and None not in keys(p),
}


@pytest.mark.parametrize("name", ADVICE)
async def test_advice_is_followed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(name, monkeypatch)
    assert ADVICE[name](played), (played.vector["advice"], played.error, played.result)


def test_every_vector_is_played() -> None:
    assert {name for name, vector in VECTORS.items() if vector["conform"] == "info"} == set(ADVICE)
    assert set(DEVIATIONS) <= set(VECTORS)
    assert set(VECTORS) - set(CONFORMING) - set(ADVICE) == {"openai.models.retrieve"}
