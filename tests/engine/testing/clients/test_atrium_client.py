"""monago-atrium's `Atrium` against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    answer,
    block,
    fail,
    reset,
)

from .support import MESSAGES, attempt

monago_atrium = pytest.importorskip("monago_atrium")


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(dialect="atrium", api_key="sk-mng-1") as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Any]:
    with monago_atrium.Atrium("sk-mng-1", base_url=f"{gateway.url}/v1") as client:
        yield client


async def test_a_chat_and_what_was_decided(gateway: Gateway, client: Any) -> None:
    gateway.script(answer("Ya.", governance={"decision": "redacted", "redactions": ["NIK", "EMAIL"], "cost": 9.5}))
    got = await attempt(client.chat.completions.create, model="m", messages=MESSAGES, temperature=0.2)
    assert (got.content, got.usage.total_tokens) == ("Ya.", 2)
    facts = got.governance
    assert (facts.audit_id, facts.policy_decision, facts.provider) == ("audit-0001", "redacted", "openai")
    assert (facts.pii_detected, facts.pii_redacted, facts.cost_idr) == (True, ["NIK", "EMAIL"], 9.5)


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        ("policy", "PolicyBlockedError"),
        ("pii", "PIIBlockedError"),
        ("security", "SecurityBlockedError"),
        ("model_not_allowed", "ModelNotAllowedError"),
    ],
)
async def test_blocks(gateway: Gateway, client: Any, cause: Any, error: str) -> None:
    gateway.script(block(cause, reason="a model policy on PII"))
    got = await attempt(client.chat.completions.create, model="m", messages=MESSAGES)
    # This client judges by the words of the reason, too: PII first.
    expected = error if cause == "pii" else "PIIBlockedError"
    assert (type(got), got.policy_decision) == (getattr(monago_atrium, expected), "blocked")
    gateway.script(block(cause))
    got = await attempt(client.chat.completions.create, model="m", messages=MESSAGES)
    assert (type(got), got.audit_id) == (getattr(monago_atrium, error), "audit-0002")


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, "AuthError"), (403, "AuthError"), (429, "RateLimitError"), (500, "APIError"), (404, "AtriumError")],
)
async def test_errors(gateway: Gateway, client: Any, status: int, error: str) -> None:
    gateway.script(fail(status))
    got = await attempt(client.chat.completions.create, model="m", messages=MESSAGES)
    assert (type(got), got.status_code) == (getattr(monago_atrium, error), status)


async def test_members_it_does_not_know_and_lost_answers(gateway: Gateway, client: Any) -> None:
    gateway.script(reset())
    lost = await attempt(client.chat.completions.create, model="m", messages=MESSAGES)
    extra = await attempt(client.chat.completions.create, model="m", messages=MESSAGES, extra={"user": "u"})
    assert (type(lost).__name__, lost.status_code, extra.status_code) == ("APIError", None, 422)
