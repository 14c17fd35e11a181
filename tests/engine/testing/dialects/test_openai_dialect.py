"""OpenAI's format, whole and streamed."""

from __future__ import annotations

import struct
from base64 import b64decode
from typing import Any

import orjson
import pytest

from penstock.engine.testing import Answer, Gateway, answer, tool_call

from ..support import Exchange, chat, send, stream

ECHO = 'You said: "Hi". I am a small model, and I say the same thing every time.'
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": "Oslo"}}},
    },
}


async def unary(gateway: Gateway, text: str = "Hi", **options: Any) -> dict[str, Any]:
    got = await send(gateway, chat(text, **options))
    assert got.status == 200
    body: dict[str, Any] = orjson.loads(got.body)
    return body


def deltas(got: Exchange, member: str, choice: int = 0) -> list[Any]:
    """What came in one member of the deltas of one choice."""
    return [
        each["delta"][member]
        for frame in got.frames
        for each in frame["choices"]
        if each["index"] == choice and member in each["delta"]
    ]


class TestUnary:
    async def test_the_body_is_that_of_the_reference(self, gateway: Gateway) -> None:
        assert await unary(gateway) == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": "tiny-mock",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": None,
                    "message": {"role": "assistant", "content": ECHO, "refusal": None},
                }
            ],
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 16,
                "total_tokens": 17,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            "system_fingerprint": "fp_penstock",
        }

    async def test_tool_calls(self, gateway: Gateway) -> None:
        (choice,) = (await unary(gateway, "What is the weather?", tools=[WEATHER]))["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert choice["message"]["tool_calls"] == [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
        ]

    @pytest.mark.parametrize(
        ("options", "calls"),
        [
            ({"tool_choice": "none"}, False),
            ({"tool_choice": "auto"}, False),
            ({"tool_choice": "required"}, True),
            ({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, True),
            ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, False),
        ],
    )
    async def test_the_choice_of_a_tool(self, gateway: Gateway, options: dict[str, Any], calls: bool) -> None:
        (choice,) = (await unary(gateway, tools=[WEATHER], **options))["choices"]
        assert ("tool_calls" in choice["message"]) is calls

    async def test_members_of_other_answers(self, gateway: Gateway) -> None:
        gateway.script(
            answer("Yes.", reasoning="Hm.", reasoning_field="reasoning"),
            answer(refusal="No.", finish_reason="content_filter", usage=None),
            answer(tool_calls=[tool_call("f", "{broken", id="mine")], usage={"total_tokens": 3}),
        )
        thinking, refusing, calling = [await unary(gateway) for _ in range(3)]
        message = thinking["choices"][0]["message"]
        assert (message["content"], message["reasoning"]) == ("Yes.", "Hm.")
        assert thinking["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}
        assert refusing["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": "No."}
        assert (refusing["choices"][0]["finish_reason"], "usage" in refusing) == ("content_filter", False)
        assert calling["usage"] == {"total_tokens": 3}
        assert calling["choices"][0]["message"]["tool_calls"][0] == {
            "id": "mine",
            "type": "function",
            "function": {"name": "f", "arguments": "{broken"},
        }

    async def test_several_choices_and_a_limit(self, gateway: Gateway) -> None:
        body = await unary(gateway, n=2, max_tokens=2)
        assert [choice["index"] for choice in body["choices"]] == [0, 1]
        assert [choice["finish_reason"] for choice in body["choices"]] == ["length", "length"]
        assert body["choices"][0]["message"]["content"] == "You said:"

    async def test_more_choices_than_the_gateway_makes_are_refused(self, gateway: Gateway) -> None:
        assert (await send(gateway, chat(n=128))).status == 200
        refused = await send(gateway, chat(n=10**9))
        assert (refused.status, refused.json["error"]["param"]) == (400, "n")

    async def test_parts_of_content_are_read_as_text(self, gateway: Gateway) -> None:
        parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        got = await send(gateway, {"model": "m", "messages": [{"role": "user", "content": parts}]})
        assert orjson.loads(got.body)["choices"][0]["message"]["content"] == ECHO


class TestStream:
    async def test_the_frames_in_order(self, gateway: Gateway) -> None:
        gateway.script(answer("Hello there"))
        got = await stream(gateway)
        assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert [frame["choices"][0]["delta"] for frame in got.frames] == [
            {"role": "assistant", "content": ""},
            {"content": "Hello"},
            {"content": " there"},
            {},
        ]
        assert [frame["choices"][0]["finish_reason"] for frame in got.frames] == [None, None, None, "stop"]
        assert got.events[-1] == "[DONE]"
        assert got.frames[1] == {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_760_000_000,
            "model": "tiny-mock",
            "system_fingerprint": "fp_penstock",
            "choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": None, "finish_reason": None}],
        }

    @pytest.mark.parametrize("text", ["Think of a tool.", "Hi", "What is the weather?", "Grüße 🙂\u2028 \r\n"])
    async def test_says_the_same_as_the_answer_that_is_not_streamed(self, gateway: Gateway, text: str) -> None:
        tools = [WEATHER] if "weather" in text else []
        got = await send(gateway, chat(text, tools=tools, stream=True, stream_options={"include_usage": True}))
        whole = await unary(gateway, text, tools=tools)
        message = whole["choices"][0]["message"]
        assert "".join(piece or "" for piece in deltas(got, "content")) == (message["content"] or "")
        assert "".join(deltas(got, "reasoning_content")) == message.get("reasoning_content", "")
        fragments = [call["function"]["arguments"] for (call,) in deltas(got, "tool_calls")]
        assert "".join(fragments) == "".join(c["function"]["arguments"] for c in message.get("tool_calls", ()))
        assert got.frames[-1]["usage"] == whole["usage"]

    async def test_usage_comes_in_a_frame_of_its_own_when_asked_for(self, gateway: Gateway) -> None:
        asked = await send(gateway, chat(stream=True, stream_options={"include_usage": True}))
        unasked = await send(gateway, chat(stream=True))
        assert asked.frames[-1]["choices"] == []
        assert asked.frames[-1]["usage"]["total_tokens"] == 17
        assert all(frame["usage"] is None for frame in asked.frames[:-1])
        assert not any("usage" in frame for frame in unasked.frames)

    async def test_usage_on_other_frames_does_not_ask(self, gateway: Gateway) -> None:
        gateway.script(answer("a b", usage_on="finish_frame"), answer("a b", usage_on="every_frame"))
        on_finish, on_every = await stream(gateway), await stream(gateway)
        assert ["usage" in frame for frame in on_finish.frames] == [False, False, False, True]
        assert [frame["usage"]["completion_tokens"] for frame in on_every.frames] == [0, 1, 2, 2]
        assert [frame["usage"]["total_tokens"] for frame in on_every.frames] == [1, 2, 3, 3]

    async def test_fragments_of_tool_calls(self, gateway: Gateway) -> None:
        calls = [tool_call("f", {"x": 1}), tool_call("g", '{"a": "bcdefgh"}')]
        gateway.script(answer(tool_calls=calls), answer(tool_calls=calls, tool_index=False))
        indexed, bare = await stream(gateway), await stream(gateway)
        fragments = [call for (call,) in deltas(indexed, "tool_calls")]
        assert fragments[0] == {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "f", "arguments": ""},
        }
        assert fragments[1] == {"index": 0, "function": {"arguments": '{"x":1'}}
        assert [call["index"] for call in fragments] == [0, 0, 0, 1, 1, 1, 1]
        assert deltas(indexed, "content") == [None]
        assert all("index" not in call for (call,) in deltas(bare, "tool_calls"))

    async def test_choices_take_turns(self, gateway: Gateway) -> None:
        got = await send(gateway, chat(stream=True, n=2))
        assert [frame["choices"][0]["index"] for frame in got.frames[:6]] == [0, 1, 0, 1, 0, 1]
        texts = ["".join(deltas(got, "content", choice)) for choice in (0, 1)]
        assert texts == [ECHO, f"{ECHO} This is choice 1."]

    async def test_refusal_and_no_finish_reason(self, gateway: Gateway) -> None:
        gateway.script(answer(refusal="I can't", finish_reason=None))
        got = await stream(gateway)
        assert deltas(got, "refusal") == ["I", " can't"]
        assert {frame["choices"][0]["finish_reason"] for frame in got.frames} == {None}

    @pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
    async def test_line_ends(self, gateway: Gateway, line_end: Any) -> None:
        gateway.script(Answer("a", line_end=line_end, comments=["one", "two"]))
        body = (await stream(gateway)).body.decode()
        assert body.startswith(f": one{line_end * 2}: two{line_end * 2}data: ")
        assert body.endswith(f"data: [DONE]{line_end * 2}")
        assert set(body) & {"\r", "\n"} == set(line_end)

    async def test_the_first_frame_of_azure(self, gateway: Gateway) -> None:
        gateway.script(answer("a", azure_first_frame=True))
        got = await stream(gateway)
        assert (got.frames[0]["choices"], got.frames[0]["id"], got.text) == ([], "", "a")


class TestEmbeddings:
    async def embed(self, gateway: Gateway, **body: Any) -> dict[str, Any]:
        got = await send(gateway, {"model": "m", **body}, path="/v1/embeddings")
        assert got.status == 200
        answered: dict[str, Any] = orjson.loads(got.body)
        return answered

    async def test_a_text(self, gateway: Gateway) -> None:
        got = await self.embed(gateway, input="two words")
        assert (got["object"], got["model"], got["usage"]) == ("list", "m", {"prompt_tokens": 2, "total_tokens": 2})
        (entry,) = got["data"]
        assert (entry["object"], entry["index"], len(entry["embedding"])) == ("embedding", 0, 8)
        assert got == await self.embed(gateway, input="two words")

    async def test_base64_holds_the_same_numbers(self, gateway: Gateway) -> None:
        plain = await self.embed(gateway, input=["a", "b"], dimensions=40)
        coded = await self.embed(gateway, input=["a", "b"], dimensions=40, encoding_format="base64")
        decoded = [list(struct.unpack("<40f", b64decode(entry["embedding"]))) for entry in coded["data"]]
        assert decoded == [entry["embedding"] for entry in plain["data"]]
        assert decoded[0] != decoded[1]

    @pytest.mark.parametrize(("tokens", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
    async def test_tokens(self, gateway: Gateway, tokens: Any, count: int) -> None:
        got = await self.embed(gateway, input=tokens)
        assert (len(got["data"]), got["usage"]["total_tokens"]) == (count, 3)

    @pytest.mark.parametrize(
        "body", [[], {"input": "a"}, {"model": "m"}, {"model": "m", "input": []}, {"model": "m", "input": [1, "a"]}]
    )
    async def test_an_invalid_body(self, gateway: Gateway, body: Any) -> None:
        assert (await send(gateway, body, path="/v1/embeddings")).status == 400

    @pytest.mark.parametrize("dimensions", [0, -1, "8", 10**9])
    async def test_invalid_dimensions(self, gateway: Gateway, dimensions: Any) -> None:
        body = {"model": "m", "input": "a", "dimensions": dimensions}
        assert (await send(gateway, body, path="/v1/embeddings")).status == 400


class TestModels:
    async def test_the_list_and_one_of_it(self) -> None:
        async with Gateway(model="vendor/tiny") as gateway:
            listed = await send(gateway, path="/v1/models", method="GET")
            found = await send(gateway, path="/v1/models/vendor%2Ftiny", method="GET")
            missing = await send(gateway, path="/v1/models/huge", method="GET")
        card = {"id": "vendor/tiny", "object": "model", "created": 1_760_000_000, "owned_by": "penstock"}
        assert orjson.loads(listed.body) == {"object": "list", "data": [card]}
        assert orjson.loads(found.body) == card
        assert (missing.status, orjson.loads(missing.body)["error"]["code"]) == (404, "model_not_found")
        assert not any(call.executed for call in gateway.calls)
