"""One key for each logical request."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from penstock import errors
from penstock.engine.exchange import Operation
from penstock.engine.gateways import OpenAIGateway
from penstock.middleware import Classify, Idempotency, Retry
from penstock.testing import Gateway, answer, fail, hang_up
from tests.clocks import FakeClock

from .support import AT_ONCE, CHAT, engine_at, post, session_at

HELLO = answer("Hello.")
UNSENDABLE = ["", " ", "a b", "a\nb", "é", "a" * 256, "\x7f"]


class RefusingGateway(OpenAIGateway):
    """A gateway that takes no key on chats."""

    chat = Operation("chat", "POST", CHAT, keys="refused")


def sent(gateway: Gateway, header: str = "idempotency-key") -> list[str | None]:
    return [call.headers.get(header) for call in gateway.calls]


# In the engine


async def test_each_call_gets_a_random_key_of_its_own(gateway: Gateway) -> None:
    async with engine_at(gateway) as engine:
        responses = [await engine.chat_completion("Hi") for _ in range(2)]
        await engine.embed("Hi")
    assert len(gateway.keys) == 3
    assert all(uuid.UUID(key).version == 4 for key in gateway.keys)
    assert [response.idempotency_key for response in responses] == gateway.keys[:2]


async def test_the_key_is_the_same_on_every_attempt(gateway: Gateway) -> None:
    gateway.script(fail(500), hang_up(), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        await engine.stream_call("Hi").response()
    assert sent(gateway) == [gateway.keys[0]] * 3


@pytest.mark.parametrize(
    "options", [{"idempotency_key": "order-66"}, {"extra_headers": {"idempotency-key": "order-66"}}]
)
async def test_the_callers_key_is_kept(gateway: Gateway, options: dict[str, Any]) -> None:
    gateway.script(fail(500), HELLO)
    async with engine_at(gateway, clock=FakeClock()) as engine:
        response = await engine.chat_completion("Hi", **options)
    assert sent(gateway) == ["order-66"] * 2
    assert response.idempotency_key == "order-66"


async def test_a_read_gets_no_key_of_ours(gateway: Gateway) -> None:
    async with engine_at(gateway) as engine:
        await engine.models()
        await engine.models(idempotency_key="mine")
    assert sent(gateway) == [None, "mine"]


async def test_where_the_gateway_refuses_a_key_none_is_sent(gateway: Gateway) -> None:
    async with engine_at(gateway, gateway=RefusingGateway()) as engine:
        response = await engine.chat_completion("Hi")
    assert sent(gateway) == [None]
    assert response.idempotency_key is None


async def test_where_the_gateway_refuses_a_key_nothing_protects_a_repetition(gateway: Gateway) -> None:
    gateway.script(hang_up(), HELLO)
    async with engine_at(gateway, gateway=RefusingGateway(), clock=FakeClock()) as engine:
        with pytest.raises(errors.DisconnectedError):
            await engine.chat_completion("Hi")
    assert gateway.requests == 1


@pytest.mark.parametrize(
    "options", [{"idempotency_key": "order-66"}, {"extra_headers": {"Idempotency-Key": "order-66"}}]
)
async def test_where_the_gateway_refuses_a_key_the_callers_is_an_error(
    gateway: Gateway, options: dict[str, Any]
) -> None:
    async with engine_at(gateway, gateway=RefusingGateway()) as engine:
        with pytest.raises(errors.IdempotencyNotSupportedError, match="refuses an idempotency key on a chat, and"):
            await engine.chat_completion("Hi", **options)
        with pytest.raises(errors.IdempotencyNotSupportedError, match="on a chat stream") as caught:
            await engine.stream_call("Hi", **options).response()
    assert (caught.value.phase, caught.value.model_name) == ("not_sent", "tiny-mock")
    assert gateway.requests == 0


@pytest.mark.parametrize("key", UNSENDABLE, ids=ascii)
async def test_a_key_that_cannot_be_sent_is_refused_before_anything_is(gateway: Gateway, key: str) -> None:
    async with engine_at(gateway) as engine:
        with pytest.raises(errors.InvalidRequestError, match="1 to 255 characters of visible ASCII") as caught:
            await engine.chat_completion("Hi", idempotency_key=key)
    assert caught.value.phase == "not_sent"
    assert gateway.requests == 0


async def test_two_different_keys_are_a_mistake(gateway: Gateway) -> None:
    async with engine_at(gateway) as engine:
        with pytest.raises(errors.InvalidRequestError, match="two idempotency keys were given: 'a', and 'b'"):
            await engine.chat_completion("Hi", idempotency_key="a", extra_headers={"Idempotency-Key": "b"})
        await engine.chat_completion("Hi", idempotency_key="a", extra_headers={"Idempotency-Key": "a"})
    assert sent(gateway) == ["a"]


async def test_the_header_can_have_another_name(gateway: Gateway) -> None:
    async with engine_at(gateway, Idempotency(header="X-Request-Key")) as engine:
        await engine.chat_completion("Hi", idempotency_key="mine")
    assert sent(gateway, "x-request-key") == ["mine"]
    assert sent(gateway) == [None]


@pytest.mark.parametrize(
    "key, on_the_wire", [("mine", '"mine"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"')], ids=["plain", "quote", "slash"]
)
async def test_the_key_can_be_quoted_as_the_draft_wants_it(gateway: Gateway, key: str, on_the_wire: str) -> None:
    async with engine_at(gateway, Idempotency(quoted=True)) as engine:
        response = await engine.chat_completion("Hi", idempotency_key=key)
    assert sent(gateway) == [on_the_wire]
    assert response.idempotency_key == key


async def test_keys_can_be_made_otherwise(gateway: Gateway) -> None:
    keys = iter(["row-1", "row-2", ""])
    async with engine_at(gateway, Idempotency(make_key=lambda: next(keys))) as engine:
        await engine.chat_completion("Hi")
        await engine.chat_completion("Hi")
        with pytest.raises(errors.InvalidRequestError):
            await engine.chat_completion("Hi")
    assert sent(gateway) == ["row-1", "row-2"]


# On a plain session


async def test_a_plain_post_gets_one_key_for_all_its_attempts(gateway: Gateway) -> None:
    gateway.script(fail(500), hang_up(), HELLO)
    async with session_at(gateway, Idempotency(), Retry(backoff=AT_ONCE)) as session:
        await post(session)
        await post(session)
    assert [(call.idempotency_key == gateway.keys[0]) for call in gateway.calls] == [True, True, True, False]
    assert len(gateway.keys) == 2


async def test_a_key_in_the_header_of_a_plain_post_is_kept(gateway: Gateway) -> None:
    async with session_at(gateway, Idempotency()) as session:
        await post(session, headers={"Idempotency-Key": "order-66"})
    assert sent(gateway) == ["order-66"]


@pytest.mark.parametrize("key", ["", "a b", "a" * 256])
async def test_a_plain_post_with_a_key_that_cannot_be_sent_is_refused(gateway: Gateway, key: str) -> None:
    async with session_at(gateway, Idempotency(), Classify()) as session:
        with pytest.raises(errors.InvalidRequestError):
            await post(session, headers={"Idempotency-Key": key})
    assert gateway.requests == 0


async def test_a_plain_read_gets_no_key(gateway: Gateway) -> None:
    async with session_at(gateway, Idempotency()) as session, session.get("/v1/models") as response:
        assert response.status == 200
    assert sent(gateway) == [None]


# Construction


@pytest.mark.parametrize("header", ["", "x y", "x:", "x\n", None, 5])
def test_a_header_that_is_no_name_is_refused(header: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="the name of a header, not"):
        Idempotency(header=header)


@pytest.mark.parametrize("make_key", ["key", None, 5])
def test_what_makes_keys_is_a_function(make_key: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="is a function, not"):
        Idempotency(make_key=make_key)


@pytest.mark.parametrize("quoted", ["no", 1, None])
def test_quoted_is_true_or_false(quoted: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="true or false, not"):
        Idempotency(quoted=quoted)
