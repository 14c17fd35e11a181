"""The retry budget: a bucket of tokens that repetitions are paid from."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Retry, RetryBudget, default_stack
from penstock.engine.errors import (
    ConfigurationError,
    ConnectError,
    ModelEngineError,
    OverloadedError,
    RateLimitError,
    ServerError,
)
from penstock.testing import Gateway, fail
from tests.clocks import FakeClock
from tests.middleware.support import engine_at
from tests.outcomes import failure


@pytest.mark.parametrize(
    "error, price",
    [
        (ServerError(), 14),
        (ConnectError(), 14),
        (RateLimitError(), 5),
        (OverloadedError(), 5),
        (RateLimitError(retry_after=3.0), 0),
        (ServerError(retry_after=0.0), 14),
    ],
)
def test_a_repetition_has_its_price(error: ModelEngineError, price: float) -> None:
    assert RetryBudget().price(error) == price


@given(st.lists(st.one_of(st.tuples(st.just("take"), st.floats(0, 50)), st.tuples(st.just("give"), st.none()))))
def test_the_bucket_never_leaves_its_bounds(moves: list[tuple[str, Any]]) -> None:
    budget = RetryBudget(100)
    for move, tokens in moves:
        budget.take(tokens) if move == "take" else budget.give_back(tokens)
        assert 0 <= budget.left <= 100


@pytest.mark.parametrize("name", ["capacity", "cost", "throttled_cost", "refund"])
@pytest.mark.parametrize("value", [-1, math.nan, "1", None, True])
def test_a_budget_is_made_of_numbers(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=rf"RetryBudget\({name}=...\) is a number from 0, not"):
        RetryBudget(**options)


@pytest.mark.parametrize("status, repetitions", [(500, 35), (503, 100)])
async def test_an_outage_is_not_answered_with_a_storm(gateway: Gateway, status: int, repetitions: int) -> None:
    gateway.script(default=fail(status))
    async with engine_at(gateway, clock=FakeClock()) as engine:
        errors = [await failure(engine.call("Hi")) for _ in range(80)]
    assert gateway.requests == 80 + repetitions
    assert "the retry budget is used up" in (errors[-1].attempts[-1].why or "")


async def test_a_budget_is_shared_by_calls_at_the_same_time_and_by_engines(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    budget, clock = RetryBudget(28), FakeClock()
    stacks = [default_stack(retry=Retry(budget=budget)) for _ in range(2)]
    async with engine_at(gateway, *stacks[0], clock=clock) as one, engine_at(gateway, *stacks[1], clock=clock) as two:
        await asyncio.gather(*(failure(engine.call("Hi")) for engine in (one, two) for _ in range(5)))
    assert gateway.requests == 10 + 2


async def test_an_answer_gives_back_what_its_repetition_took(gateway: Gateway) -> None:
    gateway.script(fail(500), fail(500))
    budget = RetryBudget()
    async with engine_at(gateway, *default_stack(retry=Retry(budget=budget)), clock=FakeClock()) as engine:
        await engine.call("Hi")
        assert budget.left == 500 - 14
        await engine.call("Hi")
        assert budget.left == 500 - 13


async def test_what_the_server_asks_for_costs_nothing(gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after=1))
    budget = RetryBudget(0)
    async with engine_at(gateway, *default_stack(retry=Retry(budget=budget)), clock=FakeClock()) as engine:
        await engine.call("Hi")
    assert gateway.requests == 2


async def test_without_a_budget_there_is_no_end_but_the_attempts(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    stack = default_stack(retry=Retry(budget=RetryBudget(math.inf)))
    async with engine_at(gateway, *stack, clock=FakeClock()) as engine:
        for _ in range(60):
            await failure(engine.call("Hi"))
    assert gateway.requests == 180
