"""How an engine is set up."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from penstock import NIM, ModelConfig, ModelEngine, OpenAI, Retry, Timeouts
from penstock.engine.config import resolve_root
from penstock.engine.errors import ConfigurationError
from penstock.engine.gateways import OpenAICompatibleGateway, OpenAIGateway

KEY = "sk-test-0123456789abcdef"
HERE = "http://127.0.0.1:9"


def root(base_url: Any) -> str:
    return str(resolve_root(OpenAICompatibleGateway(), base_url)).rstrip("/")


def config(**parameters: Any) -> ModelConfig:
    return ModelConfig("m", parameters={"base_url": HERE, **parameters})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://gateway.test", "http://gateway.test"),
        ("http://gateway.test/", "http://gateway.test"),
        ("http://gateway.test/v1", "http://gateway.test"),
        ("http://gateway.test/v1/", "http://gateway.test"),
        ("http://gateway.test/v1//", "http://gateway.test"),
        (" https://gateway.test:8443/v1\n", "https://gateway.test:8443"),
        ("https://api-v1.gateway.test", "https://api-v1.gateway.test"),
        ("https://api-v1.gateway.test/v1", "https://api-v1.gateway.test"),
        ("https://gateway.test/api/v1", "https://gateway.test/api"),
        ("https://gateway.test/openai/deployments/x", "https://gateway.test/openai/deployments/x"),
        ("https://gateway.test/myv1", "https://gateway.test/myv1"),
        ("https://gateway.test/v1/proxy", "https://gateway.test/v1/proxy"),
        ("https://gateway.test/a%2Fv1", "https://gateway.test/a%2Fv1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_the_base_url_may_end_in_v1(given: str, expected: str) -> None:
    assert root(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "gateway.test",
        "localhost:8000/v1",
        "//gateway.test",
        "ftp://gateway.test",
        "http://",
        "http:///v1",
        "http://:80",
        "http://gateway.test:99999",
        "http://gateway.test/a b",
        "http://gate\nway.test",
        "http://gate\\way.test",
        "http://user:secret-word@gateway.test",
        "http://secret-word@gateway.test",
        "ftp://user:secret-word@gateway.test",
        "http://gateway.test/v1?key=secret-word",
        "http://gateway.test/v1#part",
        None,
        80,
        b"http://gateway.test",
    ],
)
def test_a_base_url_that_cannot_work_is_refused_without_showing_it(given: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        root(given)
    assert "base" in str(raised.value)
    assert "secret-word" not in str(raised.value)


def test_the_public_address_needs_no_base_url() -> None:
    assert str(resolve_root(OpenAIGateway(), None)).rstrip("/") == "https://api.openai.com"


@pytest.mark.parametrize(
    "value",
    [
        "tiny-mock",
        ModelConfig("tiny-mock"),
        {"model": "tiny-mock", "engine": "openai"},
        {"model": "tiny-mock", "engine": None, "parameters": None, "api_key_env_var": None, "type": "main"},
        types.SimpleNamespace(model="tiny-mock", engine="openai", parameters={}, mode="chat"),
    ],
    ids=["text", "config", "mapping", "mapping of nothing", "object"],
)
def test_a_model_may_be_given_in_several_shapes(value: Any) -> None:
    engine = ModelEngine(value, base_url=HERE)
    assert (engine.model_name, engine.gateway.name) == ("tiny-mock", "openai")


@pytest.mark.parametrize("value", ["", "  ", None, 7, {}, {"model": 7}, {"model": "m", "parameters": [1]}])
def test_a_model_without_a_name_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        ModelEngine(value, base_url=HERE)


def test_an_unknown_engine_is_an_openai_compatible_server_when_its_address_is_given() -> None:
    engine = ModelEngine(ModelConfig("m", engine="vllm", parameters={"base_url": HERE}))
    assert (engine.gateway.name, engine.base_url) == ("vllm", HERE)


def test_an_unknown_engine_without_an_address_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"openai.*nim"):
        ModelEngine("m", gateway="vllm")


def test_parameters_that_set_up_the_engine_do_not_become_defaults_of_the_body() -> None:
    engine = ModelEngine(
        config(
            api_key="sk-not-from-here-1234",
            default_headers={"X-Team": "a"},
            default_query={"api-version": "1"},
            max_attempts=2,
            messages=[],
            model="other",
            model_name="other",
            stream=True,
            stream_options={},
            temperature=0.5,
            timeout=3,
            timeout_connect=1,
            seed=None,
        )
    )
    assert dict(engine.body_param_defaults) == {"temperature": 0.5, "seed": None}


def test_a_configuration_does_not_show_its_parameters() -> None:
    assert KEY not in repr(config(default_headers={"Authorization": f"Bearer {KEY}"}, api_key=KEY))


def test_changing_the_parameters_afterwards_changes_nothing() -> None:
    parameters = {"base_url": HERE, "temperature": 0}
    engine = ModelEngine(ModelConfig("m", parameters=parameters))
    parameters["temperature"] = 1
    assert engine.body_param_defaults["temperature"] == 0


@pytest.mark.parametrize("name", ["api_key", "messages", "model", "stream", "timeout", "base_url", "extra_headers"])
def test_params_that_are_no_body_defaults_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ModelEngine("m", base_url=HERE, params={name: "x"})


def test_the_seeds_timeout_is_the_silence_in_a_stream_and_the_time_of_a_whole_unary_call() -> None:
    engine = ModelEngine(config(timeout=7, timeout_connect=2))
    assert engine.timeouts == Timeouts(connect=2.0, first_event=7.0, idle=7.0)
    assert engine._unary_deadline == 7.0


def test_timeouts_given_to_the_engine_win_over_the_configurations() -> None:
    engine = ModelEngine(config(timeout=7), timeouts=Timeouts(idle=1))
    assert (engine.timeouts, engine._unary_deadline) == (Timeouts(idle=1), None)


@pytest.mark.parametrize("name", ["timeout", "timeout_connect"])
@pytest.mark.parametrize("value", [0, -1, "soon", "3", float("nan"), float("inf"), 10**400, True, [1]])
def test_a_time_that_is_no_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ModelEngine(config(**{name: value}))


def test_timeouts_that_are_none_are_refused() -> None:
    not_timeouts: Any = 30
    with pytest.raises(ConfigurationError, match="Timeouts"):
        ModelEngine("m", base_url=HERE, timeouts=not_timeouts)


def test_attempts_of_the_configuration_and_a_stack_are_two_answers_to_one_question() -> None:
    """Left out silently, the number would let a request run more often than the configuration says."""
    with pytest.raises(ConfigurationError, match=r"max_attempts.*middleware=.*Retry\(max_attempts=1\)"):
        ModelEngine(config(max_attempts=1), middleware=[Retry()])


@pytest.mark.parametrize("value", [0, -1, "3", 2.5, True])
def test_attempts_that_cannot_be_counted_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts"):
        ModelEngine(config(max_attempts=value))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "line\nbreak"},
        {"X-A": "null\0"},
        {"X A": "space in the name"},
        {"X-A:": "colon in the name"},
        {"": "no name"},
        {"X-A": None},
        [("X-A", "a list")],
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="default_headers"):
        ModelEngine("m", base_url=HERE, default_headers=headers)
    with pytest.raises(ConfigurationError, match="default_headers"):
        ModelEngine(config(default_headers=headers))


def test_a_whole_header_line_in_the_place_of_a_name_does_not_show_its_key() -> None:
    with pytest.raises(ConfigurationError, match=r"default_headers\['Authorization: Bearer \*\*\*'\]"):
        ModelEngine("m", base_url=HERE, default_headers={f"Authorization: Bearer {KEY}": ""})


def test_a_header_is_there_once_whatever_the_case_of_its_name() -> None:
    engine = ModelEngine(
        config(default_headers={"authorization": "Bearer config", "X-Team": 7}),
        default_headers={"AUTHORIZATION": "Bearer argument"},
    )
    assert sorted(engine.default_headers.items()) == [("AUTHORIZATION", "Bearer argument"), ("X-Team", "7")]


def test_the_query_is_written_as_a_url_wants_it() -> None:
    query = {"a": "x y", "b": True, "c": False, "d": None, "e": [1, 2], "f": 1.5}
    assert config(default_query=query).default_query == (
        ("a", "x y"),
        ("b", "true"),
        ("c", "false"),
        ("d", ""),
        ("e", "1"),
        ("e", "2"),
        ("f", "1.5"),
    )


def test_a_query_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="default_query"):
        ModelEngine(config(default_query="a=1"))


def test_openai_itself_needs_a_key_and_the_message_says_where_from() -> None:
    with pytest.raises(ConfigurationError, match="api_key=, or set OPENAI_API_KEY"):
        ModelEngine("m")


def test_a_server_elsewhere_may_need_none() -> None:
    ModelEngine("m", base_url=HERE)


@pytest.mark.parametrize(
    ("make", "variable"), [(ModelEngine, "OPENAI_API_KEY"), (OpenAI, "OPENAI_API_KEY"), (NIM, "NVIDIA_API_KEY")]
)
def test_the_key_may_come_from_the_gateways_variable(
    make: Callable[..., ModelEngine], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, KEY)
    make("m")


def test_a_named_variable_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="MY_TEAMS_KEY"):
        ModelEngine(ModelConfig("m", api_key_env_var="MY_TEAMS_KEY", parameters={"base_url": HERE}))


def test_a_key_in_the_place_of_its_variables_name_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="the name of an environment variable") as raised:
        ModelEngine(ModelConfig("m", api_key_env_var=KEY, parameters={"base_url": HERE}))
    assert KEY not in str(raised.value)


ELSEWHERE = "http://gateway.test"
CREDENTIALS: list[dict[str, Any]] = [
    {"api_key": KEY},
    {"api_key": lambda: KEY},
    {"default_headers": {"Authorization": f"Bearer {KEY}"}},
    {"default_headers": {"x-api-key": KEY}},
]


@pytest.mark.parametrize("credential", CREDENTIALS, ids=["key", "function", "Authorization", "x-api-key"])
def test_a_credential_does_not_go_over_plain_http_unless_that_is_allowed(credential: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.test in plain text.*allow_http=True") as raised:
        ModelEngine("m", base_url=ELSEWHERE, **credential)
    assert KEY not in str(raised.value)
    ModelEngine("m", base_url=ELSEWHERE, allow_http=True, **credential)
    ModelEngine("m", base_url=HERE, **credential)


def test_a_credential_in_the_configuration_does_not_go_over_plain_http_either() -> None:
    parameters = {"base_url": ELSEWHERE, "default_headers": {"api-key": KEY}}
    with pytest.raises(ConfigurationError, match="in plain text"):
        ModelEngine(ModelConfig("m", parameters=parameters))


def test_without_a_credential_plain_http_is_no_matter() -> None:
    ModelEngine("m", base_url=ELSEWHERE)


async def test_a_credential_of_one_call_does_not_go_over_plain_http_either() -> None:
    async with ModelEngine("m", base_url=ELSEWHERE) as engine:
        with pytest.raises(ConfigurationError, match="in plain text"):
            await engine.chat_completion("Hi", extra_headers={"Authorization": f"Bearer {KEY}"})


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_leave_for_plain_http_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="allow_http"):
        ModelEngine("m", base_url=HERE, allow_http=value)


@pytest.mark.parametrize("key", ["", "  ", f"{KEY}\nX-Evil: 1", f"{KEY}\0", f"{KEY} {KEY}", f"ключ-{KEY}", 7, b"bytes"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ModelEngine("m", base_url=HERE, api_key=key)
    assert KEY not in str(raised.value)


def test_white_space_around_a_key_is_of_no_interest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    ModelEngine("m")


def test_an_engine_shows_neither_key_nor_headers() -> None:
    engine = ModelEngine("m", base_url=f"{HERE}/v1", api_key=KEY, default_headers={"X-Api-Key": KEY})
    assert repr(engine) == f"<ModelEngine 'm' at {HERE}, not started>"
