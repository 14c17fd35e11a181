"""The recorded vectors of Modelgov's client, played to the engine over a socket.

``data/vectors/modelgov.json`` holds what that client was asked, what it sent, what the gateway answered and what came
out. The engine has to send the same requests and give the caller the same information. Where it differs on purpose
stands in `DEVIATIONS`, with the reason.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
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
    BudgetExceededError,
    ClockError,
    ConnectError,
    IdempotencyInProgressError,
    IdempotencyKeyReuseError,
    IdempotencyNotSupportedError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ModelNotAllowedError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ReplayedWithoutContentError,
    SafetyBlockedError,
    ServerError,
)
from penstock.engine.gateways.modelgov import ModelgovGateway, ModelgovOperations
from penstock.engine.types import EmbeddingResponse, LLMResponse, UsageInfo
from tests.clocks import FakeClock

Vector = dict[str, Any]

FILE = Path(__file__).parents[2] / "data" / "vectors" / "modelgov.json"
VECTORS: dict[str, Vector] = {vector["name"]: vector for vector in orjson.loads(FILE.read_bytes())["vectors"]}

DEVIATIONS = {
    "modelgov.error.html_502": "what is no envelope of the gateway's has no code",
    "modelgov.stream.midstream_error_without_code": "what the event said is kept, in message and body",
    "modelgov.chat.idempotent_replay": "a replay without its content is an error, and no empty answer",
    "modelgov.stream.with_idempotency_key_rejected": "a key for a stream is refused before anything is sent",
}

ERRORS: dict[str, tuple[type[ModelEngineError], bool]] = {
    "modelgov.chat.no_api_key": (AuthenticationError, False),
    "modelgov.error.policy_blocked": (ModelNotAllowedError, False),
    "modelgov.error.budget_exceeded": (BudgetExceededError, False),
    "modelgov.error.safety_blocked": (SafetyBlockedError, False),
    "modelgov.error.forbidden": (PermissionDeniedError, False),
    "modelgov.error.unauthorized": (AuthenticationError, False),
    "modelgov.error.invalid_request": (InvalidRequestError, False),
    "modelgov.error.insufficient_credits": (QuotaExceededError, False),
    "modelgov.error.idempotency_in_progress": (IdempotencyInProgressError, True),
    "modelgov.error.idempotency_key_reuse": (IdempotencyKeyReuseError, False),
    "modelgov.error.payload_too_large": (InvalidRequestError, False),
    "modelgov.error.rate_limit_exceeded": (RateLimitError, True),
    "modelgov.error.rate_limit_http_date": (RateLimitError, True),
    "modelgov.error.internal_error": (ServerError, True),
    "modelgov.error.provider_unavailable": (ProviderError, True),
    "modelgov.error.upstream_rejected": (ProviderError, False),
    "modelgov.error.safety_unavailable": (OverloadedError, True),
    "modelgov.error.audit_unavailable": (OverloadedError, True),
    "modelgov.error.database_unavailable_not_retryable": (OverloadedError, False),
    "modelgov.error.database_unavailable_with_key": (OverloadedError, True),
    "modelgov.error.ai_requests_paused": (OverloadedError, False),
    "modelgov.error.html_502": (ProviderError, True),
    "modelgov.stream.midstream_error": (ProviderError, False),
    "modelgov.stream.midstream_error_without_code": (ServerError, False),
    "modelgov.stream.blocked_before_start": (SafetyBlockedError, False),
    "modelgov.stream.unsupported": (InvalidRequestError, False),
    "modelgov.embed.policy_blocked": (ModelNotAllowedError, False),
    "modelgov.usage.forbidden": (PermissionDeniedError, False),
}
"""The class of each error, where the client has one for nearly all, and whether the request is sent again."""

NOT_COMPARED = {
    *("accept", "accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"),
    "x-stainless-retry-count",  # our repetitions say how many came before them
}
API_KEY = "mg-test-key"


class Modelgov(ModelgovOperations, ModelEngine):  # type: ignore[misc]  # embed() asks for the identity
    pass


class Server:
    """Gives the answer of a vector to every request, and records the requests."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self._answer = answer
        self._closing = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle))

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower() not in NOT_COMPARED}
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": [list(pair) for pair in request.query.items()],
                "headers": headers,
                "json": orjson.loads(body) if body else None,
            }
        )
        if "delay_s" in self._answer:
            await self._closing.wait()  # longer than anybody is willing to wait
        response = web.StreamResponse(status=self._answer["status"], headers=_headers(self._answer))
        await response.prepare(request)
        for piece in _pieces(self._answer):
            await response.write(piece)
        await response.write_eof()
        return response


def _headers(answer: dict[str, Any]) -> dict[str, str]:
    headers = dict(answer["headers"])
    if headers.get("retry-after", "").startswith("@http-date:+"):
        headers["retry-after"] = formatdate(time() + 2, usegmt=True)
    return headers


def _pieces(answer: dict[str, Any]) -> list[bytes]:
    if "body" in answer:
        return [orjson.dumps(answer["body"])]
    return [piece.encode() for piece in answer.get("chunks") or [answer.get("sse", answer.get("text", ""))]]


@dataclass
class Played:
    """What came of playing a vector to the engine."""

    vector: Vector
    requests: list[dict[str, Any]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    result: Any = None
    error: ModelEngineError | None = None
    deltas: list[str] = field(default_factory=list)


def closed_port_url() -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


async def ask(engine: Modelgov, played: Played) -> Any:
    call = played.vector["call"]
    kwargs = dict(call["kwargs"])
    if "timeout" in played.vector.get("client_options", {}):
        kwargs["timeout"] = played.vector["client_options"]["timeout"]
    if call["method"] == "chat_stream":
        async with engine.chat_stream(**kwargs) as stream:
            async for chunk in stream:
                played.deltas += [chunk.delta_content] if chunk.delta_content else []
            return await stream.response()
    return await getattr(engine, call["method"])(**kwargs)


async def play(name: str) -> Played:
    vector = VECTORS[name]
    played, options = Played(vector), vector.get("client_options", {})
    clock = None if "delay_s" in (vector["response"] or {}) else FakeClock()
    clocks: dict[str, Any] = {} if clock is None else {"clock": clock}
    async with Server(vector["response"] or {}) as server:
        engine = Modelgov(
            None,
            gateway=ModelgovGateway(),
            base_url=closed_port_url() if "base_url" in options else server.url + options.get("base_suffix", ""),
            api_key=options.get("api_key", API_KEY),
            middleware=default_stack(retry=Retry(max_attempts=2)),
            **clocks,
        )
        async with engine:
            try:
                played.result = await ask(engine, played)
            except ModelEngineError as error:
                played.error = error
        played.requests, played.waits = server.requests, clock.sleeps if clock is not None else []
    return played


def check_requests(played: Played) -> None:
    expected, requests = played.vector["request"], played.requests
    is_sent_again = ERRORS.get(played.vector["name"], (None, False))[1]
    assert len(requests) == (2 if is_sent_again else 1)
    assert all(request == requests[0] for request in requests)
    theirs = {name: value for name, value in expected["headers"].items() if name not in NOT_COMPARED}
    ours = dict(requests[0]["headers"])
    key = ours.pop("idempotency-key", None)
    assert (key is not None) == (expected["method"] == "POST" and not (expected["json"] or {}).get("stream"))
    assert theirs.pop("idempotency-key", key) == key
    if expected["method"] == "GET":
        del theirs["content-type"]  # of a body that is not there
    assert ours == theirs
    assert {**requests[0], "headers": None} == {**expected, "headers": None}


def check_result(played: Played) -> None:
    expected, result = played.vector["result"], played.result
    assert "error" not in expected, f"{result!r} is no error"
    if "chunks" in expected:
        check_stream(played)
    elif isinstance(result, LLMResponse):
        assert result.content == expected["message"]["content"]
        check_answer(result, expected, played.vector["response"]["headers"])
    elif isinstance(result, EmbeddingResponse):
        assert list(result.embeddings) == expected["embeddings"]
        check_answer(result, expected, played.vector["response"]["headers"])
    else:
        assert result == expected


def check_answer(result: LLMResponse | EmbeddingResponse, expected: dict[str, Any], headers: dict[str, str]) -> None:
    assert result.model == expected["model"]
    assert result.usage == usage(expected["usage"])
    assert result.governance is not None
    assert result.governance.audit_id == expected["requestId"]
    assert result.governance.decision == expected["decision"]
    assert result.governance.provider == expected["provider"]
    assert (result.governance.cost, result.governance.currency) == (expected["cost"]["actualUsd"], "USD")
    assert result.governance.extra["estimatedUsd"] == expected["cost"]["estimatedUsd"]
    assert result.governance.budget_remaining == expected["budgetRemaining"]
    assert result.governance.extra.get("safety") == expected.get("safety")
    assert result.governance.extra.get("reason") == expected.get("reason")
    assert result.governance.replayed is (False if "x-idempotent-replay" in headers else None)
    rest = {name: value for name, value in (result.provider_metadata or {}).items() if name != "response_headers"}
    named = ("message", "embeddings", "model", "usage")
    assert rest == {name: value for name, value in expected.items() if name not in named}


def check_stream(played: Played) -> None:
    expected, result = played.vector["result"], played.result
    assert played.deltas == expected["chunks"]
    assert result.content == "".join(expected["chunks"])
    assert (result.provider_metadata or {}).get("done") == expected["done"]
    if expected["done"]:
        assert (result.model, result.request_id) == (expected["done"]["model"], expected["done"]["requestId"])
        assert result.usage == usage(expected["done"]["usage"])
        assert result.governance is not None
        assert result.governance.audit_id == expected["done"]["requestId"]


def usage(counts: dict[str, int | None]) -> UsageInfo | None:
    tokens = counts["inputTokens"], counts.get("outputTokens", 0)
    return None if None in tokens else UsageInfo(tokens[0] or 0, tokens[1] or 0, (tokens[0] or 0) + (tokens[1] or 0))


def check_error(played: Played) -> None:
    name, error, facts = played.vector["name"], played.error, played.vector["result"]["error"]["attributes"]
    assert error is not None
    assert type(error) is ERRORS[name][0]
    assert error.status == facts["status"]
    assert error.request_id == facts["request_id"]
    governance = error.governance
    assert (governance and governance.audit_id) == facts["audit_request_id"]
    assert (governance and governance.budget_remaining) == facts["budget_remaining"]
    if facts["reason_code"]:
        assert governance is not None
        assert governance.block_reason == facts["reason_code"]
    if name == "modelgov.error.html_502":
        assert (error.code, error.body) == (None, played.vector["response"]["text"])
    elif name == "modelgov.stream.midstream_error_without_code":
        assert (error.code, error.message, error.body) == (facts["code"], '{"oops":true}', {"oops": True})
    else:
        assert (error.code, error.message, error.body) == (facts["code"], facts["message"], facts["body"])
    assert played.deltas == played.vector["result"].get("partial", [])
    assert (error.partial.content if error.partial is not None else "") == "".join(played.deltas)
    sent = played.vector["response"]["headers"]
    assert {header: error.headers.get(header) for header in sent if header != "retry-after"} == {
        header: value for header, value in sent.items() if header != "retry-after"
    }


def check_waits(played: Played) -> None:
    """Never earlier than told; a date in whole seconds tells up to a second less."""
    told = played.vector["response"]["headers"].get("retry-after")
    if told is not None:
        assert len(played.waits) == 1
        assert played.waits[0] >= (0.5 if told.startswith("@") else float(told))


CONFORMING = [
    name
    for name, vector in VECTORS.items()
    if vector["conform"] != "info" and name != "modelgov.chat.idempotent_replay"
]


@pytest.mark.parametrize("name", CONFORMING)
async def test_the_same_requests_and_the_same_information(name: str) -> None:
    played = await play(name)

    check_requests(played)
    check_waits(played)
    if played.error is None:
        check_result(played)
    else:
        check_error(played)


def _is_empty_replay(played: Played) -> bool:
    error = played.error
    return (
        isinstance(error, ReplayedWithoutContentError)
        and error.governance is not None
        and error.governance.replayed is True
    )


ADVICE: dict[str, Callable[[Played], bool]] = {
    "modelgov.chat.idempotent_replay": _is_empty_replay,
    "modelgov.stream.with_idempotency_key_rejected": lambda played: (
        isinstance(played.error, IdempotencyNotSupportedError) and not played.requests
    ),
    "modelgov.transport.connection_refused": lambda played: isinstance(played.error, ConnectError),
    "modelgov.transport.timeout": lambda played: isinstance(played.error, ClockError),
    "modelgov.chat.success_body_not_json": lambda played: type(played.error) is MalformedResponseError,
}


@pytest.mark.parametrize("name", ADVICE)
async def test_advice_is_followed(name: str) -> None:
    played = await play(name)

    if played.requests:
        check_requests(played)
    assert ADVICE[name](played), (played.vector["advice"], played.error, played.result)


def test_every_vector_is_played() -> None:
    assert set(CONFORMING) | set(ADVICE) == set(VECTORS)
    assert {name for name, vector in VECTORS.items() if vector["conform"] == "info"} <= set(ADVICE)
    assert set(DEVIATIONS) <= set(VECTORS)
    assert set(ERRORS) == {name for name in CONFORMING if "error" in VECTORS[name]["result"]}
