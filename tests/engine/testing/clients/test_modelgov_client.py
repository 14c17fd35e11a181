"""modelgov's `ModelgovClient` against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    answer,
    block,
    empty,
    error_event,
    in_progress,
    provider_error,
)

from .support import MESSAGES, attempt, read

modelgov = pytest.importorskip("modelgov")


IDENTITY = {"user_id": "u-9", "user_type": "free", "feature": "support"}
CHAT = {**IDENTITY, "messages": MESSAGES}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(dialect="modelgov", api_key="mg-1") as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Any]:
    with modelgov.ModelgovClient(gateway.url, "mg-1") as client:
        yield client


async def test_a_chat(gateway: Gateway, client: Any) -> None:
    gateway.script(answer("Open Billing.", governance={"decision": "degrade", "cost": 0.01}))
    got = await attempt(client.chat, **CHAT, model_class="cheap", metadata={"ticket": "T1"})
    assert got["message"]["content"] == "Open Billing."
    assert (got["decision"], got["cost"]["actualUsd"]) == ("degrade", 0.01)
    assert (got["usage"], got["requestId"]) == ({"inputTokens": 1, "outputTokens": 2}, "req_1")
    assert gateway.calls[0].body["modelClass"] == "cheap"


async def test_a_stream_and_its_end(gateway: Gateway, client: Any) -> None:
    gateway.script(answer(pieces=["Hel", "lo"], chunking=5))
    stream = client.chat_stream(**CHAT)
    assert await read(stream) == (["Hel", "lo"], None)
    assert stream.done == {
        "done": True,
        "model": "openai/tiny-mock",
        "usage": {"inputTokens": 1, "outputTokens": 1},
        "requestId": "req_1",
    }


async def test_a_failure_inside_a_stream(gateway: Gateway, client: Any) -> None:
    of = answer(pieces=["a", "b", "c"])
    gateway.script(
        provider_error(when="in_stream", of=of),
        block("output", when="in_stream", of=of),
        error_event(error={"oops": True}, of=of),
    )
    ends = [await read(client.chat_stream(**CHAT)) for _ in range(3)]
    assert [seen for seen, _ in ends] == [["a", "b"]] * 3
    assert [error.code for _, error in ends] == [
        "provider_unavailable",
        "safety_blocked",
        "stream_error",
    ]


async def test_the_empty_200_looks_like_an_empty_answer_to_it(gateway: Gateway, client: Any) -> None:
    gateway.script(empty())
    assert await read(client.chat_stream(**CHAT)) == ([], None)


@pytest.mark.parametrize(
    ("cause", "error", "reason_code"),
    [
        ("policy", "PolicyBlockedError", "data_sensitivity_not_permitted"),
        ("budget", "PolicyBlockedError", "daily_budget_exceeded"),
        ("model_not_allowed", "PolicyBlockedError", "model_class_not_permitted"),
        ("pii", "SafetyBlockedError", None),
        ("security", "SafetyBlockedError", None),
        ("output", "SafetyBlockedError", None),
    ],
)
async def test_blocks(gateway: Gateway, client: Any, cause: Any, error: str, reason_code: str | None) -> None:
    gateway.script(block(cause))
    got = await attempt(client.chat, **CHAT)
    assert (type(got), got.status) == (getattr(modelgov, error), 403)
    assert (got.reason_code, got.audit_request_id) == (reason_code, "req_1")
    assert got.request_id == "00000000-0000-4000-8000-000000000001"


async def test_idempotency(gateway: Gateway, client: Any) -> None:
    gateway.script(in_progress(), answer("text"))
    keyed = [await attempt(client.chat, **CHAT, idempotency_key="k") for _ in range(3)]
    other = await attempt(client.chat, **{**CHAT, "messages": MESSAGES * 2}, idempotency_key="k")
    _, streamed = await read(client.chat_stream(**CHAT, idempotency_key="k"))
    assert keyed[0].code == "idempotency_in_progress"
    assert [got["message"]["content"] for got in keyed[1:]] == ["text", ""]
    assert (other.status, other.code) == (422, "idempotency_key_reuse")
    assert (streamed.status, streamed.code) == (400, "idempotency_not_supported")
    gateway.assert_executed_once("k")


async def test_the_other_operations(client: Any) -> None:
    vectors = await attempt(client.embed, **IDENTITY, input=["a", "b"])
    explained = await attempt(client.explain, **IDENTITY)
    document = {"provider": "tesseract", "document": {"base64": "aGVsbG8="}}
    extracted = await attempt(client.extract_document, **IDENTITY, **document)
    reads = [
        await attempt(call)
        for call in (
            client.get_usage,
            client.get_usage_summary,
            client.get_usage_transactions,
            client.get_provider_health,
        )
    ]
    assert (len(vectors["embeddings"]), explained["wouldCallModel"], extracted["text"]) == (2, True, "hello")
    assert ["asOf" in reads[0], reads[1]["requests"], len(reads[2]["transactions"])] == [True, 10, 1]
    assert reads[3]["status"] == "ok"
