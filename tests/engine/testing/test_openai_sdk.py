"""The real openai SDK against the gateway, so that the dialect cannot drift from what clients read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

from penstock.engine.testing import Gateway, Step, answer, cut, error_event, fail, hang_up, reset

KEY = "sk-test"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(api_key=KEY) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as running:
        yield running


async def read(stream: AsyncIterator[object], seen: list[object]) -> None:
    async for chunk in stream:
        seen.append(chunk)  # noqa: PERF401 - what came before the error is wanted too


async def test_a_chat(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    gateway.script(answer("Hello from the gateway.", reasoning="Hm."))
    completion = await client.chat.completions.create(model="tiny-mock", messages=[{"role": "user", "content": "Hi"}])
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello from the gateway.", "stop")
    assert choice.message.model_extra == {"reasoning_content": "Hm."}
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1, 5)
    assert completion._request_id == "req_1"


async def test_a_stream_with_usage(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    gateway.script(answer("Hello from the gateway.", reasoning="Hm so."))
    stream = await client.chat.completions.create(
        model="tiny-mock",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello from the gateway."
    thoughts = [(choice.delta.model_extra or {}).get("reasoning_content", "") for choice in choices]
    assert "".join(thoughts) == "Hm so."
    assert choices[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert chunks[-1].usage.completion_tokens_details is not None
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 2


async def test_tool_calls_in_fragments(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="tiny-mock",
        messages=[{"role": "user", "content": "What is the weather?"}],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": "Oslo"}}},
                },
            }
        ],
    ) as stream:
        kinds = [event.type async for event in stream]
        completion = await stream.get_final_completion()
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Oslo"}')
    assert completion.choices[0].finish_reason == "tool_calls"
    assert kinds.count("tool_calls.function.arguments.delta") > 1


async def test_several_choices(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="tiny-mock", messages=[{"role": "user", "content": "Hi"}], n=2
    ) as stream:
        completion = await stream.get_final_completion()
    first, second = [choice.message.content for choice in completion.choices]
    assert second == f"{first} This is choice 1."


async def test_embeddings_in_the_form_the_sdk_asks_for(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    default = await client.embeddings.create(model="tiny-mock", input=["a", "b"])
    plain = await client.embeddings.create(model="tiny-mock", input=["a", "b"], encoding_format="float")
    assert gateway.calls[0].body["encoding_format"] == "base64"
    assert [entry.embedding for entry in default.data] == [entry.embedding for entry in plain.data]


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["tiny-mock"]
    assert (await client.models.retrieve("tiny-mock")).owned_by == "penstock"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("huge")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("refusal", [fail(429, retry_after=0.05), fail(429, retry_after_ms=50)])
async def test_a_429_that_says_when_to_come_back(gateway: Gateway, client: openai.AsyncOpenAI, refusal: Step) -> None:
    gateway.script(refusal, answer("Hello."))
    completion = await client.chat.completions.create(model="tiny-mock", messages=[{"role": "user", "content": "Hi"}])
    assert completion.choices[0].message.content == "Hello."
    assert [call.status for call in gateway.calls] == [429, 200]
    gateway.assert_waited(at_least=0.05)


@pytest.mark.parametrize("fault", [reset(), reset("before_request_read"), hang_up()])
async def test_a_lost_connection_is_tried_again(gateway: Gateway, client: openai.AsyncOpenAI, fault: Step) -> None:
    gateway.script(fault)
    await client.chat.completions.create(
        model="tiny-mock", messages=[{"role": "user", "content": "Hi"}], extra_headers={"idempotency-key": "k"}
    )
    assert [call.attempt for call in gateway.calls] == [1, 2]
    gateway.assert_executed_once("k")


async def test_an_error_event_becomes_an_api_error(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    gateway.script(error_event(after_events=3))
    stream = await client.chat.completions.create(
        model="tiny-mock", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    seen: list[object] = []
    with pytest.raises(openai.APIError, match="The server had an error"):
        await read(stream, seen)
    assert len(seen) == 3


async def test_a_cut_stream_fails(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    gateway.script(cut(after_events=2))
    stream = await client.chat.completions.create(
        model="tiny-mock", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    seen: list[object] = []
    with pytest.raises(openai.APIConnectionError):
        await read(stream, seen)
    assert len(seen) == 2


async def test_a_wrong_key(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-other") as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.models.list()
    assert caught.value.code == "invalid_api_key"
    assert (caught.value.request_id, "sk-other" in str(caught.value)) == ("req_1", False)
