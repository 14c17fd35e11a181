"""What the gateway answers: from a request to a plan, without a socket.

The order is that of a gateway: path, key, body, idempotency key, then the script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Literal

import orjson

from .books import Call
from .dialects.dialect import Ask, Dialect, RefusedError, Route
from .faults import Reply, answer_of, error_plan, merge_headers, stage
from .idempotency import REPLAY_HEADER, KeyStore
from .plan import Ending, Plan
from .script import Playhead, Script
from .steps import OWN_ANSWER, Answer, Reset, Step
from .tiny_model import tiny_answer
from .words import split_words

Idempotency = Literal["honour", "ignore"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a request.

    Args:
        outcome: What the books will say when it is done.
        keys: Where the request's idempotency key was claimed; `None` when none was.
        reply: What is to be kept under that key.
    """

    plan: Plan
    outcome: str
    keys: KeyStore | None = None
    reply: Reply | None = None


class Service:
    """One gateway's dialect, script and memory."""

    def __init__(self, dialect: Dialect, *, api_key: str | None, idempotency: Idempotency) -> None:
        self._dialect = dialect
        self._api_key = api_key
        self._honours_keys = idempotency == "honour"
        self._keys = KeyStore()
        self.playhead = Playhead(Script())

    def forget(self) -> None:
        """Forget the script and every idempotency key."""
        self._keys = KeyStore()
        self.playhead = Playhead(Script())

    def decide_by_head(self, call: Call) -> Decision | None:
        """What is done before the body is read; `None` for nothing."""
        step = self.playhead.peek()
        if not isinstance(step, Reset) or step.when != "before_request_read":
            return None
        try:
            route, _ = self._route(call)
        except RefusedError:
            return None  # once the body is read, as every refusal
        if not route.scripted:
            return None
        self.playhead.take()
        return Decision(Plan(None, ending=Ending.RESET), step.kind)

    def decide(self, call: Call) -> Decision:
        """What is done with a request whose body has been read."""
        try:
            route, tail = self._route(call)
            call.body = _parse(call.raw)
            if route.respond is None:
                ask = self._dialect.read_chat(call.body)
                call.stream = ask.stream
                return self._play(call, route, ask)
            return self._play(call, route, orjson.dumps(route.respond(call.body, tail)))
        except RefusedError as refusal:
            return self._refuse(call, refusal)

    def began(self, call: Call, decision: Decision) -> None:
        """The plan's first silence is over."""
        call.executed = decision.plan.executes
        if decision.plan.head is not None:
            call.status = decision.plan.head.status

    def settle(self, call: Call, decision: Decision) -> None:
        """Keep the answer under the request's key, or set the key free."""
        if decision.keys is None or call.idempotency_key is None:
            return
        if decision.plan.keeps and call.executed and decision.reply is not None:
            decision.keys.keep(call.idempotency_key, decision.reply)
        else:
            decision.keys.release(call.idempotency_key)

    def _route(self, call: Call) -> tuple[Route, str]:
        route, tail = self._dialect.find_route(call.method, call.path)
        key = self._api_key if route.scripted else None
        if key is not None and not self._dialect.is_authorised(call.headers, key):
            raise RefusedError(401, "Incorrect API key provided.")
        return route, tail

    def _play(self, call: Call, route: Route, asked: Ask | bytes) -> Decision:
        key = call.idempotency_key if self._honours_keys and route.runs_model else None
        kept = None if key is None else self._keys.claim(key, (call.method, call.path, call.body))
        step = self.playhead.take() if route.scripted else OWN_ANSWER
        reply = kept or self._reply(step, asked, call.number)
        plan = stage(step, reply, self._dialect)
        if kept is not None or not route.runs_model:
            plan = replace(plan, executes=False, keeps=False)
        if key is not None:
            plan = _with_headers(plan, [(REPLAY_HEADER, "false" if kept is None else "true")])
        call.replayed = kept is not None
        outcome = "replay" if kept is not None and isinstance(step, Answer) else step.kind
        keys = self._keys if key is not None and kept is None else None
        return Decision(self._signed(plan, call), outcome, keys, reply)

    def _reply(self, step: Step, asked: Ask | bytes, number: int) -> Reply:
        answer = answer_of(step)
        if isinstance(asked, bytes):
            return Reply(asked, answer, work_s=answer.ttft_s)
        answers = [_filled(answer, asked, choice) for choice in range(asked.choices)]
        if asked.stream:
            return Reply(self._dialect.chat_stream(answers, asked, number), answer)
        pieces = answers[0].pieces or split_words(answers[0].content or "")
        work_s = answer.ttft_s + answer.delay_s * max(len(pieces) - 1, 0)
        return Reply(self._dialect.chat_body(answers, asked, number), answer, work_s)

    def _refuse(self, call: Call, refusal: RefusedError) -> Decision:
        body = self._dialect.error_body(
            refusal.status, refusal.message, code=refusal.code, type=refusal.type, param=refusal.param
        )
        return Decision(self._signed(error_plan(refusal.status, body), call), "refused")

    @staticmethod
    def _signed(plan: Plan, call: Call) -> Plan:
        """The plan with the headers every answer has."""
        return _with_headers(plan, [("date", formatdate(usegmt=True)), ("x-request-id", f"req_{call.number}")])


def _parse(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise RefusedError(400, "The body is not valid JSON.", type="invalid_request_error") from None


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


def _with_headers(plan: Plan, headers: Sequence[tuple[str, str]]) -> Plan:
    """The plan with these headers, less those it has of its own."""
    if plan.head is None:
        return plan
    return replace(plan, head=replace(plan.head, headers=merge_headers(headers, plan.head.headers)))
