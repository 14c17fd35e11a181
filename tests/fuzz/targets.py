"""What must hold of any input: one function for each thing that reads what a gateway sends.

A target takes an input's choices and raises when a promise is broken: `AssertionError` where a value is wrong, and
whatever else comes out of the code itself.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from penstock.engine.accumulate import Accumulator
from penstock.engine.decode import ChatDecoder
from penstock.engine.errors import Advice, EventTooLargeError, ModelEngineError
from penstock.engine.exchange import StreamDecoder
from penstock.engine.gateways.omnigate.gateway import OmniGateGateway
from penstock.engine.gateways.omnigate.text_stream import TextDecoder
from penstock.engine.hints import parse_http_date, retry_hints
from penstock.engine.redact import redact, redact_value
from penstock.engine.sse import SSEDecoder
from penstock.engine.types import (
    ChunkHead,
    EmbeddingResponse,
    LLMResponse,
    LLMResponseChunk,
    ModelInfo,
    ToolCall,
    ToolCallDelta,
    UsageInfo,
)
from penstock.engine.verdict import Answer, read_complaint
from tests.engine.streams import cut, run
from tests.engine.test_redact import FORMS
from tests.engine.test_sse import Standard, bytewise, until_failure

from . import inputs
from .choices import Choices
from .seeds import seeds, streams

Target = Callable[[Choices], None]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ADVICE = get_args(Advice)
_BYTEWISE = 512  # bytes at the beginning of a stream that are fed one by one


def events(choices: Choices) -> None:
    """`SSEDecoder` gives the events of the standard, wherever the reads cut them; a limit holds alike for every cut."""
    limit, places = 1 + choices.below(256), choices.places()
    stream = inputs.answer(choices, streams())[1].body if choices.below(4) == 0 else inputs.lines(choices)
    standard, decoder = Standard(stream), SSEDecoder()
    events = [event for read in cut(stream, places) for event in decoder.feed(read)]
    assert events == standard.events
    assert decoder.last_event_id == standard.last_event_id
    assert decoder.reconnection_time_ms == standard.reconnection_time
    assert decoder.comments == standard.comments
    assert decoder.close() == standard.unfinished()
    whole = until_failure(SSEDecoder(limit), [stream])
    assert until_failure(SSEDecoder(limit), cut(stream, places)) == whole
    assert until_failure(SSEDecoder(limit), [*bytewise(stream[:_BYTEWISE]), stream[_BYTEWISE:]]) == whole
    _check_pending(SSEDecoder(limit), cut(stream, places), limit)


def stream(choices: Choices) -> None:
    """A stream of any gateway ends in a verdict, and in the same one wherever the reads cut it."""
    gateway, answer = inputs.answer(choices, streams())
    places = choices.places()
    _check_stream(lambda: gateway.stream_decoder(answer), answer.body, places)


def bounded_stream(choices: Choices) -> None:
    """So does a stream whose events are bounded."""
    limit = 1 + choices.below(choices.one_of((256, 65536)))
    _, answer = inputs.answer(choices, streams())
    places = choices.places()
    _check_stream(lambda: ChatDecoder(answer, max_event_bytes=limit), answer.body, places, breaks_off=False)


def unary(choices: Choices) -> None:
    """A unary answer of any gateway is what the caller asked for, or a typed error."""
    gateway, answer = inputs.answer(choices, seeds())
    decoders: list[Callable[[Answer], Any]] = [
        gateway.decode_object,
        gateway.decode_chat,
        gateway.decode_embeddings,
        gateway.decode_models,
    ]
    if isinstance(gateway, OmniGateGateway):
        decoders.append(gateway.decode_completions)
    for decode in decoders:
        try:
            _check_result(decode(answer))
        except ModelEngineError as error:
            _check_error(error)


def verdict(choices: Choices) -> None:
    """An error answer is a typed error, whose text is one line that can be written anywhere."""
    gateway, answer = inputs.answer(choices, seeds())
    error = gateway.judge(answer)
    _check_error(error)
    assert error.status == answer.status
    _check_error(gateway.judge_event(read_complaint(answer.body)))
    gateway.governance(answer.headers, error.body)


def hints(choices: Choices) -> None:
    """A wait that the server asks for is a finite number of seconds, or none."""
    _, answer = inputs.answer(choices, seeds())
    found = retry_hints(answer.headers, answer.received)
    assert found.should_retry in (None, True, False)
    assert found.after is None or (found.after >= 0 and math.isfinite(found.after))
    instant = parse_http_date(choices.rest().decode("latin-1"), answer.received)
    assert instant is None or math.isfinite(instant)


def redaction(choices: Choices) -> None:
    """No key is left in any form it may come back in, and a second time changes nothing."""
    key = "".join(chr(0x21 + byte % 0x5E) for byte in choices.short_bytes()).replace("*", "-")
    form = choices.one_of(list(FORMS.values()))(key)
    text = choices.rest().decode("utf-8", "surrogatepass" if choices.below(2) else "replace")
    for place in choices.places():
        place %= len(text) + 1
        text = text[:place] + form + text[place:]
    shown = redact(text, [key])
    assert len(key) < 4 or key not in shown
    assert len(key) < 8 or form not in shown
    assert len(key) < 24 or not (key[:12] in shown or key[-12:] in shown)
    assert redact(shown, [key]) == shown
    value = {"a": [text, {text: None}], "b": 1}
    assert redact_value(redact_value(value, [key]), [key]) == redact_value(value, [key])


TARGETS: Mapping[str, Target] = {
    target.__name__: target for target in (events, stream, bounded_stream, unary, verdict, hints, redaction)
}


def check(name: str, data: bytes) -> None:
    """Try one input on a target.

    Raises:
        Exception: It breaks a promise.
    """
    TARGETS[name](Choices(data))


def _check_pending(decoder: SSEDecoder, reads: Iterable[bytes], limit: int) -> None:
    """What a decoder holds is bounded."""
    try:
        for read in reads:
            decoder.feed(read)
            assert decoder.pending_bytes <= 2 * limit + 1  # an event, and a comment line
    except EventTooLargeError:
        assert decoder.pending_bytes == 0


def _check_stream(
    make: Callable[[], StreamDecoder], body: bytes, places: list[int], *, breaks_off: bool = True
) -> None:
    whole = make()
    expected = _told(run(body, whole).chunks, whole)
    for reads in (cut(body, places), [*bytewise(body[:_BYTEWISE]), body[_BYTEWISE:]]):
        decoder = make()
        assert _told(run(reads, decoder).chunks, decoder) == expected
    _check_chunks(run(body, make()).chunks)
    _check_end(whole)
    if breaks_off:
        for place in places:
            _check_break(make(), body[: place % (len(body) + 1)], expected)


def _told(chunks: list[LLMResponseChunk], decoder: StreamDecoder) -> tuple[Any, ...]:
    """What the caller is told. Plain text has no framing: there the chunks are the reads, and their text counts."""
    failure = decoder.failure
    what = re.sub("[0-9]+ bytes received", "", str(failure))  # which do depend on the reads
    end = (type(failure), what, failure and failure.body, decoder.finished, decoder.governance)
    if isinstance(decoder, TextDecoder):
        return ("".join(chunk.delta_content or "" for chunk in chunks), *end)
    return (chunks, *end)


def _check_break(decoder: StreamDecoder, body: bytes, whole: tuple[Any, ...]) -> None:
    """What comes before the connection breaks is the beginning of the whole; nothing is finished by breaking off."""
    chunks = decoder.feed(body)
    was_finished = decoder.finished
    chunks += decoder.abort()
    assert decoder.finished == was_finished
    if not isinstance(decoder, TextDecoder):
        assert chunks == whole[0][: len(chunks)]
    _check_end(decoder)


def _check_end(decoder: StreamDecoder) -> None:
    """A decoder that is at its end stays there, whatever is asked of it."""
    end = decoder.failure, decoder.finished
    assert not (decoder.failure is not None and decoder.finished)
    if end != (None, False):
        assert decoder.feed(b"data: {}\n\n") == []
    decoder.abort()
    decoder.close()
    decoder.close()
    decoder.abort()
    if end != (None, False):
        assert (decoder.failure, decoder.finished) == end
    if decoder.failure is not None:
        _check_error(decoder.failure)


def _check_chunks(chunks: list[LLMResponseChunk]) -> None:
    for chunk in chunks:
        _check_chunk(chunk)
    accumulator = Accumulator()
    accumulator.add(chunks)
    _check_result(accumulator.response())


def _check_chunk(chunk: LLMResponseChunk) -> None:
    texts = (chunk.delta_content, chunk.delta_reasoning, chunk.delta_refusal, chunk.finish_reason, chunk.role)
    _check_texts(*texts)
    assert type(chunk.index) is int
    for delta in chunk.delta_tool_calls or ():
        assert isinstance(delta, ToolCallDelta)
        assert type(delta.index) is int
        _check_texts(delta.id, delta.name, delta.arguments, delta.type)
    _check_calls(chunk.tool_calls)
    _check_usage(chunk.usage)
    for extra in (chunk.extra, chunk.choice_extra):
        assert extra is None or (isinstance(extra, dict) and extra)
    assert isinstance(chunk.head, ChunkHead)
    assert chunk.head.created is None or type(chunk.head.created) is int
    assert isinstance(repr(chunk), str)


def _check_texts(*texts: str | None) -> None:
    """Each is a text that can be sent on, or `None`."""
    for text in texts:
        assert text is None or isinstance(text, str)
        (text or "").encode()


def _check_calls(calls: tuple[ToolCall, ...] | None) -> None:
    assert calls is None or calls
    for call in calls or ():
        _check_texts(call.id, call.type, call.function.name, call.function.arguments_json)
        assert isinstance(call.to_dict(), dict)


def _check_usage(usage: UsageInfo | None) -> None:
    if usage is not None:
        counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
        assert all(type(count) is int and count >= 0 for count in counts)
        assert all(count is None or type(count) is int for count in (usage.reasoning_tokens, usage.cached_tokens))


def _check_result(result: Any) -> None:
    if isinstance(result, LLMResponse):
        _check_texts(result.content, result.reasoning, result.refusal, result.finish_reason, result.stop_sequence)
        _check_calls(result.tool_calls)
        _check_usage(result.usage)
        assert all(type(choice.index) is int for choice in result.choices)
    elif isinstance(result, EmbeddingResponse):
        assert all(type(number) is float for vector in result.embeddings for number in vector)
        _check_usage(result.usage)
    elif isinstance(result, tuple):
        assert all(isinstance(model, ModelInfo) and model.id for model in result)
    else:
        assert isinstance(result, dict)


def _check_error(error: ModelEngineError) -> None:
    assert isinstance(error, ModelEngineError)
    for text in (str(error), error.message, error.code, error.type, error.param):
        assert not _CONTROL.search(text or ""), text
        (text or "").encode()
    assert error.message
    assert error.advice in _ADVICE
    assert error.retry_after is None or (error.retry_after >= 0 and math.isfinite(error.retry_after))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
