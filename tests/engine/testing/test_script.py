"""Which step each request meets."""

from __future__ import annotations

import pytest

from penstock.engine.testing import Gateway, Script, answer, fail, reset, rule
from penstock.engine.testing.rules import Asked
from penstock.engine.testing.script import Playhead, as_script

from .support import chat, send

ASKED = Asked(1, "/v1/chat/completions", {})


def test_one_step_per_request_then_the_default() -> None:
    playhead = Playhead(Script((fail(503), reset()), default=answer("Done.")))
    assert [playhead.meet(ASKED).step for _ in range(2)] == [fail(503), fail(503)]
    assert [playhead.meet(ASKED).take() for _ in range(4)] == [fail(503), reset(), answer("Done."), answer("Done.")]


def test_times_repeats_a_failure() -> None:
    playhead = Playhead(Script((fail(503, times=2),)))
    assert playhead.steps_left == 2
    assert [playhead.meet(ASKED).take().kind for _ in range(3)] == ["fail", "fail", "answer"]


def test_times_are_counted_and_not_written_out() -> None:
    playhead = Playhead(Script((reset(), fail(503, times=10**12))))
    assert [playhead.meet(ASKED).take().kind for _ in range(3)] == ["reset", "fail", "fail"]
    assert playhead.steps_left == 10**12 - 2
    assert playhead.left == [f"{fail(503, times=10**12)!r}, {10**12 - 2} times"]


def test_a_rule_plays_its_steps_as_often_as_they_happen_and_begins_again() -> None:
    playhead = Playhead(Script(rules=(rule(fail(503, times=2), reset()),)))
    assert [playhead.meet(ASKED).take().kind for _ in range(5)] == ["fail", "fail", "reset", "fail", "fail"]


@pytest.mark.parametrize("wrong", ["Hello", 429, reset])
def test_what_is_no_step_is_refused_at_once(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"a script is made of steps"):
        as_script([wrong])  # type: ignore[list-item]


async def test_a_gateway_takes_a_script_when_it_is_made() -> None:
    async with Gateway(script=[fail(503)]) as gateway:
        assert [(await send(gateway, chat())).status for _ in range(2)] == [503, 200]
    async with Gateway(script=Script(default=fail(503))) as gateway:
        assert [(await send(gateway, chat())).status for _ in range(2)] == [503, 503]


async def test_health_checks_and_refused_requests_use_up_no_step(gateway: Gateway) -> None:
    gateway.script(fail(503))
    for path, method in (("/health", "GET"), ("/v1/health/ready", "GET"), ("/nowhere", "GET"), ("/v1/models", "POST")):
        await send(gateway, path=path, method=method)
    await send(gateway, b"{not json")
    assert gateway.steps_left == 1
    assert (await send(gateway, path="/v1/models", method="GET")).status == 503
    assert gateway.steps_left == 0
