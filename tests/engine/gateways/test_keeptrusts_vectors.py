"""The recorded vectors of the openai SDK in front of a Keeptrusts gateway, played to the engine over a socket.

The gateway speaks OpenAI's format, so what was recorded is told in the same shape, see `tests.engine.test_vectors`.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from penstock import ModelEngine, Retry, default_stack
from penstock.engine.errors import (
    AuthenticationError,
    BudgetExceededError,
    EscalationRequiredError,
    InvalidRequestError,
    ModelEngineError,
    OverloadedError,
    PolicyBlockedError,
    ProviderError,
    RateLimitError,
)
from penstock.engine.gateways.keeptrusts import KeeptrustsGateway
from penstock.engine.types import LLMResponse, ModelInfo
from tests.clocks import FakeClock
from tests.engine.test_vectors import (
    FOLDER,
    NOT_COMPARED,
    Played,
    Server,
    Vector,
    ask,
    said_by_openai,
    said_by_us,
    told,
)

VECTORS: dict[str, Vector] = {
    vector["name"]: vector for vector in orjson.loads((FOLDER / "keeptrusts.json").read_bytes())["vectors"]
}

ASKS_FOR_USAGE = "usage is asked for by default, since a bill without it is a guess"
DEVIATIONS = {
    "keeptrusts.stream.block_before_first_token": ASKS_FOR_USAGE,
    "keeptrusts.stream.output_block_late": ASKS_FOR_USAGE,
}

# What the SDK says of an answer, and what its body says more, by our classes.
CLASSES: dict[str, type[ModelEngineError]] = {
    "keeptrusts.block.input": PolicyBlockedError,
    "keeptrusts.block.output_blocked": PolicyBlockedError,
    "keeptrusts.block.budget_exceeded": BudgetExceededError,
    "keeptrusts.block.escalation_required": EscalationRequiredError,
    "keeptrusts.block.should_retry_false_header": PolicyBlockedError,
    "keeptrusts.stream.block_before_first_token": PolicyBlockedError,
    "keeptrusts.stream.output_block_late": PolicyBlockedError,
    "keeptrusts.error.401": AuthenticationError,
    "keeptrusts.error.422": InvalidRequestError,
    "keeptrusts.error.429": RateLimitError,
    "keeptrusts.error.429_http_date": RateLimitError,
    "keeptrusts.error.502": ProviderError,
    "keeptrusts.error.503": OverloadedError,
}


async def play(name: str) -> Played:
    vector = VECTORS[name]
    options = vector["client_options"]
    clock = FakeClock()
    played = Played(vector)
    async with Server(vector.get("responses") or [vector["response"]]) as server:
        engine = ModelEngine(
            vector["call"]["kwargs"].get("model", "gpt-4o"),
            gateway=KeeptrustsGateway(),
            base_url=f"{server.url}/v1",
            api_key=options["api_key"],
            default_headers=options.get("default_headers"),
            middleware=default_stack(retry=Retry(max_attempts=options.get("max_retries", 0) + 1)),
            clock=clock,
        )
        async with engine:
            try:
                played.result = await ask(engine, vector)
            except ModelEngineError as error:
                played.error = error
        played.requests, played.connections = server.requests, len(server.connections)
    played.waits = clock.sleeps
    return played


def check_requests(played: Played) -> None:
    vector, requests = played.vector, played.requests
    expected = vector["request"]
    assert len(requests) == vector["attempts"]
    assert all(request == requests[0] for request in requests)
    theirs = {name: value for name, value in expected["headers"].items() if name not in NOT_COMPARED}
    ours = dict(requests[0]["headers"])
    assert (ours.pop("idempotency-key", None) is not None) == (expected["method"] == "POST")
    assert ours == theirs
    body = expected["json"]
    if DEVIATIONS.get(vector["name"]) == ASKS_FOR_USAGE:
        body = {"stream_options": {"include_usage": True}, **body}
    assert {**requests[0], "headers": None} == {**expected, "headers": None, "json": body}


def check_result(played: Played) -> None:
    expected, result = played.vector["result"], played.result
    assert "error" not in expected, f"{result!r} is no error"
    if isinstance(result, tuple):
        assert result == tuple(ModelInfo(card["id"], card["created"], card["owned_by"]) for card in expected["value"])
        return
    assert isinstance(result, LLMResponse)
    assert said_by_us(result) == said_by_openai(expected.get("chunks") or [expected["value"]])
    assert result.gateway_request_id == expected.get("request_id")
    assert result.governance is None  # nothing in an answer tells of a decision


def check_error(played: Played) -> None:
    error, expected = played.error, played.vector["result"]["error"]["attributes"]
    assert error is not None
    assert type(error) is CLASSES[played.vector["name"]]
    assert (error.code, error.type, error.param) == (expected["code"], expected["type"], expected["param"])
    assert (error.status, error.request_id) == (expected.get("status_code"), expected.get("request_id"))
    assert error.body == {"error": expected["body"]}
    assert error.message == expected["body"]["message"]
    partial = played.vector["result"].get("partial")
    assert (error.partial and said_by_us(error.partial)) == (partial and said_by_openai(partial))


def check_record(error: ModelEngineError) -> None:
    """A block is final, and says what blocked; other errors have no record."""
    if not isinstance(error, (PolicyBlockedError, BudgetExceededError)):
        assert error.governance is None
        return
    assert error.advice == "never"
    assert error.governance is not None
    record = error.governance
    assert (record.decision, record.block_reason) == ("blocked", error.message)
    stages = {"input_blocked": "input", "output_blocked": "output"}
    assert record.extra.get("policy") == error.body["error"]["policy"]
    assert record.extra.get("stage") == stages.get(error.code or "")


CONFORMING = [name for name, vector in VECTORS.items() if vector["conform"] != "info"]


@pytest.mark.parametrize("name", CONFORMING)
async def test_the_same_requests_and_the_same_information(name: str) -> None:
    played = await play(name)

    check_requests(played)
    if "tcp_connections" in played.vector:
        assert played.connections == played.vector["tcp_connections"]
    if responses := played.vector.get("responses"):
        for wait, response in zip(played.waits, responses):
            assert told(response)[0] <= wait <= told(response)[1] * 1.1
    if played.error is None:
        check_result(played)
    else:
        check_error(played)
        check_record(played.error)


ADVICE: dict[str, Callable[[Played], bool]] = {
    "keeptrusts.block.input_default_retries": lambda p: (
        type(p.error) is PolicyBlockedError and len(p.requests) == 1 and p.waits == []
    ),
    "keeptrusts.retry.502_then_block": lambda p: (
        type(p.error) is PolicyBlockedError and len(p.requests) == 2 and len(p.waits) == 1 and p.connections == 1
    ),
}


@pytest.mark.parametrize("name", ADVICE)
async def test_advice_is_followed(name: str) -> None:
    played = await play(name)
    assert ADVICE[name](played), (played.vector["advice"], played.error, played.result)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("keeptrusts.error.429", 3.0, 3.0), ("keeptrusts.error.429_http_date", 2.0, 3.0)]
)
async def test_the_wait_that_was_asked_for_is_on_the_error(name: str, least: float, most: float) -> None:
    played = await play(name)
    assert played.error is not None
    assert played.error.retry_after is not None
    assert least - 0.5 <= played.error.retry_after <= most


def test_every_vector_is_played() -> None:
    assert {name for name, vector in VECTORS.items() if vector["conform"] == "info"} == set(ADVICE)
    assert set(DEVIATIONS) <= set(CONFORMING)
    assert set(CLASSES) == {name for name in CONFORMING if "error" in VECTORS[name]["result"]}
