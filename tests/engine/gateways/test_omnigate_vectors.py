"""The recorded vectors of omnigate 0.1.0, played to the engine over a socket.

Where the engine differs on purpose stands in `DEVIATIONS`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock import ChatStream, ModelEngine, Retry, default_stack
from penstock.engine.errors import (
    AuthenticationError,
    BudgetExceededError,
    ClockError,
    InvalidRequestError,
    ModelEngineError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    TransportError,
)
from penstock.engine.gateways.omnigate import OmniGateGateway, OmniGateOperations
from penstock.engine.types import Governance, Health, LLMResponse
from tests.clocks import FakeClock
from tests.engine.test_vectors import NOT_COMPARED, Server, closed_port_url, told

Vector = dict[str, Any]

VECTORS: dict[str, Vector] = {
    vector["name"]: vector
    for vector in orjson.loads((Path(__file__).parents[2] / "data" / "vectors" / "omnigate.json").read_bytes())[
        "vectors"
    ]
}

NOT_ASKED = "a provider that was not asked has not failed: its key is what the caller has to give"
DEVIATIONS: dict[str, str] = {
    "omnigate.chat.old_server": "counts, prices and flags that did not come are unknown, not 0 or false",
    "omnigate.chat.custom_headers": "a key that the caller sets as a header is the one that is sent",
    "omnigate.stream.http_error_before_start": NOT_ASKED,
    "omnigate.stream.not_retried_on_503": "a stream of which nothing has come is asked for again",
    "omnigate.error.400_no_provider_key": NOT_ASKED,
    "omnigate.error.400_unknown_model": "a model that no provider has is not found, and no provider has failed",
    "omnigate.error.429_from_provider": "the provider's limit is told from the gateway's",
    "omnigate.error.503_circuit_open": "an open circuit is a gateway that turns requests away, and is told apart",
    "omnigate.error.500_no_detail_member": "the message is the text of the error member",
    "omnigate.error.empty_body": "the message says that there was none",
}

# What their classes tell apart, by our classes.
CLASSES: dict[str, tuple[type[ModelEngineError], ...]] = {
    "AuthError": (AuthenticationError,),
    "RateLimitError": (RateLimitError,),
    "BudgetExceededError": (BudgetExceededError,),
    "ProviderError": (ProviderError,),
    "APIError": (ModelEngineError,),
    "ConnectionError": (TransportError, ClockError),
}
OUR_CLASSES: dict[str, type[ModelEngineError]] = {
    "omnigate.stream.http_error_before_start": InvalidRequestError,
    "omnigate.stream.not_retried_on_503": OverloadedError,
    "omnigate.error.400_no_provider_key": InvalidRequestError,
    "omnigate.error.400_unknown_model": NotFoundError,
    "omnigate.error.429_from_provider": ProviderError,
    "omnigate.error.503_circuit_open": OverloadedError,
}


class OmniGate(OmniGateOperations, ModelEngine):
    """The engine, composed as its users have it."""


@dataclass
class Played:
    """What came of playing a vector to the engine."""

    vector: Vector
    requests: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    waits: list[float] = field(default_factory=list)
    result: Any = None
    error: ModelEngineError | None = None


def engine_of(options: dict[str, Any], url: str, clock: FakeClock | None) -> OmniGate:
    """The engine, set up as the vector's client was."""
    retries = options.get("retries", options.get("retry_config", {}).get("max_retries", 0))
    clocks: dict[str, Any] = {} if clock is None else {"clock": clock}
    return OmniGate(
        None,
        gateway=OmniGateGateway(options.get("user_id")),
        base_url=options.get("base_url", url).replace("{closed_port_url}", closed_port_url()),
        api_key=options.get("api_key", "llmg_test_key"),
        default_headers=options.get("headers"),
        middleware=default_stack(retry=Retry(max_attempts=retries + 1)),
        **clocks,
    )


async def ask(engine: OmniGate, vector: Vector) -> Any:
    """The call of the vector: our operations have the names of the client's."""
    kwargs = dict(vector["call"]["kwargs"])
    kwargs.pop("as_chunks", None)
    if "timeout" in (vector.get("client_options") or {}):
        kwargs["timeout"] = vector["client_options"]["timeout"]
    result = getattr(engine, vector["call"]["method"])(**kwargs)
    return await (result.response() if isinstance(result, ChatStream) else result)


async def play(name: str) -> Played:
    vector = VECTORS[name]
    is_timed = "delay_s" in (vector["response"] or {})
    clock = None if is_timed else FakeClock()
    played = Played(vector)
    async with Server(vector.get("responses") or [vector["response"]]) as server:
        async with engine_of(vector.get("client_options") or {}, server.url, clock) as engine:
            try:
                played.result = await ask(engine, vector)
            except ModelEngineError as error:
                played.error = error
        played.requests, played.connections = server.requests, len(server.connections)
    played.waits = clock.sleeps if clock is not None else []
    return played


def check_requests(played: Played) -> None:
    vector, requests = played.vector, played.requests
    expected = vector["request"]
    assert len(requests) == (3 if vector["name"] == "omnigate.stream.not_retried_on_503" else vector["attempts"])
    assert all(request == requests[0] for request in requests)
    if expected is None:
        return
    theirs = {name: value for name, value in expected["headers"].items() if name not in NOT_COMPARED}
    ours = dict(requests[0]["headers"])
    ours.pop("idempotency-key", None)  # of which the gateway takes no notice
    if vector["name"] == "omnigate.chat.custom_headers":
        theirs["x-api-key"] = "other"
    assert ours == theirs
    body = expected["json"]
    assert {**requests[0], "headers": None} == {**expected, "headers": None, "json": body}


def check_waits(played: Played) -> None:
    """Never earlier than told, and at most a tenth later, or as late as the backoff says."""
    responses = played.vector.get("responses") or []
    for position, (wait, response) in enumerate(zip(played.waits, responses)):
        earliest, latest = asked(response)
        assert earliest <= wait <= max(latest * 1.1, 2.0**position)


def asked(response: dict[str, Any]) -> tuple[float, float]:
    """As `told`, of headers in any case."""
    return told({"headers": {name.lower(): value for name, value in response["headers"].items()}})


def check_result(played: Played) -> None:
    method, expected, result = played.vector["call"]["method"], played.vector["result"], played.result
    if method == "chat_stream":
        assert result.content == "".join(
            piece if isinstance(piece, str) else piece["text"] for piece in expected["chunks"]
        )
        assert result.request_id == played.vector["response"]["headers"]["x-request-id"]
    elif method == "chat":
        assert said(result) == expected | (
            {"usage": None, "cost_usd": None, "latency_ms": None, "cached": None, "fallback_used": None}
            if played.vector["name"] == "omnigate.chat.old_server"
            else {}
        )
    elif method == "completions":
        check_completion(result, expected)
    elif method == "models":
        assert [
            {"id": model.id, "created": model.created, "owned_by": model.owned_by, **model.extra} for model in result
        ] == [{name: value for name, value in card.items() if name != "object"} for card in expected]
    elif method == "health":
        assert isinstance(result, Health)
        assert (result.ready, result.status, result.detail) == (True, 200, expected)
    elif method == "set_provider_key":
        assert result is None
    else:
        assert {"message": "", **result} == {"message": "", **played.vector["response"]["body"]}
        assert expected.items() <= {"message": "", **result}.items()


def said(response: LLMResponse) -> dict[str, Any]:
    """A chat's answer in the words of their client."""
    governance = response.governance or Governance()
    usage = response.usage
    return {
        "id": response.request_id,
        "provider": governance.provider,
        "model": response.model,
        "content": response.content,
        "usage": usage
        and {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
        "cost_usd": governance.cost,
        "finish_reason": response.finish_reason,
        "cached": governance.extra.get("cached"),
        "fallback_used": governance.extra.get("fallback_used"),
        "latency_ms": governance.latency_ms,
    }


def check_completion(result: LLMResponse, expected: dict[str, Any]) -> None:
    (choice,) = expected["choices"]
    assert result.content == choice["message"]["content"]
    assert (result.request_id, result.model, result.created) == (expected["id"], expected["model"], expected["created"])
    assert result.finish_reason == choice["finish_reason"]
    assert result.usage is not None
    assert result.usage.total_tokens == expected["usage"]["total_tokens"]


def check_error(played: Played) -> None:
    vector, error, expected = played.vector, played.error, played.vector["result"]["error"]
    name, facts = vector["name"], expected["attributes"]
    assert isinstance(error, OUR_CLASSES.get(name) or CLASSES[expected["class"]])
    assert error.status == facts.get("status_code")
    assert error.request_id == facts.get("request_id")
    if name not in ("omnigate.error.500_no_detail_member", "omnigate.error.empty_body"):
        assert error.message == facts.get("message", error.message)
    if isinstance(seconds := facts.get("retry_after"), float):
        assert error.retry_after == seconds
    partial = "".join(vector["result"].get("partial") or [])
    assert (error.partial.content if error.partial else "") == partial


@pytest.mark.parametrize("name", [name for name, vector in VECTORS.items() if vector["conform"] != "info"])
async def test_the_same_requests_and_the_same_information(name: str) -> None:
    played = await play(name)

    check_requests(played)
    check_waits(played)
    if isinstance(played.vector["result"], dict) and "error" in played.vector["result"]:
        check_error(played)
    else:
        assert played.error is None
        check_result(played)


ADVICE: dict[str, Callable[[Played], bool]] = {
    "omnigate.chat.bad_role_rejected_locally": lambda p: (
        type(p.error) is InvalidRequestError and p.error.param == "messages[0].role" and not p.requests
    ),
    "omnigate.retry.dropped_connection": lambda p: isinstance(p.error, TransportError) and len(p.requests) == 1,
    "omnigate.retry.signup_is_retried": lambda p: p.error is not None and len(p.requests) == 1,
    "omnigate.retry.retry_after_capped": lambda p: (
        len(p.waits) == 1 and p.waits[0] >= asked(p.vector["responses"][0])[0] > 0
    ),
    "omnigate.retry.metrics_sync_not_retried": lambda p: isinstance(p.error, OverloadedError) and len(p.requests) == 3,
}


@pytest.mark.parametrize("name", ADVICE)
async def test_advice_is_followed(name: str) -> None:
    played = await play(name)
    assert ADVICE[name](played), (played.vector["advice"], played.error, played.result, played.waits)


def test_every_vector_is_played() -> None:
    assert {name for name, vector in VECTORS.items() if vector["conform"] == "info"} == set(ADVICE)
    assert set(OUR_CLASSES) <= set(DEVIATIONS) <= set(VECTORS)
