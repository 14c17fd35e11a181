"""Reading events by what they have in common gives what reading each of them gives, whatever they are."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import LLMResponseChunk
from penstock.engine.decode import ChatDecoder
from penstock.engine.event_decoder import EventDecoder
from penstock.engine.gateways.modelgov.stream import ModelgovStreamDecoder
from penstock.engine.template import Path, Template, byte_text
from penstock.engine.types import TextChunk
from penstock.engine.verdict import Answer, judge_event

CONTENT: Path = ("choices", 0, "delta", "content")
HEAD = Answer(200, {"content-type": "text/event-stream"}, b"", 0.0)


class PlainChatDecoder(ChatDecoder):
    """Decodes each event as any."""

    patience = 0


class PlainModelgovDecoder(ModelgovStreamDecoder):
    """Decodes each event as any."""

    patience = 0


def frame(delta: dict[str, Any], **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice], **members}


def event(data: Any) -> str:
    return f"data: {orjson.dumps(data).decode()}\n\n"


def read_of(text: str) -> str:
    """Events as a template reads them."""
    return byte_text(text.encode())


# The template


def test_a_template_reads_the_strings_of_events_that_fit() -> None:
    text = read_of("".join(event(frame({"content": word})) for word in ["a", "", 'say "b"', "ä\n", "ö", "😀"]))
    template = Template.learn(event(frame({"content": "x"})), CONTENT)
    assert template is not None
    assert template.read(text, 0) == (["a", "", 'say "b"', "ä\n", "ö", "😀"], len(text))


def test_it_stops_before_the_event_that_does_not_fit() -> None:
    alike = event(frame({"content": "a"})) * 3
    template = Template.learn(alike[: len(alike) // 3], CONTENT)
    assert template is not None
    for other in [event(frame({"content": None})), "data: [DONE]\n\n", ": ping\n\n", 'data: {"x": "\n\n']:
        assert template.read(read_of(alike + other), 0) == (["a"] * 3, len(alike))
        assert template.read(read_of(other), 0) == ([], 0)


def test_a_padding_is_thrown_away() -> None:
    padded = [event(frame({"content": word}, obfuscation=word * 3)) for word in ["a", "b"]]
    template = Template.learn(padded[0], CONTENT)
    assert template is not None
    assert template.read(read_of("".join(padded)), 0) == (["a", "b"], len("".join(padded)))


@pytest.mark.parametrize(
    "text",
    [
        'data: {"choices":[{"delta":{"content":"a","content":"a"}}]}\n\n',
        'data: {"choices":[{"delta":{"content":"a"}}],"choices":[{"delta":{"content":"a"}}]}\n\n',
        'data: {"choices":[{"delta":{"c\\u006fntent":"a"}}]}\n\n',
    ],
    ids=["twice", "inside what comes twice", "escaped name"],
)
def test_of_a_member_that_comes_twice_the_last_one_counts(text: str) -> None:
    template = Template.learn(text, CONTENT)
    if template is not None:
        changed = text[::-1].replace('"a"', '"b"', 1)[::-1]
        assert template.read(read_of(changed), 0) == (["b"], len(changed))


@pytest.mark.parametrize(
    "text",
    [
        'event: message\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        'data: {"choices":[{"delta":{"content":1}}]}\n\n',
        'data: {"choices":[]}\n\n',
        'data: {"choices":[{"delta":{"content":"a"}}]}\n',
        'data: {"choices":[{"delta":\ndata: {"content":"a"}}]}\n\n',
        'data: {"choices":[{"delta":{"content":"a"}}],"x":"' + "x" * 20_000 + '"}\n\n',
    ],
    ids=["two fields", "no string", "no choice", "no blank line", "two lines", "long"],
)
def test_what_is_no_line_with_such_a_string_teaches_nothing(text: str) -> None:
    assert Template.learn(text, CONTENT) is None


@pytest.mark.parametrize("escape", [r"\ud800", r"\udFFF", r"\uDc00x", r"\ud800\ud800"])
def test_a_lone_surrogate_does_not_fit(escape: str) -> None:
    text = event(frame({"content": "a"}))
    template = Template.learn(text, CONTENT)
    assert template is not None
    assert template.read(read_of(text.replace('"a"', f'"{escape}"')), 0) == ([], 0)
    assert template.read(read_of(text.replace('"a"', r'"\ud83d\ude00"')), 0)[0] == ["😀"]


@pytest.mark.parametrize("raw", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc3\xa4\\ud800"])
def test_bytes_that_are_no_text_do_not_fit(raw: bytes) -> None:
    text = event(frame({"content": "a"}))
    template = Template.learn(text, CONTENT)
    assert template is not None
    assert template.read(byte_text(text.encode().replace(b'"a"', b'"%b"' % raw)), 0) == ([], 0)


def test_blank_lines_after_an_event_are_none() -> None:
    fed = [event(frame({"content": "a"})) * 2 + "\n" for _ in range(3)]
    same([part.encode() for part in fed])


# The decoders


def test_chunks_of_text_alone_have_slots() -> None:
    decoder = ChatDecoder(HEAD)
    chunks = decoder.feed("".join(event(frame({"content": word})) for word in "abc").encode())
    chunks += decoder.feed("".join(event(frame({"content": word})) for word in "def").encode())
    assert [type(chunk) for chunk in chunks[3:]] == [TextChunk] * 3
    assert chunks[3:] == [LLMResponseChunk(delta_content=word) for word in "def"]
    assert len({id(chunk.head) for chunk in chunks}) == 1


def test_a_stream_whose_events_are_not_alike_is_soon_decoded_as_any() -> None:
    decoder = ChatDecoder(HEAD)
    for number in range(40):
        decoder.feed(event(frame({"content": "a"}, id=f"chatcmpl-{number}")).encode())
    assert (decoder._patience, decoder._template) == (0, None)


words = st.text(max_size=6) | st.sampled_from(["", " the", '"', "\\", "\n\n", "\r", "\u2028", "😀", "data: ", "\x00"])
deltas = st.one_of(
    st.builds(lambda word: {"content": word}, words),
    st.builds(lambda word: {"role": "assistant", "content": word}, words),
    st.builds(lambda word: {"content": None, "reasoning_content": word}, words),
    st.builds(lambda word: {"content": "", "reasoning": word}, words),
    st.builds(lambda one, two: {"content": one, "reasoning_content": two}, words, words),
    st.builds(lambda word: {"refusal": word}, words),
    st.builds(
        lambda word, index: {"tool_calls": [{"index": index, "function": {"arguments": word}}]},
        words,
        st.sampled_from([0, 0, 1, None]),
    ),
    st.builds(
        lambda word, name: {"tool_calls": [{"index": 0, "id": name, "function": {"name": name, "arguments": word}}]},
        words,
        st.sampled_from(["f", "g"]),
    ),
    st.just({}),
)
frames = st.builds(
    lambda delta, members, choice: _with_choice(frame(delta, **members), choice),
    deltas,
    st.sampled_from([{}, {}, {"usage": None}, {"id": "other"}, {"tier": "x", "fingerprint": "y"}, {"model": "n"}])
    | st.builds(lambda padding: {"obfuscation": padding}, words)
    | st.just({"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    | st.just({"error": {"message": "no", "type": "overloaded_error"}}),
    st.sampled_from([{}, {}, {}, {}, {"index": 1}, {"finish_reason": "stop"}, {"logprobs": {"content": []}}]),
)


def _with_choice(payload: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    payload["choices"][0].update(members)
    return payload


def written(payload: Any, form: int) -> bytes:
    """An event in one of the forms in which servers write them."""
    if form == 1:
        return f"data:{json.dumps(payload)}\n\n".encode()
    if form == 2:
        return f"data: {json.dumps(payload, ensure_ascii=False)}\r\n\r\n".encode()
    if form == 3:
        return f"event: x\ndata: {json.dumps(payload)}\n\n".encode()
    return b"data: " + orjson.dumps(payload) + b"\n\n"


runs = st.builds(lambda payload, count: [payload] * count, frames, st.integers(1, 4))
payloads = st.lists(runs, max_size=4).map(lambda lists: [each for one in lists for each in one])
bodies = st.builds(
    lambda listed, form, end: b"".join(written(each, form) for each in listed) + end,
    payloads,
    st.sampled_from([0, 0, 0, 1, 2, 3]),
    st.sampled_from([b"data: [DONE]\n\n", b"", b": ping\n\n", b"data: {", b"\xff\n\n"]),
)
spoils = st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from([None, b"\n", b'"', b"\\", b"\xff", b"\r", b"x"])))
governed = st.lists(st.builds(lambda word: {"delta": word}, words) | st.just({"delta": "a", "x": 1}), max_size=12)


def spoilt(body: bytes, marks: list[tuple[int, bytes | None]]) -> bytes:
    """The body with bytes taken out or put in."""
    for place, mark in marks[:3]:
        at = place % (len(body) + 1)
        body = body[:at] + body[at + 1 :] if mark is None else body[:at] + mark + body[at:]
    return body


def parts_of(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in zip(places, places[1:])]


def told(decoder: EventDecoder, parts: list[bytes]) -> list[Any]:
    """What a decoder says after each read, and at the end."""
    said = [(decoder.feed(part), state(decoder)) for part in parts]
    return [*said, (decoder.close(), state(decoder))]


def state(decoder: EventDecoder) -> Any:
    failure = decoder.failure
    error = None if failure is None else (type(failure), str(failure), failure.body)
    return decoder.finished, decoder.usage, error, decoder._reader.is_complete, decoder._reader.head.request_id


def same(parts: list[bytes]) -> None:
    alike, plain = told(ChatDecoder(HEAD), parts), told(PlainChatDecoder(HEAD), parts)
    assert alike == plain
    heads = [[_head(chunk) for chunk in chunks] for chunks, _ in alike]
    assert heads == [[_head(chunk) for chunk in chunks] for chunks, _ in plain]


def _head(chunk: LLMResponseChunk) -> tuple[Any, ...]:
    return chunk.head.request_id, chunk.head.model, chunk.head.created


@settings(max_examples=150)
@given(bodies, spoils, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_both_ways_of_reading_give_the_same(body: bytes, marks: list[Any], cuts: list[int]) -> None:
    same(parts_of(spoilt(body, marks), cuts))


@settings(max_examples=60)
@given(payloads, st.integers(0, 3))
def test_both_ways_give_the_same_of_one_event_a_read(listed: list[Any], form: int) -> None:
    same([written(each, form) for each in listed])


@settings(max_examples=100)
@given(governed, st.sampled_from([0, 1, 2, 3]), spoils, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_both_ways_give_the_same_of_modelgovs_frames(
    listed: list[Any], form: int, marks: list[Any], cuts: list[int]
) -> None:
    parts = parts_of(spoilt(b"".join(written(each, form) for each in listed), marks), cuts)
    alike = told(ModelgovStreamDecoder(HEAD, judge_event), parts)
    assert alike == told(PlainModelgovDecoder(HEAD, judge_event), parts)
