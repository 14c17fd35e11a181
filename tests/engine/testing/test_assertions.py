"""The assertions on the books, and the story that a failed one tells."""

from __future__ import annotations

import re

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from penstock.engine.testing import Call, Gateway, answer, fail, hang_up, reset, rule, stall

from .support import CHAT, chat, send

HEADER = "  time   call  attempt  waited  key  status  model  outcome"


def untimed(error: pytest.ExceptionInfo[AssertionError]) -> str:
    """The text, with every time of the table at nought."""
    return re.sub(r"\d+\.\d{3}", "0.000", str(error.value))


async def test_a_failure_tells_the_story_of_the_calls() -> None:
    async with Gateway(idempotency="ignore", script=[fail(503), answer(), hang_up(executed=True)]) as gateway:
        for _ in range(3):
            await send(gateway, chat(), idempotency_key="k")
        with pytest.raises(AssertionError) as caught:
            gateway.assert_executed_once("k")
    assert untimed(caught).splitlines() == [
        "the model has to run once for each key, and ran 2 times for 'k'",
        HEADER,
        "  0.000  1     1        -       k    503     -      fail",
        "  0.000  2     2        0.000   k    200     ran    answer",
        "  0.000  3     3        0.000   k    -       ran    hang_up",
    ]


async def test_a_long_story_begins_late_and_is_plain_text(gateway: Gateway) -> None:
    for _ in range(22):
        await send(gateway, chat(), idempotency_key="é")
    with pytest.raises(AssertionError) as caught:
        gateway.assert_attempts(1)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[2]) == (23, "  (2 calls before)")
    assert str(caught.value).isascii()


async def test_of_thousands_of_keys_ten_are_named() -> None:
    gateway = Gateway()
    for number in range(5000):
        call = Call(number + 1, "POST", CHAT, MultiDict(), CIMultiDictProxy(CIMultiDict()), 1, 0.0, f"k{number}")
        gateway._books.arrived(call)
        gateway._books.received(call)
    with pytest.raises(AssertionError, match=r"keys that came: 'k0', .*, 'k9', and 4990 more\n"):
        gateway.assert_executed_once("x")
    with pytest.raises(AssertionError, match=r"came with 5000 keys: 'k0', .*, 'k9', and 4990 more\n"):
        gateway.assert_same_body_and_key()


class TestExecuted:
    async def test_once(self, gateway: Gateway) -> None:
        with pytest.raises(AssertionError, match="no request came with an idempotency key, of 0"):
            gateway.assert_executed_once()
        for _ in range(2):
            await send(gateway, chat(), idempotency_key="k")
        gateway.assert_executed_once("k")
        gateway.assert_executed_once()
        with pytest.raises(AssertionError, match=r"no request came with idempotency key 'x'; keys that came: 'k'"):
            gateway.assert_executed_once("x")

    async def test_more_or_less_often(self) -> None:
        async with Gateway(idempotency="ignore", script=[answer(), answer(), fail(503)]) as gateway:
            for key in ("twice", "twice", "never"):
                await send(gateway, chat(), idempotency_key=key)
            gateway.assert_executed("twice", 2)
            gateway.assert_executed("never", 0)
            with pytest.raises(AssertionError, match="ran 2 times for 'twice', 0 times for 'never'"):
                gateway.assert_executed_once()
            with pytest.raises(AssertionError, match="has to run 3 times for each key, and ran 2 times for 'twice'\n"):
                gateway.assert_executed("twice", 3)


class TestWaited:
    async def test_at_least_and_at_most(self, gateway: Gateway) -> None:
        gateway.script(fail(429))
        await send(gateway, chat())
        with pytest.raises(AssertionError, match="no attempt was repeated"):
            gateway.assert_waited(at_least=0)
        await send(gateway, chat())
        gateway.assert_waited(at_least=0, at_most=60)
        with pytest.raises(AssertionError, match=r"at least 60 s was expected, and the shortest was 0\.\d+ s\n"):
            gateway.assert_waited(at_least=60)
        with pytest.raises(AssertionError, match=r"at most 0 s was expected, and the longest was 0\.\d+ s\n"):
            gateway.assert_waited(at_most=0)

    async def test_looks_at_one_key(self, gateway: Gateway) -> None:
        for key in ("a", "b", "b"):
            await send(gateway, chat(), idempotency_key=key)
        gateway.assert_waited(at_least=0, key="b")
        with pytest.raises(AssertionError, match="no attempt was repeated"):
            gateway.assert_waited(at_least=0, key="a")

    async def test_takes_a_bound(self, gateway: Gateway) -> None:
        with pytest.raises(ValueError, match="takes at_least, at_most, or both"):
            gateway.assert_waited()


class TestAttempts:
    async def test_of_a_key(self, gateway: Gateway) -> None:
        for key in ("a", "b", "b"):
            await send(gateway, chat(), idempotency_key=key)
        gateway.assert_attempts(1, key="a")
        gateway.assert_attempts(2, key="b")
        with pytest.raises(AssertionError) as caught:
            gateway.assert_attempts(1)
        assert untimed(caught).splitlines() == [
            "1 request was expected for each call, and there were 2",
            HEADER.replace("model", "model   "),
            "  0.000  2     1        -       b    200     ran       answer",
            "  0.000  3     2        0.000   b    200     replayed  replay",
        ]

    async def test_without_a_key_they_are_told_by_path_and_body(self, gateway: Gateway) -> None:
        for text in ("a", "b", "a", "b"):
            await send(gateway, chat(text))
        gateway.assert_attempts(2)
        with pytest.raises(AssertionError, match="3 requests were expected for each call, and there were 2, 2\n"):
            gateway.assert_attempts(3)

    async def test_there_have_to_be_some(self, gateway: Gateway) -> None:
        with pytest.raises(AssertionError, match="no request came at all"):
            gateway.assert_attempts(1)


class TestSameBodyAndKey:
    async def test_true_repetitions(self, gateway: Gateway) -> None:
        for key in ("a", "a", "b"):
            await send(gateway, chat(key), idempotency_key=key)
        gateway.assert_same_body_and_key()

    async def test_a_key_with_two_bodies(self, gateway: Gateway) -> None:
        for text in ("x", "y"):
            await send(gateway, chat(text), idempotency_key="a")
        with pytest.raises(AssertionError, match="key 'a' came with 2 different requests\n"):
            gateway.assert_same_body_and_key()

    @pytest.mark.parametrize("second", [{"idempotency_key": "b"}, {}])
    async def test_a_body_with_two_keys_or_one_that_lost_its_key(
        self, gateway: Gateway, second: dict[str, str]
    ) -> None:
        await send(gateway, chat(), idempotency_key="a")
        await send(gateway, chat(), **second)
        with pytest.raises(AssertionError, match="one and the same request came with 2 keys: "):
            gateway.assert_same_body_and_key("a")

    async def test_needs_a_key(self, gateway: Gateway) -> None:
        await send(gateway, chat())
        with pytest.raises(AssertionError, match="no request came with an idempotency key, of 1"):
            gateway.assert_same_body_and_key()


async def test_all_steps_played(gateway: Gateway) -> None:
    gateway.script(fail(503), reset(), rule(fail(429), attempt=2, times=2), rule(fail(500), attempt=9))
    for _ in range(2):
        await send(gateway, chat())
    with pytest.raises(AssertionError, match=r"^2 of the script was not played: Reset\(.*\); rule 1, 1 of 2 times\n"):
        gateway.assert_all_steps_played()
    gateway.script(fail(503))
    await send(gateway, chat())
    gateway.assert_all_steps_played()


async def test_no_open_connections(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    async with session.post(gateway.url + CHAT, json=chat()) as response:
        await response.read()
    with pytest.raises(AssertionError, match=r"^1 connection is still open\n"):
        await gateway.assert_no_open_connections(within_s=0)
    await session.close()
    await gateway.assert_no_open_connections()


async def test_no_open_streams(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    gateway.script(stall())
    async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
        with pytest.raises(AssertionError, match=r"^1 stream is still open\n.*\n.* 200 +ran +running"):
            await gateway.assert_no_open_streams(within_s=0)
        response.close()
    await gateway.assert_no_open_streams()


async def test_until_says_how_things_stand(gateway: Gateway) -> None:
    gateway.script(reset())
    with pytest.raises(AssertionError, match=r"within 0 s: <Gateway http://.* requests=0 .*steps_left=1>"):
        await gateway.until(lambda: gateway.requests == 1, within_s=0)
