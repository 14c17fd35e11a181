"""What a request meets because of what it is."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import Gateway, Script, answer, contains, fail, regex, reset, rule
from penstock.engine.testing.rules import Asked, Rule

from .support import chat, send, stream


def asked(**facts: Any) -> Asked:
    return Asked(**{"number": 1, "path": "/v1/chat/completions", "headers": {}, **facts})


@pytest.mark.parametrize(
    "condition, fits, fits_not",
    [
        ({"model": "large"}, {"model": "large"}, {"model": "larger"}),
        ({"model": regex("^large")}, {"model": "larger"}, {"model": "enlarge"}),
        ({"message": contains("rain")}, {"message": "Does it rain?"}, {"message": "Rain"}),
        ({"message": contains("rain")}, {"message": "rain"}, {"message": None}),
        ({"path": regex("/embeddings$")}, {"path": "/v1/embeddings"}, {}),
        ({"header": {"x-tenant": "acme"}}, {"headers": {"x-tenant": "acme"}}, {"headers": {"x-tenant": "other"}}),
        ({"header": {"x-tenant": True}}, {"headers": {"x-tenant": ""}}, {}),
        ({"header": {"x-tenant": False}}, {}, {"headers": {"x-tenant": ""}}),
        ({"attempt": 2}, {"attempt": 2}, {"attempt": 1}),
        ({"attempt": (1, 3)}, {"attempt": 3}, {"attempt": 2}),
        ({"stream": True}, {"stream": True}, {"stream": False}),
        ({"model": "a", "attempt": 2}, {"model": "a", "attempt": 2}, {"model": "a"}),
    ],
)
def test_conditions(condition: dict[str, Any], fits: dict[str, Any], fits_not: dict[str, Any]) -> None:
    one = rule(fail(503), **condition)
    assert (one.fits(asked(**fits)), one.fits(asked(**fits_not))) == (True, False)


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"attempt": 0}, "attempt counts from 1"),
        ({"attempt": ()}, "attempt counts from 1"),
        ({"probability": 0}, "probability is above 0 and at most 1, not 0"),
        ({"probability": 1.5}, "probability is above 0 and at most 1, not 1.5"),
        ({"times": 0}, "times is at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rule(fail(503), **options)


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"regex 'a\(' is none: missing \)"):
        regex("a(")
    with pytest.raises(ValueError, match="would match every text"):
        contains("")


def test_a_rule_has_steps() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        rule()
    with pytest.raises(TypeError, match="a rule is made of steps"):
        rule("fail")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rules are made by rule"):
        Script(rules=(fail(503),))  # type: ignore[arg-type]


def test_a_step_before_the_body_is_read_cannot_depend_on_it() -> None:
    with pytest.raises(ValueError, match="so its rule cannot look at model"):
        rule(reset("before_request_read"), model="large")
    with pytest.raises(ValueError, match="a rule before it looks into bodies"):
        Script.of([rule(fail(503), model="large"), reset("before_request_read")])
    Script.of([rule(reset("before_request_read"), path="/v1/models"), rule(fail(503), model="large")])


async def test_the_first_rule_that_fits_wins_then_the_steps_then_the_default(gateway: Gateway) -> None:
    gateway.script(fail(500), rule(fail(429), message=contains("a")), rule(fail(503), message="ab"), default=fail(502))
    texts = ["ab", "c", "c", "a"]
    assert [(await send(gateway, chat(text))).status for text in texts] == [429, 500, 502, 429]


async def test_a_rule_looks_at_what_came(gateway: Gateway) -> None:
    gateway.script(
        rule(fail(401), header={"X-Tenant": "evil"}),
        rule(fail(404), model=regex("^gone-")),
        rule(fail(503), path="/v1/embeddings"),
        rule(fail(500), stream=True),
    )
    statuses = [
        (await send(gateway, chat(), x_tenant="evil")).status,
        (await send(gateway, {**chat(), "model": "gone-1"})).status,
        (await send(gateway, {"model": "m", "input": "x"}, path="/v1/embeddings")).status,
        (await stream(gateway)).status,
        (await send(gateway, chat())).status,
    ]
    assert statuses == [401, 404, 503, 500, 200]


@pytest.mark.parametrize("dialect", ["openai", "nim", "modelgov", "atrium", "omnigate", "keeptrusts"])
async def test_rules_read_the_chats_of_every_dialect(dialect: str) -> None:
    from penstock.engine.testing.dialects import DIALECTS

    path, body = DIALECTS[dialect]("tiny-mock").example("Will it rain?")
    async with Gateway(dialect=dialect, script=[rule(fail(418), message=contains("rain"))]) as gateway:
        assert (await send(gateway, {**body, "stream": False}, path=path)).status == 418


async def test_the_first_attempt_of_each_call_fails(gateway: Gateway) -> None:
    gateway.script(rule(fail(503), attempt=1))
    keys = ["a", "b", "a", "b"]
    assert [(await send(gateway, chat(), idempotency_key=key)).status for key in keys] == [503, 503, 200, 200]


async def test_steps_of_a_rule_come_in_turn_and_times_ends_it(gateway: Gateway) -> None:
    gateway.script(rule(fail(429, times=2), fail(503), times=4))
    assert [(await send(gateway, chat())).status for _ in range(5)] == [429, 429, 503, 429, 200]


async def test_a_refused_request_uses_up_no_rule(gateway: Gateway) -> None:
    gateway.script(rule(fail(503), times=1))
    assert (await send(gateway, {"model": "m"})).status == 400
    assert (await send(gateway, chat())).status == 503


async def test_an_unread_request_is_reset_by_its_head(gateway: Gateway) -> None:
    gateway.script(rule(reset("before_request_read"), header={"x-tenant": "evil"}, times=1))
    assert (await send(gateway, chat(), x_tenant="good")).status == 200
    assert (await send(gateway, chat(), x_tenant="evil")).was_reset
    assert (await send(gateway, chat(), x_tenant="evil")).status == 200


class TestProbability:
    async def played(self, seed: int | None, script_seed: int | None = None) -> list[int]:
        script = Script(rules=(rule(fail(503), probability=0.5),), seed=script_seed)
        async with Gateway(script=script, seed=seed) as gateway:
            return [(await send(gateway, chat())).status for _ in range(40)]

    async def test_is_the_same_for_the_same_seed(self) -> None:
        assert await self.played(7) == await self.played(7)
        assert await self.played(7) != await self.played(8)

    async def test_seed_of_the_gateway_comes_before_that_of_the_script(self) -> None:
        assert await self.played(None, 7) == await self.played(7)
        assert await self.played(7, 8) == await self.played(7)

    def test_is_about_the_share_that_was_asked_for(self) -> None:
        one: Rule = rule(fail(503), probability=0.25)
        drawn = sum(one.is_drawn(asked(number=number), 0) for number in range(4000))
        assert 900 < drawn < 1100  # 1000 ± 3.6 standard deviations; the seed makes it the same each time


async def test_a_script_is_made_of_rules_and_steps_in_any_order() -> None:
    first, second = rule(fail(503), attempt=1), rule(reset(), attempt=2)
    assert Script.of([first, fail(429), second, answer("a")]) == Script((fail(429), answer("a")), rules=(first, second))
