"""What OmniGate says, and what is said to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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
    ConfigurationError,
    EmptyResponseError,
    InvalidRequestError,
    MalformedResponseError,
    ModelEngineError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    SafetyBlockedError,
    ServerError,
    StreamTruncatedError,
    TransportError,
)
from penstock.engine.exchange import StreamDecoder
from penstock.engine.gateways.omnigate import OmniGateGateway, OmniGateOperations
from penstock.engine.gateways.omnigate.gateway import COMPLETIONS, CREATE_API_KEY, SET_PROVIDER_KEY, SIGNUP
from penstock.engine.gateways.omnigate.operations import object_reader
from penstock.engine.gateways.omnigate.text_stream import ERROR_MARK
from penstock.engine.types import Governance, ModelInfo, UsageInfo
from penstock.engine.verdict import Answer, Complaint
from penstock.testing import Gateway, answer, block, error_event, fail, provider_error, reset
from tests.clocks import FakeClock
from tests.engine.streams import cut, run
from tests.outcomes import drained, failure, text_of
from tests.raw_server import Connection, RawServer, chunk

GATEWAY = OmniGateGateway()
MESSAGES = [{"role": "user", "content": "Hi"}]
KEY = "llmg_0123456789abcdef"
BODY = {"id": "c1", "provider": "openai", "model": "m", "content": "Hello!"}


class OmniGate(OmniGateOperations, ModelEngine):
    """The engine, composed as its users have it."""


def omnigate(url: str, *, user_id: str | None = None, api_key: Any = KEY, **options: Any) -> OmniGate:
    return OmniGate("tiny", gateway=OmniGateGateway(user_id), base_url=url, api_key=api_key, **options)


def head(content_type: str | None = "text/plain; charset=utf-8", **headers: str) -> Answer:
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    if content_type is not None:
        fields["Content-Type"] = content_type
    return Answer(200, fields, b"", 0.0)


def reply(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), raw, 0.0)


def decoder(content_type: str | None = "text/plain; charset=utf-8", **headers: str) -> StreamDecoder:
    return GATEWAY.stream_decoder(head(content_type, **headers))


class TestRequests:
    def test_stream_is_always_said_and_nulls_are_dropped(self) -> None:
        params = {"max_tokens": 5, "temperature": None, "fallback_models": ["b"], "cache": False, "seed": 0}
        unary = GATEWAY.encode_chat("tiny", MESSAGES, params, stream=False)
        body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "fallback_models": ["b"], "cache": False}
        assert (unary.operation.path, unary.body) == ("/v1/chat", {**body, "seed": 0, "stream": False})
        streamed = GATEWAY.encode_chat("tiny", MESSAGES, {}, stream=True)
        assert streamed.body == {"model": "tiny", "messages": MESSAGES, "stream": True}

    def test_the_twin_asks_for_usage(self) -> None:
        request = GATEWAY.encode_completions("tiny", MESSAGES, {"stop": None}, stream=True)
        assert request.operation.path == "/v1/chat/completions"
        options = {"stream": True, "stream_options": {"include_usage": True}}
        assert request.body == {"model": "tiny", "messages": MESSAGES, **options}

    def test_the_user_of_the_call_wins(self) -> None:
        gateway = OmniGateGateway("u-1")
        for params, user in (({}, "u-1"), ({"user_id": None}, "u-1"), ({"user_id": "u-2"}, "u-2")):
            request = gateway.encode_chat("tiny", MESSAGES, params, stream=False)
            assert {**gateway.headers, **request.headers} == {"x-user-id": user}
            assert "user_id" not in (request.body or {})

    @pytest.mark.parametrize("user_id", ["", " ", "a\nb", "\ud800", 7])
    def test_a_user_that_is_no_header_is_refused(self, user_id: Any) -> None:
        with pytest.raises(ConfigurationError):
            OmniGateGateway(user_id)
        with pytest.raises(InvalidRequestError, match="user_id") as caught:
            GATEWAY.encode_chat("tiny", MESSAGES, {"user_id": user_id}, stream=False)
        assert caught.value.phase == "not_sent"

    @pytest.mark.parametrize(
        ("message", "param"),
        [
            ({"role": "tool", "content": "x"}, "messages[1].role"),
            ({"content": "x"}, "messages[1].role"),
            ({"role": "user"}, "messages[1].content"),
            ({"role": "user", "content": [{"type": "text", "text": "x"}]}, "messages[1].content"),
        ],
    )
    def test_a_message_that_has_no_place_is_refused(self, message: dict[str, Any], param: str) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            GATEWAY.encode_chat("tiny", [*MESSAGES, message], {}, stream=False)
        assert (caught.value.param, caught.value.phase) == (param, "not_sent")

    def test_a_chat_without_a_model_is_refused(self) -> None:
        with pytest.raises(InvalidRequestError, match="model="):
            GATEWAY.encode_chat(None, MESSAGES, {}, stream=False)

    def test_there_are_no_embeddings(self) -> None:
        with pytest.raises(InvalidRequestError, match="no embeddings"):
            GATEWAY.encode_embeddings("tiny", "a", {})

    def test_keys_are_ignored_and_accounts_are_made_once(self) -> None:
        posts = (GATEWAY.chat, COMPLETIONS, SIGNUP, SET_PROVIDER_KEY, CREATE_API_KEY)
        assert {operation.keys for operation in posts} == {"ignored"}
        assert [operation.name for operation in posts if operation.once] == ["signup", "create_api_key"]
        assert [operation.name for operation in posts if operation.repeatable] == ["set_provider_key"]
        assert [operation.name for operation in posts if operation.anonymous] == ["signup"]


class TestAnswers:
    def test_the_whole_of_it(self) -> None:
        usage = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
        facts = {"cost_usd": 2.4e-06, "cached": False, "fallback_used": True, "latency_ms": 412}
        body = {**BODY, "usage": usage, "finish_reason": "stop", **facts, "brand_new": 1}
        budgets: dict[str, Any] = {"x_budget_project_daily_spend": "0.001200", "x_budget_project_daily_limit": "5.0000"}
        unlimited: dict[str, Any] = {"x_budget_org_daily_spend": "0.001200", "x_budget_org_daily_limit": "0.0000"}
        limits: dict[str, Any] = {"x_ratelimit_limit": "60", "x_ratelimit_remaining": "59", "x_ratelimit_reset": "31"}
        response = GATEWAY.decode_chat(reply(body, x_request_id="r1", **budgets, **unlimited, **limits))

        assert (response.content, response.model, response.finish_reason) == ("Hello!", "m", "stop")
        assert (response.request_id, response.gateway_request_id) == ("c1", "r1")
        assert response.usage == UsageInfo(8, 2, 10)
        assert (response.provider_metadata or {})["brand_new"] == 1
        assert response.governance == Governance(
            request_id="r1",
            provider="openai",
            model="m",
            cost=2.4e-06,
            currency="USD",
            budget_remaining={"project_daily": 4.9988, "org_daily": None},
            latency_ms=412,
            extra={
                "cached": False,
                "fallback_used": True,
                "ratelimit_limit": 60,
                "ratelimit_remaining": 59,
                "ratelimit_reset": 31,
                "budget_project_daily_spend": 0.0012,
                "budget_project_daily_limit": 5.0,
                "budget_org_daily_spend": 0.0012,
                "budget_org_daily_limit": 0.0,
            },
        )

    def test_null_is_unknown(self) -> None:
        nulls = dict.fromkeys(("usage", "cost_usd", "finish_reason", "cached", "fallback_used", "latency_ms"))
        for body in (BODY, {**BODY, **nulls}):
            response = GATEWAY.decode_chat(reply(body))
            assert (response.content, response.usage, response.finish_reason) == ("Hello!", None, None)
            assert response.governance == Governance(provider="openai", model="m")

    def test_an_empty_text_is_an_answer(self) -> None:
        assert GATEWAY.decode_chat(reply({**BODY, "content": ""})).content == ""

    @pytest.mark.parametrize("name", ["id", "provider", "model", "content"])
    @pytest.mark.parametrize("value", [None, 1, [], {}])
    def test_what_has_to_be_there(self, name: str, value: Any) -> None:
        with pytest.raises(MalformedResponseError, match=name) as caught:
            GATEWAY.decode_chat(reply({**BODY, name: value}))
        assert caught.value.body is not None

    def test_an_error_in_a_success(self) -> None:
        with pytest.raises(ProviderError, match="boom"):
            GATEWAY.decode_chat(reply({"error": {"message": "boom", "type": "provider_error"}}))

    def test_facts_that_are_none_are_left_out(self) -> None:
        assert GATEWAY.governance({}) is None
        odd = {"x-ratelimit-limit": "-1", "x-budget-org-daily-limit": "1e9", "x-llmgw-cached": "yes"}
        assert GATEWAY.governance(odd, {"cost_usd": "free", "latency_ms": True, "provider": 5, "model": ""}) is None
        assert GATEWAY.governance({}, ["no object"]) is None

    def test_a_budget_that_is_overspent_has_nothing_left(self) -> None:
        headers = {"x-budget-org-monthly-limit": "1.0", "x-budget-org-monthly-spend": "1.5"}
        governance = GATEWAY.governance(headers)
        assert governance is not None
        assert governance.budget_remaining == {"org_monthly": 0.0}

    @pytest.mark.parametrize("wrap", [lambda cards: {"object": "list", "data": cards}, lambda cards: cards])
    def test_models_as_an_object_and_as_a_bare_list(self, wrap: Callable[[Any], Any]) -> None:
        card = {"id": "m", "object": "model", "created": 0, "owned_by": "openai", "provider": "openai", "pricing": None}
        expected = ModelInfo("m", 0, "openai", {"provider": "openai", "pricing": None})
        assert GATEWAY.decode_models(reply(wrap([card]))) == (expected,)


# (status, body, class, advice)
VERDICTS: list[tuple[int, Any, type[ModelEngineError], Advice]] = [
    (401, "Missing x-api-key header (or Authorization: Bearer token)", AuthenticationError, "refresh_auth"),
    (401, "Invalid API key", AuthenticationError, "refresh_auth"),
    (401, "No key like this has error 4 in it", AuthenticationError, "refresh_auth"),
    (401, 'OpenAI error 401: {"error":{}}', ProviderError, "never"),
    (402, "Organisation monthly budget exceeded", BudgetExceededError, "never"),
    (402, "something else", BudgetExceededError, "never"),
    (403, "Azure OpenAI error 403: no", ProviderError, "never"),
    (403, "no", PermissionDeniedError, "never"),
    (404, "Anthropic error 404: no such model", ProviderError, "never"),
    (404, "Not Found", NotFoundError, "never"),
    (400, "No provider registered for model 'zzz'", NotFoundError, "never"),
    (400, "No openai key configured for this project. Add one via POST /v1/keys.", InvalidRequestError, "never"),
    (400, "Azure credential is missing 'endpoint' in its metadata.", InvalidRequestError, "never"),
    (400, "Gemini returned no candidates: PROHIBITED_CONTENT", SafetyBlockedError, "never"),
    (400, "Gemini returned no candidates: no candidates", InvalidRequestError, "never"),
    (422, [{"loc": ["body", "model"], "msg": "Field required"}], InvalidRequestError, "never"),
    (429, "Rate limit exceeded", RateLimitError, "after"),
    (429, "OpenAI error 429: slow down", ProviderError, "after"),
    (500, "Internal Server Error", ServerError, "after"),
    (500, "Gemini error 500: oops", ProviderError, "after"),
    (502, "openai call failed: timeout", ProviderError, "after"),
    (502, "Azure OpenAI request failed: ", ProviderError, "after"),
    (502, "No provider candidate could handle the request", ProviderError, "after"),
    (503, "openai circuit is open", OverloadedError, "after"),
    (504, "", RequestTimeoutError, "after"),
]


class TestVerdicts:
    @pytest.mark.parametrize(("status", "detail", "error_class", "advice"), VERDICTS)
    def test_the_verdict(self, status: int, detail: Any, error_class: type[ModelEngineError], advice: Advice) -> None:
        bodies = [{"detail": detail}]
        if isinstance(detail, str):
            bodies.append({"error": {"message": detail, "type": None, "param": None, "code": None}})
        for body in bodies:
            error = GATEWAY.judge(reply(body, status))
            assert (type(error), error.advice, error.status) == (error_class, advice, status)

    def test_the_providers_status_is_told(self) -> None:
        error = GATEWAY.judge(reply({"detail": "OpenAI error 401: no"}, 401, x_request_id="r1"))
        assert error.governance == Governance(request_id="r1", extra={"provider_status": 401})
        assert (error.type, error.request_id) == ("provider_error", "r1")

    def test_the_budget_that_blocks_is_told(self) -> None:
        error = GATEWAY.judge(reply({"detail": "Project daily budget exceeded"}, 402))
        assert error.governance == Governance(block_reason="Project daily budget exceeded")

    def test_a_failure_in_a_stream_is_the_providers(self) -> None:
        error = GATEWAY.judge_event(Complaint(message="Rate limit exceeded", type="provider_error"))
        assert (type(error), error.status, error.advice) == (ProviderError, 502, "after")

    @given(st.integers(100, 599), st.one_of(st.binary(), st.text().map(lambda text: orjson.dumps({"detail": text}))))
    def test_any_body_has_a_verdict(self, status: int, body: bytes) -> None:
        assert isinstance(GATEWAY.judge(reply(body, status)), ModelEngineError)


class TestTextStreams:
    def test_chunks_carry_the_id_and_model_of_the_head(self) -> None:
        result = run(b"Bonjour", decoder(x_request_id="rid-9", x_llmgw_model="gpt"))
        (only,) = result.chunks
        assert (only.delta_content, only.request_id, only.model) == ("Bonjour", "rid-9", "gpt")
        assert (result.failure, result.finished, only.usage, only.finish_reason) == (None, False, None, None)

    @pytest.mark.parametrize("message", ["OpenAI error 500: exploded", "two\nlines", "x" + ERROR_MARK + "y", ""])
    @pytest.mark.parametrize("partial", ["", "Partial", "\n", "\n[error"])
    def test_the_mark_is_found_wherever_it_is_cut(self, partial: str, message: str) -> None:
        body = (partial + ERROR_MARK + message).encode()
        for place in range(len(body) + 1):
            result = run(cut(body, [place]), decoder())
            assert text_of(result.chunks) == partial
            assert type(result.failure) is ProviderError
            assert (result.failure.status, result.failure.body) == (502, message or None)

    def test_the_failure_says_what_the_provider_answered(self) -> None:
        result = run(b"\n[error] OpenAI error 400: no", decoder(x_request_id="r1", x_llmgw_provider="openai"))
        assert result.failure is not None
        assert (result.failure.message, result.failure.advice) == ("OpenAI error 400: no", "never")
        extra = {"provider_status": 400}
        assert result.failure.governance == Governance(request_id="r1", provider="openai", extra=extra)

    @pytest.mark.parametrize("text", ["\n", "a\n[error]", "\n\n[erro", "[error] x", "\n[error]x", "\r\n[Error] x"])
    def test_what_only_begins_like_the_mark_is_text(self, text: str) -> None:
        for pieces in ([text.encode()], [bytes([byte]) for byte in text.encode()]):
            result = run(pieces, decoder())
            assert (text_of(result.chunks), result.failure) == (text, None)

    def test_nothing_is_held_back_that_cannot_be_the_mark(self) -> None:
        stream = decoder()
        assert text_of(stream.feed(b"Hello, wor")) == "Hello, wor"
        assert text_of(stream.feed(b"ld\n[e")) == "ld"
        assert text_of(stream.feed(b"x")) == "\n[ex"

    def test_characters_are_put_together_over_reads(self) -> None:
        body = "héllo 🌍".encode()
        assert text_of(run([bytes([byte]) for byte in body], decoder()).chunks) == "héllo 🌍"
        assert text_of(run(b"a\xffb\xc3", decoder()).chunks) == "a\ufffdb\ufffd"

    def test_an_empty_body_is_an_error(self) -> None:
        for content_type in ("text/plain", None):
            assert type(run(b"", decoder(content_type)).failure) is EmptyResponseError

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("text/html", b"<html><title>502</title></html>"),
            ("application/json", orjson.dumps(BODY)),
        ],
    )
    def test_another_kind_of_body_is_an_error(self, content_type: str, body: bytes) -> None:
        result = run(body, decoder(content_type))
        assert (type(result.failure), result.chunks) == (MalformedResponseError, [])

    def test_an_error_as_json_is_judged(self) -> None:
        failed = run(orjson.dumps({"error": {"message": "OpenAI error 429: slow"}}), decoder("application/json"))
        assert type(failed.failure) is ProviderError
        assert failed.failure.advice == "after"

    def test_a_message_without_end_is_not_waited_for(self) -> None:
        stream = decoder()
        stream.feed(b"text\n[error] ")
        for _ in range(64):
            assert stream.failure is None
            stream.feed(b"x" * 1024)
        assert isinstance(stream.failure, ProviderError)
        assert stream.failure.body == "x" * 64 * 1024
        assert stream.feed(b"more") == stream.close() == []

    def test_a_body_that_breaks_off_gives_out_what_was_held_back(self) -> None:
        stream: Any = decoder()
        stream.feed(b"Hello\n[err")
        assert (text_of(stream.abort()), stream.failure) == ("\n[err", None)

    def test_a_body_that_breaks_off_in_the_message_has_failed_with_it(self) -> None:
        stream: Any = decoder()
        stream.feed(b"Hello\n[error] up")
        assert stream.abort() == []
        assert stream.failure.message == "up"

    @given(st.lists(st.sampled_from(["\n", "[error] ", "[err", ERROR_MARK, "é", "🌍", "x"])), st.data())
    def test_any_segmentation_gives_the_same(self, pieces: list[str], data: st.DataObject) -> None:
        body = "".join(pieces).encode()
        places = data.draw(st.lists(st.integers(0, max(1, len(body)))))
        result = run(cut(body, places), decoder())
        text, mark, message = "".join(pieces).partition(ERROR_MARK)
        assert text_of(result.chunks) == text
        expected = ProviderError if mark else None if text else EmptyResponseError
        assert (result.failure and type(result.failure)) == expected
        assert result.failure is None or result.failure.body == (message or None)

    @given(st.binary(max_size=40), st.lists(st.integers(0, 40)))
    def test_any_segmentation_of_any_bytes_gives_the_same(self, body: bytes, places: list[int]) -> None:
        whole, pieces = run(body, decoder()), run(cut(body, places), decoder())
        assert text_of(pieces.chunks) == text_of(whole.chunks)
        assert str(pieces.failure) == str(whole.failure)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
METRICS = {"scope": "project", "range_from": "a", "range_to": "b", "totals": {}, "breakdown": [], "timeseries": []}
DECODERS: list[tuple[Callable[[Answer], Any], dict[str, Any]]] = [
    (GATEWAY.decode_chat, {**BODY, "usage": {"prompt_tokens": 1}, "cost_usd": 1, "finish_reason": "stop"}),
    (GATEWAY.decode_completions, {"id": "c", "choices": [{"message": {"content": "x"}}], "usage": {}}),
    (GATEWAY.decode_models, {"data": [{"id": "m"}]}),
    (object_reader(("org_id", "api_key")), {"org_id": "1", "api_key": "llmg_x"}),
    (object_reader(("scope", "range_from", "range_to"), totals=dict, breakdown=list, timeseries=list), METRICS),
]


@pytest.mark.parametrize(("decode", "body"), DECODERS)
@given(data=st.data())
def test_a_mutated_answer_is_read_or_a_typed_error(
    decode: Callable[[Answer], Any], body: dict[str, Any], data: st.DataObject
) -> None:
    mutated: Any = {**body, data.draw(st.sampled_from(sorted(body))): data.draw(JSON)}
    raw = orjson.dumps(data.draw(st.sampled_from([mutated, data.draw(JSON)])))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    with contextlib.suppress(ModelEngineError):
        decode(reply(raw))


class TestOverSockets:
    async def test_a_chat(self) -> None:
        said = answer("Salut !", governance={"provider": "gemini", "cost": 0.5})
        async with (
            Gateway(dialect="omnigate", api_key=KEY, script=[said]) as gateway,
            omnigate(gateway.url, user_id="u-1") as engine,
        ):
            response = await engine.chat("Hi", max_tokens=9, user_id="u-2")
        (call,) = gateway.calls
        assert call.body == {"model": "tiny", "messages": MESSAGES, "max_tokens": 9, "stream": False}
        assert (call.headers["x-api-key"], call.headers["x-user-id"]) == (KEY, "u-2")
        assert "authorization" not in call.headers
        assert (response.content, response.attempts[0].status) == ("Salut !", 200)
        assert response.governance is not None
        assert (response.governance.provider, response.governance.cost) == ("gemini", 0.5)

    async def test_the_ways_to_give_messages(self) -> None:
        async with Gateway(dialect="omnigate") as gateway, omnigate(gateway.url) as engine:
            messages: Any
            for messages in ("Hi", MESSAGES[0], MESSAGES):
                await engine.chat(messages)
                await engine.completions(messages)
            wrong: list[Any] = [["Hi"], [], 5]
            for messages in wrong:
                with pytest.raises(InvalidRequestError, match="messages"):
                    await engine.completions(messages)
            with pytest.raises(InvalidRequestError, match="model="):
                await engine.completions("Hi", extra_body={"model": 5})
            with pytest.raises(InvalidRequestError, match="extra_body"):
                await engine.completions("Hi", extra_body=wrong[0])
        assert [call.body["messages"] for call in gateway.calls] == [MESSAGES] * 6

    async def test_a_stream_of_text(self) -> None:
        async with (
            Gateway(dialect="omnigate", script=[answer("One, two,\nthree.")]) as gateway,
            omnigate(gateway.url) as engine,
        ):
            stream = engine.chat_stream("Count")
            chunks, error = await drained(stream)
        assert (text_of(chunks), error) == ("One, two,\nthree.", None)
        summary = stream.summary
        assert {chunk.request_id for chunk in chunks} == {summary.gateway_request_id} == {summary.request_id}
        assert (summary.verdict, summary.usage_provenance) == ("complete", "absent")
        assert summary.governance is not None
        assert (summary.governance.provider, summary.governance.model) == ("openai", "tiny")

    async def test_the_twin_in_one_piece_and_as_a_stream(self) -> None:
        async with (
            Gateway(dialect="omnigate") as gateway,
            omnigate(gateway.url, params={"temperature": 0.5}) as engine,
        ):
            whole = await engine.completions("Hi", seed=7, user_id="u-1")
            streamed = await engine.completions_stream("Hi", seed=7, model="other").response()
        assert whole.content == streamed.content
        assert whole.usage == streamed.usage is not None
        assert (whole.finish_reason, streamed.finish_reason) == ("stop", "stop")
        assert whole.governance is not None
        assert whole.governance.extra["ratelimit_limit"] == 60
        first, second = gateway.calls
        body = {"messages": MESSAGES, "temperature": 0.5, "seed": 7}
        assert first.body == {**body, "model": "tiny", "stream": False}
        options = {"include_usage": True}
        assert second.body == {**body, "model": "other", "stream": True, "stream_options": options}
        assert (first.path, first.headers["x-user-id"]) == ("/v1/chat/completions", "u-1")

    @pytest.mark.parametrize("method", ["chat_stream", "completions_stream"])
    @pytest.mark.parametrize("fault", [provider_error(401, when="in_stream"), error_event(error="upstream failed")])
    async def test_a_failure_in_a_stream_keeps_what_had_come(self, method: str, fault: Any) -> None:
        async with Gateway(dialect="omnigate", script=[fault]) as gateway, omnigate(gateway.url) as engine:
            chunks, error = await drained(getattr(engine, method)("Hi"))
        assert type(error) is ProviderError
        assert (error.status, error.phase) == (502, "after_output")
        assert error.partial is not None
        assert error.partial.content == text_of(chunks) != ""
        assert error.request_id is not None
        assert gateway.requests == 1

    async def test_a_stream_that_fails_before_its_text_is_asked_for_again(self) -> None:
        script = [provider_error(500, when="in_stream", after_events=0)]
        async with (
            Gateway(dialect="omnigate", script=script) as gateway,
            omnigate(gateway.url, clock=FakeClock()) as engine,
        ):
            chunks, error = await drained(engine.chat_stream("Hi"))
        assert (text_of(chunks) != "", error, gateway.requests) == (True, None, 2)

    async def test_a_stream_that_the_provider_refuses_is_not(self) -> None:
        script = [provider_error(400, when="in_stream", after_events=0)]
        async with Gateway(dialect="omnigate", script=script) as gateway, omnigate(gateway.url) as engine:
            error = await failure(engine.chat_stream("Hi").response())
        assert error.governance is not None
        assert error.governance.extra["provider_status"] == 400
        assert (type(error), error.phase, gateway.requests) == (ProviderError, "before_output", 1)

    @pytest.mark.parametrize("ending", ["\n", "\n[error]", "é"])
    async def test_a_stream_that_breaks_off_loses_nothing(self, ending: str) -> None:
        async def talk(connection: Connection) -> None:
            await connection.request()
            await connection.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
                chunk(f"Hello{ending}".encode()),
            )
            connection.close()

        async with RawServer(talk) as server, omnigate(server.url) as engine:
            chunks, error = await drained(engine.chat_stream("Hi"))
        assert type(error) is StreamTruncatedError
        assert error.partial is not None
        assert text_of(chunks) == error.partial.content == f"Hello{ending}"

    async def test_a_budget_that_is_used_up_is_final(self) -> None:
        async with (
            Gateway(dialect="omnigate", script=[block("budget")] * 4) as gateway,
            omnigate(gateway.url) as engine,
        ):
            for call in (
                engine.chat("Hi"),
                engine.completions("Hi"),
                engine.chat_stream("Hi").response(),
                engine.completions_stream("Hi").response(),
            ):
                error = await failure(call)
                assert type(error) is BudgetExceededError
                assert error.governance is not None
                assert error.governance.block_reason == "Project daily budget exceeded"
        assert gateway.requests == 4

    async def test_the_gateways_401_asks_for_a_fresh_key_and_the_providers_does_not(self) -> None:
        keys = iter(["llmg_old_one", KEY, KEY, "llmg_too_far"])
        async with (
            Gateway(dialect="omnigate", api_key=KEY, script=[answer("Hi"), provider_error(401)]) as gateway,
            omnigate(gateway.url, api_key=lambda: next(keys)) as engine,
        ):
            assert (await engine.chat("Hi")).content == "Hi"
            error = await failure(engine.chat("Hi"))
        assert [call.headers["x-api-key"] for call in gateway.calls] == ["llmg_old_one", KEY, KEY]
        assert type(error) is ProviderError

    async def test_the_providers_401_is_the_providers(self) -> None:
        async with (
            Gateway(dialect="omnigate", api_key=KEY, script=[provider_error(401)]) as gateway,
            omnigate(gateway.url) as engine,
        ):
            theirs = await failure(engine.chat("Hi"))
            async with omnigate(gateway.url, api_key="llmg_wrong_key") as engine:
                ours = await failure(engine.chat("Hi"))
        assert (type(theirs), type(ours)) == (ProviderError, AuthenticationError)
        assert (theirs.status, theirs.advice, gateway.requests) == (401, "never", 2)

    async def test_a_chat_whose_connection_is_lost_is_not_sent_again(self) -> None:
        async with Gateway(dialect="omnigate", script=[reset()]) as gateway, omnigate(gateway.url) as engine:
            error = await failure(engine.chat("Hi"))
        assert isinstance(error, TransportError)
        assert gateway.requests == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_a_chat_that_was_turned_away_is_sent_again(self, status: int) -> None:
        async with (
            Gateway(dialect="omnigate", script=[fail(status)]) as gateway,
            omnigate(gateway.url, clock=FakeClock()) as engine,
        ):
            await engine.chat("Hi")
        assert gateway.requests == 2


class TestAccount:
    def test_who_has_no_key_yet_finds_the_gateway_at_its_own_address(self) -> None:
        assert OmniGate(None, gateway=OmniGateGateway()).base_url == "http://localhost:8000"

    async def test_its_operations(self) -> None:
        async with Gateway(dialect="omnigate", api_key=KEY) as gateway, omnigate(gateway.url) as engine:
            account = await engine.signup("dev@acme.example", org_name="Acme")
            made = await engine.create_api_key("ci")
            project = await engine.me()
            metrics = await engine.metrics("7d", from_="2026-01-01T00:00:00Z", group_by="model", granularity="day")
            models = await engine.models()
            health = await engine.health()
            meta = {"endpoint": "https://x.example", "deployment": "d"}
            await engine.set_provider_key("azure", "provider-secret-1", meta=meta)
        assert (account["email"], account["api_key"]) == ("dev@acme.example", "llmg_signup_1")
        assert (made["name"], made["revoked_at"]) == ("ci", None)
        assert (project.get("daily_budget"), project["configured_providers"]) == ("5.0000", ["openai"])
        assert (metrics["totals"]["requests"], metrics["breakdown"][0]["key"]) == (4, "tiny-mock")
        assert models[0].extra["pricing"] == {"input_per_1k_usd": 0.001, "output_per_1k_usd": 0.001}
        assert (health.ready, health.detail["status"]) == (True, "ok")
        asked = dict(gateway.calls[3].query)
        assert asked == {"range": "7d", "from": "2026-01-01T00:00:00Z", "group_by": "model", "granularity": "day"}
        body = {"email": "dev@acme.example", "project_name": "Default", "org_name": "Acme"}
        assert (gateway.calls[0].body, "x-api-key" in gateway.calls[0].headers) == (body, False)
        assert gateway.calls[-1].body == {"provider": "azure", "api_key": "provider-secret-1", "meta": meta}

    @pytest.mark.parametrize("fault", [reset(), fail(500), fail(503)])
    async def test_what_mints_is_never_sent_again_blindly(self, fault: Any) -> None:
        async with (
            Gateway(dialect="omnigate", script=[fault, fault]) as gateway,
            omnigate(gateway.url, clock=FakeClock()) as engine,
        ):
            await failure(engine.signup("dev@acme.example"))
            await failure(engine.create_api_key("ci"))
        assert gateway.requests == 2

    async def test_what_was_turned_away_at_the_door_is(self) -> None:
        script = [fail(429, retry_after=1), fail(429, retry_after=1)]
        async with (
            Gateway(dialect="omnigate", script=script) as gateway,
            omnigate(gateway.url, clock=FakeClock()) as engine,
        ):
            await engine.signup("dev@acme.example")
            await engine.create_api_key("ci")
        assert gateway.requests == 4

    async def test_a_provider_key_overwrites_so_it_is_sent_again(self) -> None:
        async with (
            Gateway(dialect="omnigate", script=[reset()]) as gateway,
            omnigate(gateway.url, clock=FakeClock()) as engine,
        ):
            await engine.set_provider_key("openai", "provider-secret-1")
        assert gateway.requests == 2

    async def test_a_provider_key_is_in_no_text_of_an_error(self) -> None:
        key = "0123456789abcdef-azure"

        async def talk(connection: Connection) -> None:
            await connection.request()
            detail = [{"loc": ["body", "meta"], "msg": f"bad {key}", "input": {"api_key": key}}]
            body = orjson.dumps({"detail": detail})
            await connection.send(
                b"HTTP/1.1 422 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )

        async with RawServer(talk) as server, omnigate(server.url) as engine:
            error = await failure(engine.set_provider_key("azure", key))
        assert type(error) is InvalidRequestError
        assert key not in f"{error} {error!r} {error.args} {vars(error)}"

    async def test_an_account_without_its_key_is_an_error(self) -> None:
        with pytest.raises(MalformedResponseError, match="api_key"):
            object_reader(("org_id", "api_key"))(reply({"org_id": "1"}, 201))
        with pytest.raises(MalformedResponseError, match="totals"):
            object_reader((), totals=dict)(reply({"totals": []}))
