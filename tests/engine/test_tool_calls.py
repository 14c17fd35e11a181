"""Tool calls come in fragments, with an index, without one, and with the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from penstock.engine.decode import decode_completion
from penstock.engine.errors import MalformedResponseError
from penstock.engine.types import ToolCall, ToolCallDelta, ToolCallFunction

from .streams import DONE, choice, chunk, completion, fragment, only, run, sse, unary


def calls_of(*events: Sequence[Any]) -> tuple[ToolCall, ...] | None:
    frames = [chunk(choice(tool_calls=list(fragments))) for fragments in events]
    result = run(sse(*frames, chunk(choice(finish="tool_calls"))))
    assert result.failure is None
    assert result.chunks[-1].tool_calls == result.response.tool_calls
    return result.response.tool_calls


def call(id: str, name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id, ToolCallFunction(name, arguments))


A, B = call("a", "f", '{"x":1}'), call("b", "g", '{"y":2}')

FRAGMENTS: list[tuple[str, list[list[Any]], tuple[ToolCall, ...]]] = [
    (
        "with an index",
        [
            [fragment(0, "a", "f", "")],
            [fragment(0, arguments='{"x"')],
            [fragment(1, "b", "g", '{"y":2}')],
            [fragment(0, arguments=":1}")],
        ],
        (A, B),
    ),
    ("the second index first", [[fragment(1, "b", "g", '{"y":2}')], [fragment(0, "a", "f", '{"x":1}')]], (A, B)),
    ("counted from 1", [[fragment(1, "a", "f", '{"x":1}')], [fragment(2, "b", "g", '{"y":2}')]], (A, B)),
    ("whole, without an index", [[fragment(None, "a", "f", '{"x":1}'), fragment(None, "b", "g", '{"y":2}')]], (A, B)),
    ("whole, in two events", [[fragment(None, "a", "f", '{"x":1}')], [fragment(None, "b", "g", '{"y":2}')]], (A, B)),
    (
        "pieces without an index",
        [
            [fragment(None, "a", "f")],
            [fragment(arguments='{"x"')],
            [fragment(arguments=":1}")],
            [fragment(None, "b", "g")],
            [fragment(arguments='{"y":2}')],
        ],
        (A, B),
    ),
    (
        "pieces known by id",
        [
            [fragment(None, "a", "f")],
            [fragment(None, "b", "g")],
            [fragment(None, "a", None, '{"x":1}')],
            [fragment(None, "b", None, '{"y":2}')],
        ],
        (A, B),
    ),
    ("index 0 for all", [[fragment(0, "a", "f", '{"x":1}')], [fragment(0, "b", "g", '{"y":2}')]], (A, B)),
    (
        "index 0 for all, in pieces",
        [
            [fragment(0, "a", "f", '{"x"')],
            [fragment(0, arguments=":1}")],
            [fragment(0, "b", "g", '{"y"')],
            [fragment(0, arguments=":2}")],
        ],
        (A, B),
    ),
    (
        "index 0 for all, interleaved by id",
        [
            [fragment(0, "a", "f", '{"x"')],
            [fragment(0, "b", "g", '{"y"')],
            [fragment(0, "a", None, ":1}")],
            [fragment(0, "b", None, ":2}")],
        ],
        (A, B),
    ),
    (
        "index 0 for all, no ids",
        [[fragment(0, None, "f", '{"x":1}')], [fragment(0, None, "g", '{"y":2}')]],
        (call("", "f", '{"x":1}'), call("", "g", '{"y":2}')),
    ),
    (
        "the same function twice, no ids",
        [[fragment(0, None, "f", '{"x":1}'), fragment(0, None, "f", '{"x":2}')]],
        (call("", "f", '{"x":1}'), call("", "f", '{"x":2}')),
    ),
    (
        "no index, no ids",
        [[fragment(None, None, "f", '{"x":1}')], [fragment(None, None, "f", '{"x":2}')]],
        (call("", "f", '{"x":1}'), call("", "f", '{"x":2}')),
    ),
    (
        "empty ids",
        [[fragment(None, "", "f", '{"x":1}'), fragment(None, "", "g", "{}")]],
        (call("", "f", '{"x":1}'), call("", "g")),
    ),
    ("id and name on each fragment", [[fragment(0, "a", "f", '{"x"')], [fragment(0, "a", "f", ":1}")]], (A,)),
    ("name on each fragment", [[fragment(0, "a", "f", '{"x"')], [fragment(0, None, "f", ":1}")]], (A,)),
    (
        "a new id on each fragment: vLLM once",
        [[fragment(0, "a", "f", '{"x"')], [fragment(0, "z1", None, ":")], [fragment(0, "z2", None, "1}")]],
        (A,),
    ),
    ("the id comes late", [[fragment(0, None, "f")], [fragment(0, "a", None, '{"x":1}')]], (A,)),
    ("the name comes late", [[fragment(0, "a")], [fragment(0, None, "f", '{"x":1}')]], (A,)),
    (
        "the name comes late, then another",
        [[fragment(0, "a")], [fragment(0, None, "f", '{"x":1}')], [fragment(0, None, "g", '{"y":2}')]],
        (A, call("", "g", '{"y":2}')),
    ),
    ("arguments as an object", [[fragment(0, "a", "f", {"x": 1})]], (A,)),
    ("no arguments", [[fragment(0, "a", "f")], [fragment(1, "b", "g", "")]], (call("a", "f"), call("b", "g"))),
    ("arguments that are no JSON", [[fragment(0, "a", "f", "{oops")]], (call("a", "f", "{oops"),)),
    ("an empty fragment", [[{}], [fragment(None, "a", "f", '{"x":1}')]], (A,)),
]


@pytest.mark.parametrize(("events", "calls"), [each[1:] for each in FRAGMENTS], ids=[each[0] for each in FRAGMENTS])
def test_fragments_of_tool_calls(events: list[list[Any]], calls: tuple[ToolCall, ...]) -> None:
    assert calls_of(*events) == calls


def test_fragments_are_passed_on_with_the_index_of_their_call() -> None:
    frames = [
        chunk(choice(tool_calls=[fragment(0, "a", "f")])),
        chunk(choice(tool_calls=[fragment(0, "b", "g", "{}")])),
    ]
    assert [each.delta_tool_calls for each in only(*frames)] == [
        (ToolCallDelta(0, "a", "f", None, "function"),),
        (ToolCallDelta(1, "b", "g", "{}", "function"),),
    ]


def test_tool_calls_without_a_finish_reason_are_in_the_response() -> None:
    assert run(sse(chunk(choice(tool_calls=[fragment(0, "a", "f", '{"x":1}')])), DONE)).response.tool_calls == (A,)


def test_the_function_call_before_tools_came_is_a_tool_call() -> None:
    frames = [{"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ":1}"}]
    result = run(sse(*(chunk(choice(function_call=each)) for each in frames), chunk(choice(finish="function_call"))))
    whole = completion({"content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}}, "function_call")

    assert result.response.tool_calls == (call("", "f", '{"x":1}'),)
    assert decode_completion(unary(whole)).tool_calls == result.response.tool_calls


def test_a_custom_tool_has_an_input() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    second = {"index": 0, "custom": {"input": " -l"}}
    assert calls_of([first], [second]) == (ToolCall("a", ToolCallFunction("shell", "ls -l"), "custom"),)
    assert calls_of([{**first, "custom": {"name": "shell"}}]) == (
        ToolCall("a", ToolCallFunction("shell", ""), "custom"),
    )


def test_each_call_of_a_whole_message_is_a_call() -> None:
    same = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    response = decode_completion(unary(completion({"tool_calls": [same, same]})))
    assert response.tool_calls == (call("a", "f"), call("a", "f"))


def test_arguments_nested_too_deeply_are_malformed() -> None:
    """1,024 levels can be read with orjson, and 254 be written."""
    nested = b'{"a":' * 300 + b"1" + b"}" * 300
    frame = orjson.dumps(chunk(choice(tool_calls=[fragment(0, "a", "f", "@")]))).replace(b'"@"', nested)
    assert type(run(sse(b"data: " + frame + b"\n\n")).failure) is MalformedResponseError


def test_many_tool_calls_are_read_in_linear_time() -> None:
    """Passes, or takes minutes."""
    for fragments in ([fragment(0, None, "f")] * 30_000, [fragment(None, str(n), "f") for n in range(30_000)]):
        assert len(calls_of(fragments) or ()) == 30_000


def test_complete_tool_calls_come_with_the_first_finish_reason() -> None:
    finish = chunk(choice(finish="tool_calls"))
    chunks = only(chunk(choice(tool_calls=[fragment(0, "a", "f", '{"x":1}')])), finish, finish)
    assert [each.tool_calls for each in chunks] == [None, (A,), None]
