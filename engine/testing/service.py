"""What the gateway does about a request: from a request to a plan, without a socket.

The order is that of a gateway: path, key, body, idempotency key, then the script.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Literal

import orjson

from .books import Call
from .composer import Composer
from .dialects.chat import ChatFormat
from .dialects.dialect import Dialect, Route
from .dialects.problem import InvalidBodyError, RefusedError, Response
from .dialects.request import Request
from .failure_plans import error_plan
from .faults import stage
from .idempotency import REPLAY_HEADER, KeyStore
from .plan import Ending, Plan
from .reply import Reply, merge_headers
from .rules import Asked
from .script import Playhead, Script, Turn
from .steps import OWN_ANSWER, Answer, Block, ProviderError, Step

Idempotency = Literal["honour", "ignore"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's idempotency key, in the store where it was claimed, and the reply kept for it."""

    keys: KeyStore
    key: Hashable
    kept: Reply | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done about a request.

    Args:
        outcome: What the books will say when it is done.
        claim: The idempotency key it runs under; `None` for a replay, and where no key counts.
        reply: What is to be kept under that key; its tokens are what the model is paid for.
    """

    plan: Plan
    outcome: str
    claim: Claim | None = None
    reply: Reply | None = None


class Service:
    """One gateway's dialect, script and memory.

    Args:
        idempotency, keep_content: `None` does as the gateways of this dialect do.
        seed: For all that is drawn; `None` takes the script's, and 0 when it has none.
        most_keys: How many idempotency keys are kept with their answers; `None` is all.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        api_key: str | None,
        idempotency: Idempotency | None,
        keep_content: bool | None,
        seed: int | None = None,
        most_keys: int | None = None,
    ) -> None:
        self._dialect = dialect
        self._composer = Composer(dialect)
        self._api_key = api_key
        self._honours_keys = dialect.honours_keys if idempotency is None else idempotency == "honour"
        self._keeps_content = dialect.keeps_content if keep_content is None else keep_content
        self._given_seed = seed
        self._most_keys = most_keys
        self.forget()

    def load(self, script: Script) -> None:
        """Play this script from now on.

        Raises:
            ValueError: it has a block that gateways of this dialect do not know.
        """
        for step in script.all_steps:
            if isinstance(step, Block) and step.cause not in self._dialect.blocks:
                known = ", ".join(self._dialect.blocks)
                raise ValueError(f"{self._dialect.name} has no block for {step.cause!r}; it has {known}")
        self._seed = self._given_seed if self._given_seed is not None else script.seed or 0
        self.playhead = Playhead(script, self._seed)

    def forget(self) -> None:
        """Forget the script and every idempotency key."""
        self._keys = KeyStore(self._most_keys)
        self.load(Script())

    def decide_by_head(self, call: Call) -> Decision | None:
        """What is done before the body is read; `None` for nothing."""
        turn = self.playhead.meet_unread(Asked(call.number, call.path, call.headers))
        if turn is None:
            return None
        try:
            route, _ = self._route(call)
        except RefusedError:
            return None  # once the body is read, as every refusal
        if not route.scripted:
            return None
        return Decision(Plan(None, ending=Ending.RESET), turn.take().kind)

    def decide(self, call: Call) -> Decision:
        """What is done with a request whose body has been read."""
        request = Request(call.number, call.method, call.path, query=call.query, headers=call.headers)
        try:
            route, tail = self._route(call)
            call.body = _parse(call.raw)
            request = replace(request, tail=tail, body=call.body)
            call.stream = request.wants_stream
            return self._play(call, route, request)
        except RefusedError as refusal:
            return self._refuse(refusal, request)

    def began(self, call: Call, decision: Decision) -> None:
        """The plan's first silence is over."""
        call.executed = decision.plan.executes
        if decision.plan.executes and decision.reply is not None:
            call.tokens = decision.reply.tokens
        if decision.plan.head is not None:
            call.status = decision.plan.head.status

    def settle(self, call: Call, decision: Decision) -> None:
        """Keep the answer under the request's key, or set the key free."""
        claim = decision.claim
        if claim is None:
            return
        has_begun = call.executed or call.status is not None
        if decision.plan.keeps and has_begun and decision.reply is not None:
            claim.keys.keep(claim.key, decision.reply)
        else:
            claim.keys.release(claim.key)

    def _route(self, call: Call) -> tuple[Route, str]:
        route, tail = self._dialect.find_route(call.method, call.path)
        if self._api_key is not None and not route.keyless:
            self._dialect.authorise(call.headers, self._api_key)
        return route, tail

    def _play(self, call: Call, route: Route, request: Request) -> Decision:
        turn = self.playhead.meet(self._asked(call, route, request)) if route.scripted else Turn(OWN_ANSWER, None)
        step = turn.step
        reply = replace(self._composer.compose(step, route, request), seed=f"{self._seed}:{call.number}")
        claim = self._claim(call, route, request)
        turn.take()
        if claim is not None and claim.kept is not None:
            return self._replay(call, step, claim.kept, request)
        plan = stage(step, reply, self._dialect, request)
        if not route.runs_model:
            plan = replace(plan, executes=False, keeps=False)
        if claim is not None:
            plan = _with_headers(plan, [(REPLAY_HEADER, "false")])
        return Decision(self._signed(plan, request), step.kind, claim, reply)

    def _asked(self, call: Call, route: Route, request: Request) -> Asked:
        """What rules look at. Where there are none, nobody looks into the body for them.

        Raises:
            RefusedError: the request is not one the gateway takes.
        """
        asked = Asked(call.number, call.path, call.headers, stream=call.stream, attempt=call.attempt)
        if not self.playhead.has_rules:
            return asked
        if isinstance(route.operation, ChatFormat):
            ask = route.operation.read(request)
            return replace(asked, model=ask.model, message=ask.prompt)
        model = request.body.get("model") if isinstance(request.body, Mapping) else None
        return replace(asked, model=model if isinstance(model, str) else None)

    def _replay(self, call: Call, step: Step, kept: Reply, request: Request) -> Decision:
        reply = kept if self._keeps_content else kept.without_content(self._dialect)
        outcome = step.kind
        if isinstance(step, (Answer, Block, ProviderError)):  # a replay meets no policy and no provider again
            step, outcome = OWN_ANSWER, "replay"
        plan = replace(stage(step, reply, self._dialect, request), executes=False, keeps=False)
        call.replayed = True
        return Decision(self._signed(_with_headers(plan, [(REPLAY_HEADER, "true")]), request), outcome)

    def _claim(self, call: Call, route: Route, request: Request) -> Claim | None:
        """Begin the request under its idempotency key; `None` where no key counts.

        Raises:
            RefusedError: the key cannot be used, or not now.
        """
        key = call.idempotency_key
        if key is None or not (self._honours_keys and route.runs_model):
            return None
        problem = self._dialect.check_key(key, request)
        if problem is not None:
            raise RefusedError(problem)
        scoped = self._dialect.key_scope(call.body), key
        try:
            kept = self._keys.claim(scoped, (call.method, call.path, call.body))
        except RefusedError as refusal:
            raise RefusedError(replace(refusal.problem, headers=((REPLAY_HEADER, "false"),))) from None
        return Claim(self._keys, scoped, kept)

    def _refuse(self, refusal: RefusedError, request: Request) -> Decision:
        problem = refusal.problem
        if isinstance(refusal, InvalidBodyError):
            problem = self._dialect.invalid(problem)
        response = Response(problem.status, problem.body, problem.headers)
        if problem.body is None:
            response = self._dialect.error(problem, request)
        return Decision(self._signed(error_plan(response), request), "refused")

    def _signed(self, plan: Plan, request: Request) -> Plan:
        """The plan with the headers every answer has."""
        return _with_headers(plan, [("date", formatdate(usegmt=True)), *self._dialect.signature(request)])


def _parse(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidBodyError("The body is not valid JSON.") from None


def _with_headers(plan: Plan, headers: Sequence[tuple[str, str]]) -> Plan:
    """The plan with these headers, less those it has of its own."""
    if plan.head is None:
        return plan
    return replace(plan, head=replace(plan.head, headers=merge_headers(headers, plan.head.headers)))
