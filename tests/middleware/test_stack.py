"""The order of the stack."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from penstock.engine.errors import MiddlewareOrderError
from penstock.engine.model_engine import ModelEngine
from penstock.middleware import Auth, Classify, Idempotency, Retry, default_stack, places
from penstock.middleware.stack import checked_stack, compose

IDEMPOTENCY, RETRY, AUTH, CLASSIFY = Idempotency(), Retry(), Auth("sk-test-0123456789"), Classify()


class Limiter:
    """A middleware of somebody else's that knows its place."""

    place: ClassVar[int] = places.LIMITER

    async def __call__(self, request: Any, handler: Any) -> Any:
        return await handler(request)


async def anywhere(request: Any, handler: Any) -> Any:
    return await handler(request)


def names(stack: Any) -> list[str]:
    return [type(middleware).__name__ for middleware in stack]


def test_the_default_order_is_one_that_is_accepted() -> None:
    stack = default_stack()
    assert names(stack) == ["Idempotency", "Retry", "Auth", "Classify"]
    assert checked_stack(stack) == tuple(stack)


def test_each_of_the_default_can_be_replaced() -> None:
    assert default_stack(idempotency=IDEMPOTENCY, retry=RETRY, auth=AUTH)[:3] == [IDEMPOTENCY, RETRY, AUTH]


@pytest.mark.parametrize(
    "stack",
    [
        [IDEMPOTENCY, RETRY, AUTH, CLASSIFY],
        [IDEMPOTENCY, RETRY, Limiter(), AUTH, CLASSIFY],
        [RETRY, CLASSIFY],
        [anywhere, RETRY, anywhere, CLASSIFY, anywhere],
        [CLASSIFY],
    ],
)
def test_an_order_that_works_is_kept(stack: list[Any]) -> None:
    assert checked_stack(stack) == tuple(stack)


@pytest.mark.parametrize("stack", [[], [RETRY], [IDEMPOTENCY, RETRY, AUTH], [anywhere]])
def test_classify_is_put_innermost_when_it_is_missing(stack: list[Any]) -> None:
    *given, last = checked_stack(stack)
    assert given == stack
    assert isinstance(last, Classify)


@pytest.mark.parametrize(
    "stack, message",
    [
        ([RETRY, IDEMPOTENCY], "Retry stands outside of Idempotency, .* swap them. .*: Idempotency, Retry"),
        ([AUTH, RETRY], "Auth stands outside of Retry"),
        ([CLASSIFY, AUTH], "Classify stands outside of Auth"),
        ([CLASSIFY, anywhere, RETRY], "Classify stands outside of Retry"),
        ([Limiter(), RETRY], "Limiter stands outside of Retry"),
        (
            [RETRY, AUTH, IDEMPOTENCY, CLASSIFY],
            "Auth stands outside of Idempotency, .*: Idempotency, Retry, Auth, Classify",
        ),
        ([RETRY, Retry()], "two Retry middlewares multiply their attempts: keep one"),
        ([Retry], "a middleware is an object to be called with"),
        (["retry"], "a middleware is an object to be called with"),
        ([None], "a middleware is an object to be called with"),
    ],
)
def test_an_order_that_cannot_work_is_refused_with_what_to_swap(stack: list[Any], message: str) -> None:
    with pytest.raises(MiddlewareOrderError, match=message):
        checked_stack(stack)


def test_the_engine_refuses_it_at_construction() -> None:
    with pytest.raises(MiddlewareOrderError, match="swap them"):
        ModelEngine("m", base_url="http://127.0.0.1:1", middleware=[AUTH, RETRY])


async def test_the_first_middleware_is_the_outermost() -> None:
    async def outer(request: list[str], handler: Any) -> Any:
        return ["outer", *await handler([*request, "outer"])]

    async def inner(request: list[str], handler: Any) -> Any:
        return ["inner", *await handler([*request, "inner"])]

    async def innermost(request: list[str]) -> list[str]:
        return [f"seen {request}"]

    assert await compose([outer, inner], innermost)([]) == ["outer", "inner", "seen ['outer', 'inner']"]
    assert await compose([], innermost)([]) == ["seen []"]
