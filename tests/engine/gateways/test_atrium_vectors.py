"""The recorded vectors of Monago Atrium's own client, played to the engine over a socket.

Its client's facts have other names here: `told_by_them` and `told_by_us` bring both into one shape. Where the engine
differs on purpose stands in `DEVIATIONS`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from penstock import ModelEngine, Retry, default_stack
from penstock.engine.errors import (
    AuthenticationError,
    ClockError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    ModelNotAllowedError,
    NotFoundError,
    PIIBlockedError,
    PolicyBlockedError,
    QuotaExceededError,
    RateLimitError,
    SecurityBlockedError,
    ServerError,
    TransportError,
)
from penstock.engine.gateways.atrium import AtriumGateway
from penstock.engine.types import Governance, LLMResponse, Timeouts
from tests.clocks import FakeClock
from tests.engine.test_vectors import FOLDER, NOT_COMPARED, Played, Server, Vector, filled

VECTORS: dict[str, Vector] = {
    vector["name"]: vector for vector in orjson.loads((FOLDER / "atrium.json").read_bytes())["vectors"]
}

DEVIATIONS = {
    "atrium.chat.no_governance_headers": "what the gateway does not say is None, and not false",
    "atrium.auth.no_key_anywhere": "a missing key is an error of the set-up, and only at the vendor's own address",
    "atrium.error.503_text": "the text of a body that is not JSON is the message",
    "atrium.error.empty_body_500": "the message says that the body was empty",
    "atrium.error.200_not_json": "the error keeps the status and what came",
    "atrium.transport.timeout": "the message says which clock ran out",
    "atrium.transport.connection_refused": "the message says what to check",
}

# Its client's classes by ours; its base class, which it raises for all the rest, by what we tell apart.
CLASSES: dict[str, tuple[type[ModelEngineError], ...]] = {
    "AuthError": (AuthenticationError,),
    "RateLimitError": (RateLimitError,),
    "PIIBlockedError": (PIIBlockedError,),
    "SecurityBlockedError": (SecurityBlockedError,),
    "ModelNotAllowedError": (ModelNotAllowedError,),
    "PolicyBlockedError": (PolicyBlockedError,),
    "APIError": (ServerError, MalformedResponseError, TransportError),
    "AtriumError": (InvalidRequestError, NotFoundError, ConflictError, QuotaExceededError),
    "TimeoutError": (ClockError,),
}

AGAIN = (RateLimitError, ServerError, ClockError, TransportError)
"""What may be tried again; all else is final."""


def engine_of(vector: Vector, url: str) -> ModelEngine:
    """The engine, set up as the vector's client was; that one never sends anything twice."""
    options = vector.get("client_options") or {}
    seconds = options.get("timeout")
    clocks: dict[str, Any] = {"clock": FakeClock()} if seconds is None else {"timeouts": Timeouts(first_event=seconds)}
    return ModelEngine(
        vector["call"]["kwargs"]["model"],
        gateway=AtriumGateway(),
        base_url=filled(options.get("base_url", "{base_url}/v1"), url),
        api_key=options.get("api_key", "mng-test-key"),
        default_headers=options.get("default_headers"),
        middleware=default_stack(retry=Retry(max_attempts=1)),
        **clocks,
    )


async def ask(engine: ModelEngine, vector: Vector) -> LLMResponse:
    params = dict(vector["call"]["kwargs"])
    del params["model"]
    extra = params.pop("extra", None)
    return await engine.chat_completion(params.pop("messages"), **params, extra_body=extra)


async def play(name: str, monkeypatch: pytest.MonkeyPatch) -> Played:
    vector = VECTORS[name]
    for variable in ("ATRIUM_API_KEY", "MONAGO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in (vector.get("env") or {}).items():
        monkeypatch.setenv(variable, value)
    played = Played(vector)
    async with Server([vector["response"]]) as server:
        async with engine_of(vector, server.url) as engine:
            try:
                played.result = await ask(engine, vector)
            except ModelEngineError as error:
                played.error = error
        played.requests = server.requests
    return played


def told_by_us(record: Governance | None) -> dict[str, Any]:
    record = record or Governance()
    assert record.currency == (None if record.cost is None else "IDR")
    return {
        "audit_id": record.audit_id,
        "pii_detected": bool(record.pii_detected),
        "pii_redacted": list(record.redactions),
        "policy_decision": record.decision,
        "provider": record.provider,
        "latency_ms": record.latency_ms,
        "cost_idr": record.cost,
        "security_incidents": list(record.incidents),
        "block_reason": record.block_reason,
    }


def told_by_them(governance: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in governance.items() if name != "blocked"}


def check_request(played: Played) -> None:
    expected = played.vector["request"]
    assert len(played.requests) == played.vector["attempts"]
    if not played.requests:
        return
    [request] = played.requests
    headers = dict(request["headers"])
    assert headers.pop("idempotency-key")
    theirs = {name: value for name, value in expected["headers"].items() if name not in NOT_COMPARED}
    assert headers == theirs
    assert {**request, "headers": None} == {**expected, "headers": None}


def check_result(played: Played) -> None:
    expected, response = played.vector["result"], played.result
    assert "error" not in expected, f"{response!r} is no error"
    assert isinstance(response, LLMResponse)
    assert (response.request_id, response.model, response.created) == tuple(
        expected[name] for name in ("id", "model", "created")
    )
    [choice] = expected["choices"]
    assert (response.content, response.finish_reason) == (choice["message"]["content"], choice["finish_reason"])
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == tuple(
        expected["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    assert told_by_us(response.governance) == told_by_them(expected["governance"])


def check_error(played: Played) -> None:
    error, facts = played.error, played.vector["result"]["error"]
    assert error is not None
    theirs = facts["attributes"]
    if (kind := facts["class"]) == "PolicyBlockedError":
        assert type(error) is PolicyBlockedError
    else:
        assert isinstance(error, CLASSES[kind])
    assert error.status == (theirs["status_code"] or error.status)
    told = told_by_us(error.governance)
    for name in ("audit_id", "block_reason", "policy_decision"):
        assert told[name] == theirs[name]
    if theirs["response_body"]:
        assert error.body == theirs["response_body"]
    if played.vector["name"] not in DEVIATIONS:
        assert error.message == theirs["message"]
    assert (error.advice == "after") == isinstance(error, AGAIN)


CONFORMING = [
    name for name, vector in VECTORS.items() if vector["conform"] != "info" and name != "atrium.auth.no_key_anywhere"
]


@pytest.mark.parametrize("name", CONFORMING)
async def test_the_same_request_and_the_same_information(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(name, monkeypatch)

    check_request(played)
    if played.error is None:
        check_result(played)
    else:
        check_error(played)


def test_without_a_key_the_engine_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """``atrium.auth.no_key_anywhere``."""
    for variable in ("ATRIUM_API_KEY", "MONAGO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match="ATRIUM_API_KEY or MONAGO_API_KEY"):
        ModelEngine("gpt-5.4-mini", gateway=AtriumGateway())


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("atrium.error.429_retry_after_seconds", 2.0, 2.0), ("atrium.error.429_retry_after_date", 0.5, 2.0)],
)
async def test_the_wait_that_was_asked_for_is_on_the_error(
    name: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(name, monkeypatch)
    assert played.error is not None
    assert played.error.retry_after is not None
    assert least <= played.error.retry_after <= most
    assert played.error.advice == "after"


async def test_extra_members_go_over_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """``atrium.chat.extra_overrides_named``: as `CallOptions.extra_body` documents it."""
    played = await play("atrium.chat.extra_overrides_named", monkeypatch)
    check_request(played)
    check_result(played)


async def test_a_stream_is_read_as_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    """``atrium.stream.not_supported``: asked for by its own method, it is a stream, with the record of its head."""
    vector = VECTORS["atrium.stream.not_supported"]
    async with Server([vector["response"]]) as server, engine_of(vector, server.url) as engine:
        stream = engine.stream_call(vector["call"]["kwargs"]["messages"])
        response = await stream.response()
        [request] = server.requests
    assert request["json"] == vector["request"]["json"]
    assert response.content == "Hi"
    assert stream.summary.governance == response.governance
    headers = vector["response"]["headers"]
    assert told_by_us(response.governance)["audit_id"] == headers.get("X-Monago-Audit-Id")


async def test_a_stream_is_not_asked_for_by_an_extra_member(monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play("atrium.stream.not_supported", monkeypatch)
    assert isinstance(played.error, InvalidRequestError)
    assert played.requests == []


ADVICE: dict[str, Callable[[Played], bool]] = {
    "atrium.error.403_policy_blocked": lambda p: (
        type(p.error) is PolicyBlockedError
        and told_by_us(p.error.governance)["block_reason"] == "rule violation: r-9"
        and p.error.advice == "never"
    )
}


@pytest.mark.parametrize("name", ADVICE)
async def test_advice_is_followed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(name, monkeypatch)
    check_request(played)
    assert ADVICE[name](played), (played.vector["advice"], played.error, played.result)


def test_every_vector_is_played() -> None:
    by_hand = {"atrium.auth.no_key_anywhere", "atrium.chat.extra_overrides_named", "atrium.stream.not_supported"}
    assert set(VECTORS) == {*CONFORMING, *ADVICE, *by_hand}
    assert set(DEVIATIONS) <= set(VECTORS)
