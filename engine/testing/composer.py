"""What is answered to a request when nothing goes wrong on the way."""

from __future__ import annotations

from dataclasses import replace

import orjson

from .dialects.chat import Ask, ChatFormat
from .dialects.dialect import Dialect, Route
from .dialects.request import Request
from .reply import Reply
from .steps import (
    OWN_ANSWER,
    Answer,
    Block,
    Empty,
    Fail,
    Html,
    InProgress,
    InvalidJson,
    KeyEcho,
    Redirect,
    Step,
)
from .tiny_model import tiny_answer
from .words import count_words, split_words


class Composer:
    """Writes replies in a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def compose(self, step: Step, route: Route, request: Request) -> Reply:
        """The reply that the step gives, spoils or loses.

        Raises:
            RefusedError: the request is not one the gateway takes.
        """
        answer, operation = _answer_of(step), route.operation
        if isinstance(operation, ChatFormat):
            reply = _chat(operation, answer, request)
        else:
            body = operation(request, answer)
            reply = Reply(b"" if body is None else orjson.dumps(body), answer, work_s=answer.ttft_s)
        if isinstance(step, Block) and (step.when == "before" or isinstance(reply.content, bytes)):
            return self._block(step, request)
        return replace(reply, status=route.status, headers=self._dialect.answer_headers(answer, request))

    def _block(self, step: Block, request: Request) -> Reply:
        """The block itself, for it is kept like an answer."""
        response = self._dialect.error(self._dialect.block(step, request), request)
        return Reply(
            orjson.dumps(response.body),
            Answer(headers=step.headers),
            status=response.status,
            headers=response.headers,
            runs_model=step.runs_model,
        )


def _answer_of(step: Step) -> Answer:
    """The answer that a step gives, spoils or loses."""
    if isinstance(step, Answer):
        return step
    if isinstance(step, (Fail, Html, Empty, InvalidJson, InProgress, Redirect, KeyEcho)):
        return OWN_ANSWER
    return step.of


def _chat(format: ChatFormat, answer: Answer, request: Request) -> Reply:
    if answer.form != "asked":
        request = replace(request, body={**request.body, "stream": answer.form == "stream"})
    ask = format.read(request)
    answers = [_filled(answer, ask, choice) for choice in range(ask.choices)]
    tokens = ask.prompt_words + sum(map(_words, answers))
    if request.wants_stream:
        return Reply(format.stream(answers, ask, request), answer, tokens=tokens)
    pieces = answers[0].pieces or split_words(answers[0].content or "")
    work_s = answer.ttft_s + answer.delay_s * max(len(pieces) - 1, 0)
    return Reply(orjson.dumps(format.whole(answers, ask, request)), answer, work_s, tokens)


def _words(answer: Answer) -> int:
    """What the model said: the tokens of an answer."""
    texts = (answer.reasoning, answer.content, answer.refusal)
    return sum(map(count_words, texts)) + sum(count_words(call.arguments_text) + 1 for call in answer.tool_calls)


def _filled(answer: Answer, ask: Ask, choice: int) -> Answer:
    """The answer, said by the pretend model where it leaves that open."""
    if not answer.is_open:
        return answer
    said = tiny_answer(ask, choice)
    return replace(
        answer,
        content=said.content,
        reasoning=said.reasoning,
        tool_calls=said.tool_calls,
        finish_reason=said.finish_reason if answer.finish_reason == "auto" else answer.finish_reason,
    )
