"""What the pretend model says."""

from __future__ import annotations

import pytest

from penstock.engine.testing.dialects.chat import Ask, Tool
from penstock.engine.testing.steps import ToolCall
from penstock.engine.testing.tiny_model import tiny_answer

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "examples": ["Oslo"]},
            "unit": {"enum": ["celsius", "kelvin"]},
            "days": {"type": "integer"},
            "note": {"type": "string"},
        },
    },
)


def test_the_same_request_gets_the_same_answer() -> None:
    ask = Ask("m", "Hello")
    assert tiny_answer(ask) == tiny_answer(ask)
    assert tiny_answer(ask).content == 'You said: "Hello". I am a small model, and I say the same thing every time.'


def test_choices_differ() -> None:
    ask = Ask("m", "Hello", choices=2)
    assert tiny_answer(ask, 1).content == f"{tiny_answer(ask).content} This is choice 1."


def test_a_long_prompt_is_not_repeated_in_full() -> None:
    assert len(tiny_answer(Ask("m", "x" * 100_000)).content or "") < 300


@pytest.mark.parametrize(
    ("model", "prompt"), [("tiny-reasoner", "Hi"), ("m", "Think first."), ("m", "Are you thinking?")]
)
def test_thinks_when_asked_to(model: str, prompt: str) -> None:
    assert tiny_answer(Ask(model, prompt)).reasoning == f'The message is "{prompt}". I shall repeat it.'


def test_does_not_think_unasked() -> None:
    assert tiny_answer(Ask("m", "Hi")).reasoning is None


def test_stops_at_the_limit() -> None:
    short = tiny_answer(Ask("m", "Hi", max_words=2))
    assert (short.content, short.finish_reason) == ("You said:", "length")


@pytest.mark.parametrize("prompt", ["What is the weather?", "Use get_weather.", "Use a tool."])
def test_calls_a_tool_that_fits(prompt: str) -> None:
    arguments = {"city": "Oslo", "unit": "celsius", "days": 1, "note": "note"}
    assert tiny_answer(Ask("m", prompt, tools=(WEATHER,))).tool_calls == (ToolCall("get_weather", arguments),)


def test_calls_the_first_tool_when_one_is_required() -> None:
    tools = (Tool("first"), Tool("second"))
    assert tiny_answer(Ask("m", "Hi", tools=tools, tool_required=True)).tool_calls == (ToolCall("first", {}),)


def test_answers_when_no_tool_fits_or_one_has_answered() -> None:
    assert not tiny_answer(Ask("m", "Hi", tools=(WEATHER,))).tool_calls
    after = tiny_answer(Ask("m", "the weather is fine", from_tool=True, tools=(WEATHER,), tool_required=True))
    assert (after.content or "").startswith('The tool said: "the weather is fine".')
