"""What Keeptrusts says differently from OpenAI: blocks, which are final, and the ends of its streams."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from penstock import ModelEngine
from penstock.engine.errors import (
    Advice,
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    EscalationRequiredError,
    IdempotencyInProgressError,
    InvalidRequestError,
    ModelEngineError,
    OverloadedError,
    PolicyBlockedError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamTruncatedError,
)
from penstock.engine.gateways.keeptrusts import KeeptrustsGateway
from penstock.engine.types import Governance, LLMResponse
from penstock.engine.verdict import Answer, complaint_of
from penstock.testing import Gateway, Step, answer, block, error_event, fail, truncate
from penstock.testing import cut as cut_off
from tests.clocks import FakeClock
from tests.engine.streams import COUNTS, DONE, USAGE, chunk, completion, cut, head, run, sse, text, unary

GATEWAY = KeeptrustsGateway()


def engine_at(gateway: Gateway, clock: FakeClock | None = None) -> ModelEngine:
    options: dict[str, Any] = {"api_key": "kt_gk_test", "clock": clock or FakeClock()}
    return ModelEngine("gpt-4o", gateway=KeeptrustsGateway(), base_url=f"{gateway.url}/v1", **options)


def violation(code: Any = None, **members: Any) -> dict[str, Any]:
    return {"type": "policy_violation", "message": "no", "code": code, **members}


# (status, error member, class, advice)
VERDICTS: list[tuple[int, Any, type[ModelEngineError], Advice]] = [
    (409, violation("input_blocked"), PolicyBlockedError, "never"),
    (409, violation("output_blocked"), PolicyBlockedError, "never"),
    (409, violation("budget_exceeded"), BudgetExceededError, "never"),
    (409, violation("escalation_required"), EscalationRequiredError, "never"),
    (409, violation("another"), PolicyBlockedError, "never"),
    (409, violation(42), PolicyBlockedError, "never"),
    (409, {"code": "escalation_required"}, EscalationRequiredError, "never"),
    (409, {"message": "conflict"}, PolicyBlockedError, "never"),
    (409, {"type": "something_new"}, PolicyBlockedError, "never"),
    (409, None, PolicyBlockedError, "never"),
    (409, "text", PolicyBlockedError, "never"),
    (409, [1], PolicyBlockedError, "never"),
    (409, {"type": "conflict_error"}, ConflictError, "after"),
    (409, {"type": "idempotency_error"}, ConflictError, "after"),
    (409, {"code": "idempotency_in_progress"}, IdempotencyInProgressError, "wait_in_progress"),
    (409, {"type": "rate_limit"}, RateLimitError, "after"),
    (402, violation("budget_exceeded"), BudgetExceededError, "never"),
    (403, violation("escalation_required"), EscalationRequiredError, "never"),
    (429, violation(), PolicyBlockedError, "never"),
    (401, {"type": "authentication_error", "code": "invalid_api_key"}, AuthenticationError, "refresh_auth"),
    (422, {"type": "validation_error"}, InvalidRequestError, "never"),
    (429, {"type": "rate_limit"}, RateLimitError, "after"),
    (500, {"type": "upstream_error"}, ServerError, "after"),
    (502, {"type": "upstream_error"}, ProviderError, "once"),
    (502, None, ProviderError, "once"),
    (503, {"type": "upstream_error"}, OverloadedError, "after"),
]


@pytest.mark.parametrize(("status", "error", "error_class", "advice"), VERDICTS)
def test_the_verdict(status: int, error: Any, error_class: type[ModelEngineError], advice: Advice) -> None:
    verdict = GATEWAY.judge(Answer(status, CIMultiDict(), orjson.dumps({"error": error}), 0.0))

    assert (type(verdict), verdict.advice, verdict.status) == (error_class, advice, status)
    is_block = isinstance(verdict, (PolicyBlockedError, BudgetExceededError))
    assert (verdict.governance is not None) == is_block


@pytest.mark.parametrize("body", [b"", b"<html>conflict</html>", b"null", b"{", b'"no"', b'{"error": "conflict"}'])
def test_a_conflict_that_says_nothing_is_a_block_of_an_unknown_policy(body: bytes) -> None:
    verdict = GATEWAY.judge(Answer(409, CIMultiDict({"x-should-retry": "true"}), body, 0.0))

    assert (type(verdict), verdict.advice) == (PolicyBlockedError, "never")
    assert verdict.governance == Governance(decision="blocked")


@pytest.mark.parametrize(
    ("error", "error_class", "advice"),
    [
        (violation("output_blocked"), PolicyBlockedError, "never"),
        (violation(), PolicyBlockedError, "never"),
        ({"type": "upstream_error"}, ProviderError, "once"),
        ({"type": "rate_limit"}, RateLimitError, "after"),
        ({"type": "validation_error"}, InvalidRequestError, "never"),
        ("died", ProviderError, "once"),
    ],
)
def test_the_verdict_of_error_events(error: Any, error_class: type[ModelEngineError], advice: Advice) -> None:
    verdict = GATEWAY.judge_event(complaint_of({"error": error}))
    assert (type(verdict), verdict.advice) == (error_class, advice)


@pytest.mark.parametrize(("code", "stage"), [("input_blocked", "input"), ("output_blocked", "output")])
def test_the_record_of_a_block(code: str, stage: str) -> None:
    for body in ({"error": violation(code, policy="pci")}, violation(code, policy="pci")):
        verdict = GATEWAY.judge(Answer(409, CIMultiDict(), orjson.dumps(body), 0.0))
        assert verdict.governance == Governance(
            decision="blocked", block_reason="no", extra={"policy": "pci", "stage": stage}
        )


def test_members_of_a_block_that_are_no_text_are_left_out() -> None:
    body = {"error": violation("budget_exceeded", policy=["a"])}
    verdict = GATEWAY.judge(Answer(409, CIMultiDict(), orjson.dumps(body), 0.0))
    assert verdict.governance == Governance(decision="blocked", block_reason="no")


BLOCKS: list[tuple[Any, type[ModelEngineError], str, dict[str, str]]] = [
    ("input", PolicyBlockedError, "input_blocked", {"policy": "content-policy", "stage": "input"}),
    ("output", PolicyBlockedError, "output_blocked", {"policy": "output-policy", "stage": "output"}),
    ("budget", BudgetExceededError, "budget_exceeded", {"policy": "team-budget"}),
    ("escalation", EscalationRequiredError, "escalation_required", {"policy": "escalation"}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("cause", "error_class", "code", "extra"), BLOCKS)
async def test_a_block_is_final_on_the_first_attempt(
    cause: Any, error_class: type[ModelEngineError], code: str, extra: dict[str, str], stream: bool
) -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway, clock := FakeClock()) as engine:
        gateway.script(block(cause))
        with pytest.raises(error_class) as caught:
            await (engine.stream_call("hi").response() if stream else engine.chat_completion("hi"))
        error = caught.value
        assert (type(error), error.status, error.code) == (error_class, 409, code)
        assert error.governance is not None
        assert error.governance.extra == extra
        assert (gateway.requests, clock.sleeps) == (1, [])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", [fail(429, retry_after=2, times=2), fail(503, times=2), fail(500, times=2)])
async def test_a_busy_gateway_is_asked_again(step: Step, stream: bool) -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        gateway.script(step)
        await (engine.stream_call("hi").response() if stream else engine.chat_completion("hi"))
        assert gateway.requests == 3


async def test_the_wait_is_the_one_that_was_asked_for() -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway, clock := FakeClock()) as engine:
        gateway.script(fail(429, retry_after=2))
        await engine.chat_completion("hi")
        [wait] = clock.sleeps
        assert 2.0 <= wait <= 2.2


async def test_a_failed_provider_is_asked_once_more() -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        gateway.script(fail(502))
        await engine.chat_completion("hi")
        assert gateway.requests == 2
        gateway.reset()
        gateway.script(fail(502, times=3))
        with pytest.raises(ProviderError):
            await engine.chat_completion("hi")
        assert gateway.requests == 2


async def test_a_block_after_a_failure_ends_the_call() -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        gateway.script(fail(502), block("input"))
        with pytest.raises(PolicyBlockedError) as caught:
            await engine.chat_completion("hi")
        assert gateway.requests == 2
        assert [attempt.status for attempt in caught.value.attempts] == [502, 409]


@pytest.mark.parametrize(
    ("step", "error_class", "extra"),
    [
        (block("output", when="in_stream"), PolicyBlockedError, {"policy": "output-policy", "stage": "output"}),
        (block("budget", when="in_stream"), BudgetExceededError, {"policy": "team-budget"}),
        (answer("The SSN is", finish_reason="content_filter"), PolicyBlockedError, {"stage": "output"}),
        (truncate(after_events=3), StreamTruncatedError, None),
        (error_event(error={"type": "upstream_error", "message": "died"}), ProviderError, None),
    ],
)
async def test_a_stream_that_is_ended_has_its_text(step: Step, error_class: type[ModelEngineError], extra: Any) -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        gateway.script(step)
        stream = engine.stream_call("hi")
        with pytest.raises(error_class) as caught:
            await stream.response()
        error = caught.value
        assert type(error) is error_class
        assert error.partial is not None
        assert error.partial.content
        assert (error.phase, stream.summary.verdict, gateway.requests) == (
            "after_output",
            "truncated" if error_class is StreamTruncatedError else "errored",
            1,
        )
        assert (error.governance and error.governance.extra) == extra


FILTERED = sse(text("The SSN "), text("is", "content_filter"), chunk(usage=USAGE), DONE)


@pytest.mark.parametrize("body", [FILTERED, FILTERED.removesuffix(DONE)])
def test_a_filtered_stream_fails_at_its_end_however_it_is_cut(body: bytes) -> None:
    for place in range(len(body)):
        result = run(cut(body, [place]), GATEWAY.stream_decoder(head()))
        assert type(result.failure) is PolicyBlockedError
        assert result.failure.code == "content_filter"
        assert not result.finished
        assert (result.response.content, result.response.usage) == ("The SSN is", COUNTS)


async def test_a_connection_that_is_lost_after_the_filter_hides_no_block() -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        gateway.script(cut_off(after_events=3, of=answer("4", finish_reason="content_filter")))
        with pytest.raises(PolicyBlockedError) as caught:
            await engine.stream_call("hi").response()
        assert caught.value.partial is not None
        assert caught.value.partial.content == "4"


def test_one_filtered_answer_of_two_is_a_block() -> None:
    body = sse(
        text("4", "stop"), chunk({"index": 1, "delta": {"content": "x"}, "finish_reason": "content_filter"}), DONE
    )
    result = run(body, GATEWAY.stream_decoder(head()))
    assert type(result.failure) is PolicyBlockedError
    assert result.chunks


def test_an_error_frame_says_more_than_a_filter() -> None:
    body = sse(text("4", "content_filter"), {"error": violation("budget_exceeded")}, DONE)
    assert type(run(body, GATEWAY.stream_decoder(head())).failure) is BudgetExceededError


def test_nothing_follows_a_block() -> None:
    decoder = GATEWAY.stream_decoder(head())
    decoder.feed(FILTERED)
    failure = decoder.failure
    assert decoder.feed(sse(text("more"), DONE)) == decoder.close() == []
    assert decoder.failure is failure


def test_a_whole_answer_keeps_its_finish_reason() -> None:
    """How a unary answer is blocked is known: by 409. So a filter there is the provider's."""
    response = GATEWAY.decode_chat(unary(completion({"content": None}, "content_filter")))
    assert (response.content, response.finish_reason) == ("", "content_filter")


async def test_health_is_the_list_of_models() -> None:
    async with Gateway(dialect="keeptrusts") as gateway, engine_at(gateway) as engine:
        assert (await engine.health()).ready
        assert [call.path for call in gateway.calls] == ["/v1/models"]


def test_it_has_an_address_and_wants_no_key() -> None:
    assert ModelEngine("gpt-4o", gateway=KeeptrustsGateway()).base_url == "http://localhost:41002"


@pytest.mark.parametrize(("key", "sent"), [(None, None), ("kt_gk_a", "Bearer kt_gk_a")])
async def test_the_key_is_a_bearer_when_there_is_one(key: str | None, sent: str | None) -> None:
    async with Gateway(dialect="keeptrusts") as gateway:
        async with ModelEngine("gpt-4o", gateway=KeeptrustsGateway(), base_url=gateway.url, api_key=key) as engine:
            await engine.chat_completion("hi")
        assert gateway.calls[0].headers.get("authorization") == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["policy_violation", "input_blocked", "upstream_error", "conflict", "content_filter"])
MEMBERS = st.dictionaries(
    st.sampled_from(["message", "code", "type", "policy", "error", "choices", "usage"]), WORDS | JSON
)
BODIES = MEMBERS | JSON | st.fixed_dictionaries({"error": MEMBERS | JSON})
FRAMES = BODIES | st.sampled_from([text("4"), text("4", "content_filter"), text("", "stop")])


@given(st.integers(300, 599), BODIES)
def test_any_error_answer_has_a_verdict(status: int, body: Any) -> None:
    error = GATEWAY.judge(Answer(status, CIMultiDict(), orjson.dumps(body), 0.0))
    assert isinstance(error, ModelEngineError)
    assert (error.status, error.phase) == (status, "rejected")
    assert not isinstance(error, PolicyBlockedError) or error.advice == "never"
    assert str(error)


@given(BODIES)
def test_any_success_is_read_or_refused(body: Any) -> None:
    with contextlib.suppress(ModelEngineError):
        assert isinstance(GATEWAY.decode_chat(unary(body)), LLMResponse)
    with contextlib.suppress(ModelEngineError):
        assert isinstance(GATEWAY.decode_models(unary(body)), tuple)


@given(st.lists(FRAMES, max_size=4), st.booleans(), st.lists(st.integers(0), max_size=3))
def test_any_stream_is_read_or_refused_however_it_is_cut(events: list[Any], is_ended: bool, places: list[int]) -> None:
    body = sse(*events, *([DONE] if is_ended else []))
    whole = run(body, GATEWAY.stream_decoder(head()))
    assert whole.failure is None or isinstance(whole.failure, ModelEngineError)
    assert run(cut(body, places), GATEWAY.stream_decoder(head())).outcome == whole.outcome
