"""The engine: its life, what goes into a request, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest

from penstock import Classify, ModelConfig, ModelEngine, ModelEngineError, Retry, Timeouts
from penstock.engine.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    EngineClosedError,
    EngineNotStartedError,
    IdleTimeoutError,
    InvalidRequestError,
    MiddlewareOrderError,
    WrongEventLoopError,
)
from penstock.engine.model_engine import encode_body, to_messages
from penstock.testing import Gateway, answer, fail, reset, stall
from tests.clocks import FakeClock, HeldClock
from tests.conftest import API_KEY

USER_SAYS_HI = [{"role": "user", "content": "Hi"}]
CALLS: list[Callable[[ModelEngine], Awaitable[Any]]] = [
    lambda engine: engine.call("Hi"),
    lambda engine: engine.chat_completion("Hi"),
    lambda engine: engine.stream_call("Hi").response(),
    lambda engine: engine.stream_chat_completion("Hi").response(),
    lambda engine: engine.embed("Hi"),
    lambda engine: engine.models(),
    lambda engine: engine.health(),
]
every_call = pytest.mark.parametrize(
    "call", CALLS, ids=["call", "chat_completion", "stream_call", "stream_chat_completion", "embed", "models", "health"]
)


def at(gateway: Gateway, **options: Any) -> ModelEngine:
    return ModelEngine("tiny-mock", base_url=gateway.url, **{"api_key": API_KEY, **options})


def configured(gateway: Gateway, **parameters: Any) -> ModelEngine:
    return ModelEngine(ModelConfig("tiny-mock", parameters={"base_url": gateway.url, **parameters}), api_key=API_KEY)


# Life


async def test_starting_and_stopping_twice_is_harmless(gateway: Gateway) -> None:
    engine = at(gateway)
    await engine.stop()
    await asyncio.gather(engine.start(), engine.start())
    await engine.start()
    assert engine.is_running
    await engine.chat_completion("Hi")
    await asyncio.gather(engine.stop(), engine.stop())
    await engine.stop()
    assert not engine.is_running
    await gateway.assert_no_open_connections()


async def test_a_stopped_engine_can_be_started_again(gateway: Gateway) -> None:
    engine = at(gateway)
    for _ in range(2):
        async with engine:
            await engine.chat_completion("Hi")


@every_call
async def test_an_engine_that_was_not_started_says_so(
    gateway: Gateway, call: Callable[[ModelEngine], Awaitable[Any]]
) -> None:
    with pytest.raises(EngineNotStartedError, match=r"await engine\.start\(\)"):
        await call(at(gateway))
    assert gateway.connections == 0


@every_call
async def test_an_engine_that_was_stopped_says_so(
    gateway: Gateway, call: Callable[[ModelEngine], Awaitable[Any]]
) -> None:
    engine = at(gateway)
    async with engine:
        pass
    with pytest.raises(EngineClosedError, match=r"await engine\.start\(\)"):
        await call(engine)
    assert gateway.connections == 0


@pytest.mark.parametrize("call", [*CALLS, ModelEngine.start, ModelEngine.stop])
async def test_another_event_loop_is_refused(
    engine: ModelEngine, call: Callable[[ModelEngine], Awaitable[Any]]
) -> None:
    raised: list[BaseException] = []

    async def elsewhere() -> None:
        try:
            await call(engine)
        except ModelEngineError as error:
            raised.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    assert [type(error) for error in raised] == [WrongEventLoopError]


async def test_a_stream_is_refused_where_it_is_asked_for(gateway: Gateway) -> None:
    with pytest.raises(EngineNotStartedError):
        at(gateway).stream_call("Hi")


async def test_a_stream_of_an_engine_that_was_stopped_meanwhile_says_so(gateway: Gateway) -> None:
    engine = at(gateway)
    async with engine:
        stream = engine.stream_call("Hi")
    with pytest.raises(EngineClosedError):
        await stream.response()
    assert gateway.connections == 0


async def test_stopping_ends_a_call_that_waits_for_its_answer(gateway: Gateway) -> None:
    gateway.script(default=stall(when="before_headers"))
    engine = at(gateway)
    await engine.start()
    call = asyncio.create_task(engine.chat_completion("Hi"))
    await gateway.until(lambda: gateway.requests == 1)
    await engine.stop()
    with pytest.raises(EngineClosedError) as raised:
        await call
    assert (raised.value.phase, len(raised.value.attempts)) == ("no_answer", 1)
    await gateway.assert_no_open_connections()


async def test_stopping_ends_a_call_that_waits_to_try_again(gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    clock = HeldClock()
    engine = at(gateway, clock=clock)
    await engine.start()
    call = asyncio.create_task(engine.chat_completion("Hi"))
    await clock.asleep.wait()
    await engine.stop()
    clock.wake()
    with pytest.raises(EngineClosedError):
        await call
    assert gateway.requests == 1


async def test_stopping_gives_readers_of_open_streams_what_had_arrived_and_an_error(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=3, of=answer(chunking="whole")))
    engine = at(gateway)
    await engine.start()
    read, unread, untouched = (engine.stream_call("Hi") for _ in range(3))
    await anext(read)
    await anext(unread)
    reader = asyncio.create_task(read.response())
    await gateway.until(lambda: gateway.open_streams == 2)
    await engine.stop()
    for reading in (reader, unread.response()):
        with pytest.raises(EngineClosedError) as raised:
            await reading
        assert raised.value.partial is not None
        assert raised.value.partial.content == "You said:"
    with pytest.raises(EngineClosedError):
        await untouched.response()
    await gateway.assert_no_open_connections()


async def test_a_session_is_used_as_it_is_and_left_open(gateway: Gateway) -> None:
    seen: list[int] = []

    async def watch(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        seen.append(response.status)
        return response

    gateway.script(fail(503))
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}, middlewares=[watch]) as session:
        async with at(gateway, session=session, clock=FakeClock()) as engine:
            await engine.chat_completion("Hi")
            await engine.stream_call("Hi").response()
        assert not session.closed
        async with session.get(gateway.url + "/v1/models", headers={"Authorization": f"Bearer {API_KEY}"}) as answer:
            assert answer.status == 200
    assert seen == [503, 200, 200, 200]
    assert {call.headers.get("X-Mine") for call in gateway.calls} == {"yes"}


async def test_errors_of_a_sessions_own_middlewares_pass(gateway: Gateway) -> None:
    gateway.script(fail(503))
    async with (
        aiohttp.ClientSession(middlewares=[Classify()]) as session,
        at(gateway, session=session, clock=FakeClock()) as engine,
    ):
        response = await engine.chat_completion("Hi")
    assert [(entry.error, entry.ended is not None) for entry in response.attempts] == [
        ("OverloadedError", True),
        (None, True),
    ]


async def test_a_session_that_was_closed_meanwhile_is_named(gateway: Gateway) -> None:
    session = aiohttp.ClientSession()
    async with at(gateway, session=session) as engine:
        await session.close()
        with pytest.raises(EngineClosedError, match="session"):
            await engine.chat_completion("Hi")
    with pytest.raises(ConfigurationError, match="session"):
        await at(gateway, session=session).start()


async def test_a_session_of_another_event_loop_is_refused(gateway: Gateway) -> None:
    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    here, elsewhere = asyncio.get_running_loop(), asyncio.new_event_loop()
    session = await here.run_in_executor(None, lambda: elsewhere.run_until_complete(open_session()))
    with pytest.raises(WrongEventLoopError, match="session"):
        await at(gateway, session=session).start()
    await here.run_in_executor(None, lambda: elsewhere.run_until_complete(session.close()))
    elsewhere.close()


def test_a_stack_in_a_wrong_order_is_refused() -> None:
    with pytest.raises(MiddlewareOrderError, match="swap"):
        ModelEngine("m", base_url="http://127.0.0.1:9", middleware=[Classify(), Retry()])


# Messages and body


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("Hi", USER_SAYS_HI),
        (USER_SAYS_HI[0], USER_SAYS_HI),
        (USER_SAYS_HI, USER_SAYS_HI),
        (tuple(USER_SAYS_HI), USER_SAYS_HI),
        (MappingProxyType(USER_SAYS_HI[0]), USER_SAYS_HI),
        ([MappingProxyType(USER_SAYS_HI[0])], USER_SAYS_HI),
    ],
    ids=["text", "message", "list", "tuple", "other mapping", "list of other mappings"],
)
async def test_messages_may_be_a_text_a_message_or_several(
    gateway: Gateway, engine: ModelEngine, messages: Any, expected: Any
) -> None:
    await engine.chat_completion(messages)
    assert gateway.calls[-1].body["messages"] == expected


@pytest.mark.parametrize(
    "messages", ["", [], (), {}, None, 7, b"Hi", {"Hi"}, ["Hi"], [USER_SAYS_HI], iter(USER_SAYS_HI)]
)
async def test_messages_that_are_none_are_refused(gateway: Gateway, engine: ModelEngine, messages: Any) -> None:
    for call in (engine.call, engine.chat_completion):
        with pytest.raises(InvalidRequestError):
            await call(messages)
    with pytest.raises(InvalidRequestError):
        engine.stream_call(messages)
    assert gateway.connections == 0


def test_the_message_at_fault_is_named() -> None:
    messages: Any = [*USER_SAYS_HI, "Hi"]
    with pytest.raises(InvalidRequestError) as raised:
        to_messages(messages)
    assert (raised.value.param, raised.value.phase) == ("messages[1]", "not_sent")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("logit_bias", {"50256": float("nan")}),
        ("tools", [{"x": [0.0, float("-inf")]}]),
        ("metadata", {1: "a key that is no text"}),
        ("seed", 2**64),
        ("stop", {"a set"}),
        ("user", "\ud800"),
        ("tools", [object()]),
        ("response_format", datetime),
    ],
)
async def test_a_parameter_that_json_cannot_say_is_refused_by_name(
    gateway: Gateway, engine: ModelEngine, name: str, value: Any
) -> None:
    with pytest.raises(InvalidRequestError, match=name) as raised:
        await engine.chat_completion("Hi", **{name: value})
    assert (raised.value.param, raised.value.phase, raised.value.model_name) == (name, "not_sent", "tiny-mock")
    with pytest.raises(InvalidRequestError, match=name):
        engine.stream_call("Hi", **{name: value})
    assert gateway.connections == 0


def test_a_parameter_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidRequestError, match="tools"):
        encode_body({"model": "m", "tools": endless})


def test_the_member_at_fault_is_named_with_its_path() -> None:
    with pytest.raises(InvalidRequestError, match=r"tools\[1\]\.x is not a finite number"):
        encode_body({"seed": None, "tools": [{}, {"x": float("nan")}]})


def test_nothing_is_sent_as_null() -> None:
    assert encode_body({"stop": None, "user": "null"}) == b'{"stop":null,"user":"null"}'


async def test_what_is_not_known_goes_into_the_body(gateway: Gateway, engine: ModelEngine) -> None:
    await engine.chat_completion("Hi", temperature=0, top_k=5, stop=None, tools=[{"type": "function"}])
    assert gateway.calls[-1].body == {
        "model": "tiny-mock",
        "messages": USER_SAYS_HI,
        "temperature": 0,
        "top_k": 5,
        "stop": None,
        "tools": [{"type": "function"}],
    }


async def test_the_nearest_word_about_a_member_counts(gateway: Gateway) -> None:
    config = ModelConfig("m", parameters={"base_url": gateway.url, "a": 1, "b": 1, "c": 1, "d": 1})
    async with ModelEngine(config, api_key=API_KEY, params={"b": 2, "c": 2, "d": 2}) as engine:
        await engine.chat_completion("Hi", c=3, d=3, extra_body={"d": 4, "timeout": 5})
    body = gateway.calls[-1].body
    assert [body[name] for name in "abcd"] == [1, 2, 3, 4]
    assert body["timeout"] == 5


async def test_another_model_may_be_asked(gateway: Gateway, engine: ModelEngine) -> None:
    await engine.chat_completion("Hi", model="other")
    await engine.stream_call("Hi", model="other").response()
    await engine.embed("Hi", model="other")
    assert [call.body["model"] for call in gateway.calls] == ["other"] * 3


@pytest.mark.parametrize("model", [None, "", 7])
async def test_a_model_that_is_no_name_is_refused(engine: ModelEngine, model: Any) -> None:
    with pytest.raises(InvalidRequestError, match="model"):
        engine.stream_call("Hi", model=model)


@pytest.mark.parametrize("name", ["api_key", "base_url", "default_headers", "default_query", "max_attempts"])
async def test_options_of_the_engine_are_refused_in_a_call(gateway: Gateway, engine: ModelEngine, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name) as raised:
        await engine.chat_completion("Hi", **{name: "sk-another-0123456789"})
    assert "sk-another" not in str(raised.value)
    assert gateway.connections == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": False}),
        ({"stream_options": None}, "absent"),
    ],
)
async def test_a_stream_asks_for_usage_unless_told_otherwise(
    gateway: Gateway, engine: ModelEngine, given: dict[str, Any], expected: Any
) -> None:
    response = await engine.stream_call("Hi", **given).response()
    body = gateway.calls[-1].body
    assert (body["stream"], body.get("stream_options", "absent")) == (True, expected)
    assert (response.usage is not None) == (expected == {"include_usage": True})


async def test_a_unary_call_has_nothing_of_a_stream(gateway: Gateway, engine: ModelEngine) -> None:
    await engine.chat_completion("Hi", stream_options={"include_usage": True})
    assert not {"stream", "stream_options"} & gateway.calls[-1].body.keys()


async def test_embeddings_have_no_defaults_of_chats(gateway: Gateway) -> None:
    async with configured(gateway, temperature=0) as engine:
        response = await engine.embed(["a", "b"], dimensions=8)
    assert gateway.calls[-1].body == {
        "model": "tiny-mock",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 8,
    }
    assert [len(vector) for vector in response.embeddings] == [8, 8]


@pytest.mark.parametrize("input", ["", [], (), None, 7, {"a": 1}])
async def test_nothing_to_embed_is_refused(gateway: Gateway, engine: ModelEngine, input: Any) -> None:
    with pytest.raises(InvalidRequestError):
        await engine.embed(input)
    assert gateway.connections == 0


async def test_a_large_body_is_sent_whole(gateway: Gateway, engine: ModelEngine) -> None:
    text = "long " * 500_000
    await engine.chat_completion(text)
    assert gateway.calls[-1].body["messages"][0]["content"] == text


# Headers, query, address


async def test_a_header_of_the_user_wins_over_the_key_whatever_its_case(gateway: Gateway) -> None:
    async with at(
        gateway, api_key="sk-wrong-0123456789", default_headers={"authorization": f"Bearer {API_KEY}"}
    ) as engine:
        await engine.chat_completion("Hi")
    assert gateway.calls[-1].headers.getall("Authorization") == [f"Bearer {API_KEY}"]


async def test_headers_of_a_call_win_over_the_engines(gateway: Gateway) -> None:
    async with at(gateway, default_headers={"X-Team": "a", "X-Other": "b"}) as engine:
        await engine.chat_completion("Hi", extra_headers={"x-team": "c", "Accept": "text/html"})
    headers = gateway.calls[-1].headers
    assert (headers.getall("X-Team"), headers["X-Other"], headers.getall("Accept")) == (["c"], "b", ["text/html"])


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-Evil: 1"}, {"X A": "b"}, {"X-A": None}, ["X-A"]])
async def test_headers_of_a_call_that_cannot_be_sent_are_refused(
    gateway: Gateway, engine: ModelEngine, headers: Any
) -> None:
    with pytest.raises(InvalidRequestError, match="extra_headers"):
        await engine.chat_completion("Hi", extra_headers=headers)
    assert gateway.connections == 0


async def test_a_key_in_a_header_of_the_users_is_kept_out_of_errors(gateway: Gateway) -> None:
    gateway.script(fail(400, message="bad header: hunter2-hunter2 is no key"))
    async with at(gateway, default_headers={"x-api-key": "hunter2-hunter2"}) as engine:
        with pytest.raises(InvalidRequestError) as raised:
            await engine.chat_completion("Hi")
    assert "hunter2" not in f"{raised.value} {raised.value.body}"


async def test_default_and_extra_query_are_sent(gateway: Gateway) -> None:
    async with configured(gateway, default_query={"api-version": "2026", "debug": True}) as engine:
        await engine.chat_completion("Hi", extra_query={"tag": ["a", "b c"]})
        await engine.models()
    assert [list(call.query.items()) for call in gateway.calls] == [
        [("api-version", "2026"), ("debug", "true"), ("tag", "a"), ("tag", "b c")],
        [("api-version", "2026"), ("debug", "true")],
    ]


async def test_an_extra_query_that_is_no_mapping_is_refused(engine: ModelEngine) -> None:
    with pytest.raises(InvalidRequestError, match="extra_query"):
        await engine.chat_completion("Hi", extra_query="a=1")


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_paths_are_the_same_with_and_without_v1_in_the_base_url(gateway: Gateway, suffix: str) -> None:
    async with ModelEngine("m", base_url=gateway.url + suffix, api_key=API_KEY) as engine:
        await engine.chat_completion("Hi")
        await engine.models()
    assert [call.path for call in gateway.calls] == ["/v1/chat/completions", "/v1/models"]


# Keys


async def asynchronous_key() -> str:
    await asyncio.sleep(0)
    return API_KEY


@pytest.mark.parametrize("api_key", [API_KEY, lambda: API_KEY, asynchronous_key], ids=["text", "function", "async"])
async def test_the_key_may_come_from_a_function(gateway: Gateway, api_key: Any) -> None:
    async with at(gateway, api_key=api_key) as engine:
        await engine.chat_completion("Hi")


async def test_the_key_may_come_from_the_environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    monkeypatch.setenv("MY_TEAMS_KEY", API_KEY)
    config = ModelConfig("m", api_key_env_var="MY_TEAMS_KEY", parameters={"base_url": gateway.url})
    async with ModelEngine(config) as engine:
        await engine.chat_completion("Hi")


def failing() -> str:
    raise LookupError("the vault is sealed")


@pytest.mark.parametrize(
    "api_key", [failing, lambda: "", lambda: "a\nb", lambda: None], ids=["fails", "", "ctl", "None"]
)
async def test_a_function_without_a_usable_key_is_named_and_nothing_is_sent(gateway: Gateway, api_key: Any) -> None:
    async with at(gateway, api_key=api_key) as engine:
        with pytest.raises(AuthenticationError, match="function"):
            await engine.chat_completion("Hi")
    assert gateway.connections == 0


# Time and attempts


async def test_max_attempts_of_the_configuration_count(gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    async with configured(gateway, max_attempts=1) as engine:
        with pytest.raises(ModelEngineError):
            await engine.chat_completion("Hi")
    assert gateway.requests == 1


@pytest.mark.parametrize(("name", "value"), [("timeout", 0), ("timeout", "soon"), ("timeouts", 30)])
async def test_times_of_a_call_that_are_none_are_refused(
    gateway: Gateway, engine: ModelEngine, name: str, value: Any
) -> None:
    with pytest.raises(ModelEngineError):
        engine.stream_call("Hi", **{name: value})
    with pytest.raises(ModelEngineError):
        await engine.chat_completion("Hi", **{name: value})
    assert gateway.connections == 0


async def test_the_timeout_of_a_call_is_its_deadline(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(default=stall(when="before_headers"))
    with pytest.raises(DeadlineExceededError):
        await engine.chat_completion("Hi", timeout=0.1)


async def test_the_seeds_timeout_bounds_a_unary_call_and_the_silence_of_a_stream(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=2))
    async with configured(gateway, timeout=0.1) as engine:
        with pytest.raises(DeadlineExceededError):
            await engine.chat_completion("Hi")
        with pytest.raises(IdleTimeoutError):
            await engine.stream_call("Hi").response()


async def test_the_ledger_comes_with_the_answer(gateway: Gateway) -> None:
    gateway.script(fail(503), reset())
    clock = FakeClock()
    async with at(gateway, clock=clock) as engine:
        response = await engine.chat_completion("Hi")
    assert [(entry.number, entry.error) for entry in response.attempts] == [
        (1, "OverloadedError"),
        (2, "DisconnectedError"),
        (3, None),
    ]
    assert [entry.wait for entry in response.attempts] == [*clock.sleeps, None]
    assert response.idempotency_key == gateway.keys[0]


# Models and health


async def test_models_are_listed(engine: ModelEngine) -> None:
    assert [model.id for model in await engine.models()] == ["tiny-mock"]


async def test_health_is_asked_once_and_a_failure_is_a_result(gateway: Gateway) -> None:
    async with ModelEngine("m", gateway="nim", base_url=gateway.url, api_key=API_KEY) as engine:
        health = await engine.health()
        assert (health.ready, health.status, gateway.calls[-1].path) == (True, 200, "/v1/health/ready")
        await gateway.stop()
        health = await engine.health(timeouts=Timeouts(connect=0.5))
    assert (health.ready, health.status) == (False, None)
    assert "no connection" in health.detail
