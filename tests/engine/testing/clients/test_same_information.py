"""Each gateway's published client and our engine make the same call, and learn the same from it.

A row is one call. Client and engine each get a fresh gateway with the same script, so that made-up ids agree too. A
view takes from a result, or from an error, what the client has; where the client has less than came, no more is asked.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from penstock import NIM, Atrium, Auth, Idempotency, Keeptrusts, Modelgov, OmniGate, OpenAI
from penstock.engine.testing import (
    Call,
    Gateway,
    Step,
    answer,
    block,
    error_event,
    fail,
    in_progress,
    provider_error,
    tool_call,
)

from .support import MESSAGES

Ask = Callable[[Any], Any]
"""Takes a client or an engine; what it returns may be awaitable."""
View = Callable[[Any], object]
"""Takes what a call returned or raised; what it returns can be compared."""


class Row(NamedTuple):
    """One call; the views are of the client's outcome and of ours. Without a script the gateway does what is usual."""

    name: str
    script: Sequence[Step]
    theirs: Ask
    ours: Ask
    view_theirs: View
    view_ours: View


class Streamed(NamedTuple):
    """What was read of a stream, the stream itself, and the error that ended it; `None` for none."""

    pieces: list[Any]
    stream: Any
    error: Any


KEY = "sk-mng-llmg_12345678"


async def outcome(call: Ask, caller: Any, *, blocking: bool = False) -> Any:
    """What the call returns or raises. One that blocks runs in a thread of its own."""
    try:
        result = await asyncio.to_thread(call, caller) if blocking else call(caller)
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return error


def read(stream: Any) -> Streamed:
    pieces: list[Any] = []
    try:
        for piece in stream:
            pieces.append(piece)  # noqa: PERF402 - one by one, because an error may come
    except Exception as error:
        return Streamed(pieces, stream, error)
    return Streamed(pieces, stream, None)


async def read_async(stream: Any) -> Streamed:
    pieces: list[Any] = []
    try:
        if inspect.isawaitable(stream):
            stream = await stream
        async for piece in stream:
            pieces.append(piece)  # noqa: PERF401 - one by one, because an error may come
    except Exception as error:
        return Streamed(pieces, stream, error)
    return Streamed(pieces, stream, None)


@asynccontextmanager
async def opened(client: Any) -> AsyncIterator[Any]:
    """A client of any kind, closed at the end."""
    if hasattr(client, "start"):
        await client.start()
    try:
        yield client
    finally:
        closed = client.stop() if hasattr(client, "stop") else client.close()
        if inspect.isawaitable(closed):
            await closed


def once(cls: Any, *arguments: Any, **keywords: Any) -> Any:
    """An engine that sends each request once, as the clients are set to."""
    return cls(*arguments, **keywords, middleware=[Idempotency(), Auth()])


async def compare(dialect: str, row: Row, client_at: Ask, engine_at: Ask, *, blocking: bool = False) -> None:
    async with Gateway(dialect=dialect, api_key=KEY) as gateway, opened(client_at(gateway)) as client:
        gateway.script(*row.script)
        theirs = await outcome(row.theirs, client, blocking=blocking)
        asked = requests_of(gateway)
    async with Gateway(dialect=dialect, api_key=KEY) as gateway, engine_at(gateway) as engine:
        gateway.script(*row.script)
        ours = await outcome(row.ours, engine)
        assert requests_of(gateway) == asked
    assert row.view_ours(ours) == row.view_theirs(theirs)


def requests_of(gateway: Gateway) -> list[tuple[object, ...]]:
    """What was asked, and on whose behalf."""
    return [(call.method, call.path, dict(call.query), call.body, *_on_behalf_of(call)) for call in gateway.calls]


def _on_behalf_of(call: Call) -> tuple[str | None, ...]:
    names = ["authorization", "x-request-id", "x-user-id"]
    if call.body is not None and "messages" in call.body:
        names.append("x-api-key")  # OmniGate's client sends its key even in a signup; our engine does not
    return tuple(call.headers.get(name) for name in names)


def named(rows: Sequence[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def same(value: Any) -> object:
    return value


# Our side, for all gateways


def our_text(streamed: Streamed) -> str:
    return "".join(chunk.delta_content or "" for chunk in streamed.pieces)


def our_counts(usage: Any) -> tuple[int, int, int]:
    return usage.input_tokens, usage.output_tokens, usage.total_tokens


def our_tools(answer: Any) -> list[tuple[Any, ...]]:
    return [(call.id, call.function.name, call.function.arguments) for call in answer.tool_calls or ()]


# Modelgov

IDENTITY = {"user_id": "u-9", "user_type": "free", "feature": "support"}
CHAT = {**IDENTITY, "messages": MESSAGES, "model_class": "cheap", "metadata": {"ticket": "T1"}}
PAGE = {**IDENTITY, "provider": "tesseract", "document": {"base64": "aGVsbG8="}}
FACTS: Any = {
    "decision": "degrade",
    "cost": 0.01,
    "provider": "openrouter",
    "budget_remaining": {"dailyUsd": 1.5, "monthlyUsd": None},
}


def modelgov_answer(got: Any) -> object:
    usage = got["usage"]
    return {
        "content": got["message"]["content"],
        "model": got["model"],
        "usage": (usage["inputTokens"], usage["outputTokens"]),
        "decision": (got["decision"], got["provider"], got["cost"]["actualUsd"], got["budgetRemaining"]),
        "audit_id": got["requestId"],
        "safety": got["safety"],
    }


def our_modelgov_answer(got: Any) -> object:
    facts = got.governance
    return {
        "content": got.content,
        "model": got.model,
        "usage": our_counts(got.usage)[:2],
        "decision": (facts.decision, facts.provider, facts.cost, facts.budget_remaining),
        "audit_id": facts.audit_id,
        "safety": facts.extra["safety"],
    }


def modelgov_error(error: Any) -> object:
    return {
        "status": (error.status, error.code, error.message),
        "ids": (error.request_id, error.audit_request_id),
        "reason": error.reason_code or (error.details or {}).get("reason"),
        "budget": error.budget_remaining,
    }


def our_modelgov_error(error: Any) -> object:
    facts = error.governance
    return {
        "status": (error.status, error.code, error.message),
        "ids": (facts.request_id, facts.audit_id),
        "reason": facts.block_reason,
        "budget": facts.budget_remaining,
    }


def modelgov_kind(error: Any) -> object:
    """The class, where the client tells three apart; and the rest of the error."""
    return {"PolicyBlockedError": "policy", "SafetyBlockedError": "safety"}[type(error).__name__], modelgov_error(error)


def our_modelgov_kind(error: Any) -> object:
    policy = ("PolicyBlockedError", "BudgetExceededError", "ModelNotAllowedError")
    safety = ("SafetyBlockedError", "PIIBlockedError", "SecurityBlockedError")
    kinds = {**dict.fromkeys(policy, "policy"), **dict.fromkeys(safety, "safety")}
    return kinds[type(error).__name__], our_modelgov_error(error)


def modelgov_stream(got: Streamed) -> object:
    return "".join(got.pieces), got.stream.done, got.error


def our_modelgov_stream(got: Streamed) -> object:
    (done,) = [chunk.extra["done"] for chunk in got.pieces if chunk.extra]
    facts, usage = got.stream.summary.governance, got.stream.summary.usage
    assert (facts.audit_id, facts.model) == (done["requestId"], done["model"])
    assert our_counts(usage)[:2] == (done["usage"]["inputTokens"], done["usage"]["outputTokens"])
    return our_text(got), done, got.error


def modelgov_cut_stream(got: Streamed) -> object:
    return "".join(got.pieces), got.error.code, got.error.message


def our_cut_stream(got: Streamed) -> object:
    assert got.error.partial.content == our_text(got)
    return our_text(got), got.error.code, got.error.message


def modelgov_row(name: str, script: Sequence[Step], view_theirs: View, view_ours: View, **more: Any) -> Row:
    def chat(caller: Any) -> Any:
        return caller.chat(**CHAT, **more)

    return Row(name, script, chat, chat, view_theirs, view_ours)


def modelgov_stream_row(name: str, step: Step, view_theirs: View, view_ours: View) -> Row:
    return Row(
        name,
        [step],
        lambda client: read(client.chat_stream(**CHAT)),
        lambda engine: read_async(engine.chat_stream(**CHAT)),
        view_theirs,
        view_ours,
    )


def modelgov_operation(name: str, /, **arguments: Any) -> Row:
    """An operation that gives the gateway's own JSON on both sides."""

    def call(caller: Any) -> Any:
        return getattr(caller, name)(**arguments)

    return Row(name, [], call, call, without_time, without_time)


def without_time(got: Any) -> object:
    """An object without the instants in it: the two calls are not made at the same."""
    return {name: value for name, value in got.items() if name not in ("asOf", "since")}


def reuse_key(client: Any) -> Any:
    client.chat(**CHAT, idempotency_key="k")
    return client.chat(**{**CHAT, "messages": MESSAGES * 2}, idempotency_key="k")


async def our_reuse_key(engine: Any) -> Any:
    await engine.chat(**CHAT, idempotency_key="k")
    return await engine.chat(**{**CHAT, "messages": MESSAGES * 2}, idempotency_key="k")


def replay(client: Any) -> Any:
    client.chat(**CHAT, idempotency_key="k")
    return client.chat(**CHAT, idempotency_key="k")


async def our_replay(engine: Any) -> Any:
    await engine.chat(**CHAT, idempotency_key="k")
    return await engine.chat(**CHAT, idempotency_key="k")


def replayed(got: Any) -> object:
    """What is left of a replay. That the text is lost, not empty, only we are told."""
    return got["requestId"], got["decision"], got["cost"]["actualUsd"]


def our_replayed(error: Any) -> object:
    facts = error.governance
    assert facts.replayed
    return facts.audit_id, facts.decision, facts.cost


def embed(caller: Any) -> Any:
    return caller.embed(**IDENTITY, input=["a", "b"], model_class="cheap")


def modelgov_vectors(got: Any) -> object:
    return got["embeddings"], got["model"], got["usage"]["inputTokens"], got["requestId"], got["decision"]


def our_modelgov_vectors(got: Any) -> object:
    facts = got.governance
    return list(got.embeddings), got.model, got.usage.input_tokens, facts.audit_id, facts.decision


THREE = answer(pieces=["a", "b", "c"])

MODELGOV = [
    modelgov_row("chat", [answer("Open Billing.", governance=FACTS)], modelgov_answer, our_modelgov_answer),
    modelgov_row("chat-usual", [], modelgov_answer, our_modelgov_answer),
    modelgov_stream_row("stream", answer(pieces=["Hel", "lo"], chunking=5), modelgov_stream, our_modelgov_stream),
    modelgov_stream_row(
        "stream-provider", provider_error(when="in_stream", of=THREE), modelgov_cut_stream, our_cut_stream
    ),
    modelgov_stream_row(
        "stream-block", block("output", when="in_stream", of=THREE), modelgov_cut_stream, our_cut_stream
    ),
    modelgov_stream_row(
        "stream-refused",
        block("budget"),
        lambda got: modelgov_kind(got.error),
        lambda got: our_modelgov_kind(got.error),
    ),
    *(
        modelgov_row(f"block-{cause}", [block(cause)], modelgov_kind, our_modelgov_kind)
        for cause in ("policy", "budget", "model_not_allowed", "pii", "security", "output")
    ),
    *(
        modelgov_row(f"status-{status}", [fail(status)], modelgov_error, our_modelgov_error)
        for status in (400, 401, 403, 404, 429, 500, 503)
    ),
    modelgov_row("provider", [provider_error()], modelgov_error, our_modelgov_error),
    modelgov_row("in-progress", [in_progress()], modelgov_error, our_modelgov_error, idempotency_key="k"),
    modelgov_row("request-id", [block()], modelgov_error, our_modelgov_error, request_id="tx-7"),
    Row("key-reused", [], reuse_key, our_reuse_key, modelgov_error, our_modelgov_error),
    Row("replay", [], replay, our_replay, replayed, our_replayed),
    Row("embed", [], embed, embed, modelgov_vectors, our_modelgov_vectors),
    modelgov_operation("extract_document", **PAGE),
    modelgov_operation("explain", **IDENTITY, model_class="cheap"),
    modelgov_operation("get_usage", user_id="u-9", feature="support"),
    modelgov_operation("get_usage_summary", feature="support"),
    modelgov_operation("get_usage_transactions", limit=5),
    modelgov_operation("get_provider_health"),
]


@named(MODELGOV)
async def test_modelgov(row: Row) -> None:
    modelgov = pytest.importorskip("modelgov")
    await compare(
        "modelgov",
        row,
        lambda gateway: modelgov.ModelgovClient(gateway.url, KEY),
        lambda gateway: once(Modelgov, gateway.url, KEY),
        blocking=True,
    )


# Atrium


def atrium_chat(client: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, temperature=0.2)


def our_atrium_chat(engine: Any) -> Any:
    return engine.chat_completion(MESSAGES, temperature=0.2)


def atrium_answer(got: Any) -> object:
    usage, facts = got.usage, got.governance
    return {
        "answer": (got.content, got.choices[0].finish_reason, got.id, got.model, got.created),
        "usage": (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
        "decision": (facts.audit_id, facts.policy_decision, facts.block_reason, facts.provider),
        "pii": (facts.pii_detected, facts.pii_redacted, facts.security_incidents),
        "figures": (facts.latency_ms, facts.cost_idr),
    }


def our_atrium_answer(got: Any) -> object:
    facts = got.governance
    return {
        "answer": (got.content, got.finish_reason, got.request_id, got.model, got.created),
        "usage": our_counts(got.usage),
        "decision": (facts.audit_id, facts.decision, facts.block_reason, facts.provider),
        "pii": (facts.pii_detected, list(facts.redactions), list(facts.incidents)),
        "figures": (facts.latency_ms, facts.cost),
    }


def atrium_error(error: Any) -> object:
    facts = (error.audit_id, error.policy_decision, error.block_reason)
    return str(error), error.status_code, facts, error.response_body


def our_atrium_error(error: Any) -> object:
    facts = error.governance
    stated = (None, None, None) if facts is None else (facts.audit_id, facts.decision, facts.block_reason)
    return error.message, error.status, stated, error.body


def atrium_kind(error: Any) -> object:
    return type(error).__name__, atrium_error(error)


def our_atrium_kind(error: Any) -> object:
    return type(error).__name__, our_atrium_error(error)


def atrium_row(name: str, step: Step, view_theirs: View, view_ours: View) -> Row:
    return Row(name, [step], atrium_chat, our_atrium_chat, view_theirs, view_ours)


REDACTED: Any = {"decision": "redacted", "redactions": ["NIK", "EMAIL"], "cost": 9.5, "provider": "x", "latency_ms": 3}
INCIDENT: Any = {"incidents": ["prompt_injection"], "audit_id": "a-9", "cost": None}

ATRIUM = [
    atrium_row("chat", answer("Ya."), atrium_answer, our_atrium_answer),
    atrium_row("chat-redacted", answer("Ya.", governance=REDACTED), atrium_answer, our_atrium_answer),
    atrium_row("chat-incident", answer("Ya.", governance=INCIDENT), atrium_answer, our_atrium_answer),
    atrium_row("chat-length", answer("Ya.", finish_reason="length"), atrium_answer, our_atrium_answer),
    *(
        atrium_row(f"block-{cause}", block(cause), atrium_kind, our_atrium_kind)
        for cause in ("policy", "pii", "security", "model_not_allowed")
    ),
    *(
        atrium_row(f"status-{status}", fail(status), atrium_error, our_atrium_error)
        for status in (400, 401, 403, 404, 429, 500, 503)
    ),
]


@named(ATRIUM)
async def test_atrium(row: Row) -> None:
    monago_atrium = pytest.importorskip("monago_atrium")
    await compare(
        "atrium",
        row,
        lambda gateway: monago_atrium.Atrium(KEY, base_url=f"{gateway.url}/v1"),
        lambda gateway: once(Atrium, "m", base_url=gateway.url, api_key=KEY),
        blocking=True,
    )


# OmniGate


def omnigate_answer(got: Any) -> object:
    usage = got.usage
    return {
        "answer": (got.content, got.finish_reason, got.id, got.model, got.provider),
        "usage": (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
        "facts": (got.cost_usd, got.cached, got.fallback_used, got.latency_ms),
    }


def our_omnigate_answer(got: Any) -> object:
    facts = got.governance
    return {
        "answer": (got.content, got.finish_reason, got.request_id, got.model, facts.provider),
        "usage": our_counts(got.usage),
        "facts": (facts.cost, facts.extra["cached"], facts.extra["fallback_used"], facts.latency_ms),
    }


def completion(got: Any) -> object:
    (choice,), usage = got["choices"], got["usage"]
    counts = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    return choice["message"]["content"], choice["finish_reason"], got["id"], got["model"], counts


def our_completion(got: Any) -> object:
    return got.content, got.finish_reason, got.request_id, got.model, our_counts(got.usage)


def omnigate_stream(got: Streamed) -> object:
    text, ids = "".join(chunk.text for chunk in got.pieces), {chunk.request_id for chunk in got.pieces}
    return text, ids, got.error and omnigate_error(got.error)


def our_omnigate_stream(got: Streamed) -> object:
    ids = {chunk.request_id for chunk in got.pieces}
    return our_text(got), ids, got.error and our_omnigate_error(got.error)


def omnigate_kind(error: Any) -> object:
    retry_after = getattr(error, "retry_after", None)
    return type(error).__name__, error.status_code, retry_after, error.request_id


def our_omnigate_kind(error: Any) -> object:
    kinds = {"AuthenticationError": "AuthError", "ModelEngineError": "APIError", "ServerError": "APIError"}
    kind = type(error).__name__
    return kinds.get(kind, kind), error.status, error.retry_after, error.request_id


def omnigate_error(error: Any) -> object:
    # Of the twin's envelope this client makes no message; it is in the detail.
    message = error.detail["error"]["message"] if isinstance(error.detail, dict) else error.message
    return omnigate_kind(error), message


def our_omnigate_error(error: Any) -> object:
    return our_omnigate_kind(error), error.message


def omnigate_row(name: str, step: Step, view_theirs: View, view_ours: View, method: str = "chat") -> Row:
    return Row(
        name,
        [step],
        lambda client: getattr(client, method)(model="m", messages="Hi"),
        lambda engine: getattr(engine, method)("Hi", model="m"),
        view_theirs,
        view_ours,
    )


def omnigate_stream_row(name: str, step: Step) -> Row:
    return Row(
        name,
        [step],
        lambda client: read(client.chat_stream(model="m", messages="Hi", as_chunks=True)),
        lambda engine: read_async(engine.chat_stream("Hi", model="m")),
        omnigate_stream,
        our_omnigate_stream,
    )


def dumped(model: Any) -> object:
    return model.model_dump(mode="json")


def omnigate_operation(name: str, view_theirs: View = dumped, view_ours: View = same, /, **arguments: Any) -> Row:
    """An operation; most give a model of the client's there, and the gateway's own JSON here."""

    def call(caller: Any) -> Any:
        return getattr(caller, name)(**arguments)

    return Row(name, [], call, call, view_theirs, view_ours)


def without_budgets(project: Any) -> object:
    """A project without what the client's model of it has no place for."""
    return {name: value for name, value in project.items() if name not in ("daily_budget", "monthly_budget")}


def omnigate_models(models: Any) -> object:
    return [(model.id, model.created, model.owned_by, model.provider, dumped(model.pricing)) for model in models]


def our_omnigate_models(models: Any) -> object:
    names = ("provider", "pricing")
    return [(model.id, model.created, model.owned_by, *(model.extra[name] for name in names)) for model in models]


OMNIGATE_FACTS: Any = {"provider": "gemini", "model": "g", "cached": True, "fallback": True, "cost": 0.5}

OMNIGATE_FAILURES: dict[str, Step] = {
    "key": fail(401),
    "provider-key": provider_error(401, message="Incorrect API key provided"),
    "budget": block("budget"),
    "throttled": fail(429, retry_after=7),
    "provider-silent": provider_error(None, provider="Gemini"),
    "provider-failed": fail(502),
    "failed": fail(500),
}

OMNIGATE = [
    omnigate_row("chat", answer("Salut !"), omnigate_answer, our_omnigate_answer),
    omnigate_row("chat-facts", answer("Hi", governance=OMNIGATE_FACTS), omnigate_answer, our_omnigate_answer),
    omnigate_row("completions", answer("Yes."), completion, our_completion, "completions"),
    omnigate_stream_row("stream", answer("Old pond — a frog\njumps in.", chunking=1)),
    omnigate_stream_row("stream-error", provider_error(500, message="exploded", when="in_stream", of=THREE)),
    *(
        omnigate_row(f"{method}-{name}", step, omnigate_error, our_omnigate_error, method)
        for method in ("chat", "completions")
        for name, step in OMNIGATE_FAILURES.items()
    ),
    omnigate_stream_row("stream-budget", block("budget")),
    omnigate_operation("models", omnigate_models, our_omnigate_models),
    omnigate_operation("health", same, lambda health: health.detail),
    omnigate_operation("set_provider_key", same, provider="openai", api_key="12345678"),
    omnigate_operation("metrics", range="7d"),
    omnigate_operation("create_api_key", name="ci"),
    omnigate_operation("me", dumped, without_budgets),
    omnigate_operation("signup", email="a@b.example"),
]


@named(OMNIGATE)
async def test_omnigate(row: Row) -> None:
    omnigate = pytest.importorskip("omnigate")
    await compare(
        "omnigate",
        row,
        lambda gateway: omnigate.Client(KEY, base_url=gateway.url, retries=0, user_id="u-9"),
        lambda gateway: once(OmniGate, gateway.url, KEY, user_id="u-9"),
        blocking=True,
    )


# The openai SDK: OpenAI itself, and Keeptrusts behind another base URL

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
TOOL_STEP = answer(tool_calls=[tool_call("weather", {"city": "Łódź"}), tool_call("weather", {"city": "Rome"})])


def sdk_usage(usage: Any) -> tuple[int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def sdk_answer(got: Any) -> object:
    (choice,) = got.choices
    message = choice.message
    return {
        "answer": (message.content or "", message.refusal, choice.finish_reason),
        "reasoning": (message.model_extra or {}).get("reasoning_content"),
        "tools": [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()],
        "ids": (got.id, got.model, got.created, got._request_id),
        "usage": sdk_usage(got.usage),
    }


def our_sdk_answer(got: Any) -> object:
    return {
        "answer": (got.content, got.refusal, got.finish_reason),
        "reasoning": got.reasoning,
        "tools": [(call.id, call.function.name, call.function.arguments_json) for call in got.tool_calls or ()],
        "ids": (got.request_id, got.model, got.created, got.gateway_request_id),
        "usage": our_counts(got.usage),
    }


def sdk_stream(got: Streamed) -> object:
    choices = [choice for chunk in got.pieces for choice in chunk.choices]
    fragments: dict[int, list[Any]] = {}
    for choice in choices:
        for call in choice.delta.tool_calls or ():
            fragments.setdefault(call.index, []).append(call)
    return {
        "text": "".join(choice.delta.content or "" for choice in choices),
        "reasoning": "".join((choice.delta.model_extra or {}).get("reasoning_content") or "" for choice in choices),
        "tools": [
            (
                calls[0].id,
                calls[0].function.name,
                "".join(call.function.arguments or "" for call in calls),
            )
            for _, calls in sorted(fragments.items())
        ],
        "finish_reason": [choice.finish_reason for choice in choices if choice.finish_reason],
        "usage": [sdk_usage(chunk.usage) for chunk in got.pieces if chunk.usage],
        "ids": {(chunk.id, chunk.model, chunk.created) for chunk in got.pieces},
        "error": got.error and (got.error.body["code"], got.error.body["type"], got.error.message),
    }


def our_sdk_stream(got: Streamed) -> object:
    whole = got.stream.partial
    return {
        "text": our_text(got),
        "reasoning": "".join(chunk.delta_reasoning or "" for chunk in got.pieces),
        "tools": [(call.id, call.function.name, call.function.arguments_json) for call in whole.tool_calls or ()],
        "finish_reason": [chunk.finish_reason for chunk in got.pieces if chunk.finish_reason],
        "usage": [our_counts(chunk.usage) for chunk in got.pieces if chunk.usage],
        "ids": {(chunk.request_id, chunk.model, chunk.head.created) for chunk in got.pieces},
        "error": got.error and (got.error.code, got.error.type, got.error.message),
    }


def sdk_error(error: Any) -> object:
    asked = error.response.headers.get("retry-after")
    return {
        "status": (error.status_code, error.code, error.type, error.param),
        "message": error.body["message"],
        "body": error.body,
        "request_id": error.request_id,
        "retry_after": asked and float(asked),
    }


def our_sdk_error(error: Any) -> object:
    return {
        "status": (error.status, error.code, error.type, error.param),
        "message": error.message,
        "body": error.body["error"],
        "request_id": error.request_id,
        "retry_after": error.retry_after,
    }


def sdk_vectors(got: Any) -> object:
    usage = got.usage
    return [item.embedding for item in got.data], got.model, (usage.prompt_tokens, usage.total_tokens)


def our_sdk_vectors(got: Any) -> object:
    return list(got.embeddings), got.model, (got.usage.input_tokens, got.usage.total_tokens)


async def sdk_models(client: Any) -> object:
    return [(model.id, model.created, model.owned_by) async for model in client.models.list()]


async def our_sdk_models(engine: Any) -> object:
    return [(model.id, model.created, model.owned_by) for model in await engine.models()]


def sdk_row(name: str, step: Step, view_theirs: View, view_ours: View, **params: Any) -> Row:
    return Row(
        name,
        [step],
        lambda client: client.chat.completions.create(model="m", messages=MESSAGES, **params),
        lambda engine: engine.chat_completion(MESSAGES, **params),
        view_theirs,
        view_ours,
    )


def sdk_stream_row(name: str, step: Step, **params: Any) -> Row:
    more: Any = {**params, "stream_options": {"include_usage": True}}
    return Row(
        name,
        [step],
        lambda client: read_async(
            client.chat.completions.create(model="m", messages=MESSAGES, stream=True, **more),
        ),
        lambda engine: read_async(engine.stream_call(MESSAGES, **params)),
        sdk_stream,
        our_sdk_stream,
    )


def sdk_embed(client: Any) -> Any:
    return client.embeddings.create(model="m", input=["a", "b"])


def our_sdk_embed(engine: Any) -> Any:
    return engine.embed(["a", "b"])


OPENAI = [
    sdk_row("chat", answer("Yes."), sdk_answer, our_sdk_answer),
    sdk_row("chat-reasoning", answer("Yes.", reasoning="Hm."), sdk_answer, our_sdk_answer),
    sdk_row("chat-refusal", answer(refusal="No."), sdk_answer, our_sdk_answer),
    sdk_row("chat-length", answer("Yes", finish_reason="length"), sdk_answer, our_sdk_answer),
    sdk_row("chat-tools", TOOL_STEP, sdk_answer, our_sdk_answer, tools=TOOLS),
    sdk_stream_row("stream", answer("Yes indeed.", reasoning="Hm.", chunking=3)),
    sdk_stream_row("stream-tools", TOOL_STEP, tools=TOOLS),
    sdk_stream_row("stream-error", error_event(of=answer(pieces=["a", "b", "c"]))),
    *(
        sdk_row(f"status-{status}", fail(status), sdk_error, our_sdk_error)
        for status in (400, 401, 403, 404, 409, 422, 500, 503)
    ),
    sdk_row("throttled", fail(429, retry_after=7), sdk_error, our_sdk_error),
    Row("embed", [], sdk_embed, our_sdk_embed, sdk_vectors, our_sdk_vectors),
    Row("models", [], sdk_models, our_sdk_models, same, same),
]

KEEPTRUSTS = [
    sdk_row("chat", answer("Yes."), sdk_answer, our_sdk_answer),
    sdk_row("chat-tools", TOOL_STEP, sdk_answer, our_sdk_answer, tools=TOOLS),
    sdk_stream_row("stream", answer("Yes indeed.")),
    sdk_stream_row("stream-block", block("output", when="in_stream", of=answer(pieces=["The SSN is ", "1"]))),
    *(
        sdk_row(f"block-{cause}", block(cause), sdk_error, our_sdk_error)
        for cause in ("input", "output", "budget", "escalation")
    ),
    *(sdk_row(f"status-{status}", fail(status), sdk_error, our_sdk_error) for status in (400, 401, 404, 429, 502, 503)),
    Row("models", [], sdk_models, our_sdk_models, same, same),
]


@named(OPENAI)
async def test_openai(row: Row) -> None:
    await compare(
        "openai",
        row,
        sdk_at,
        lambda gateway: once(OpenAI, "m", base_url=gateway.url, api_key=KEY),
    )


@named(KEEPTRUSTS)
async def test_keeptrusts(row: Row) -> None:
    await compare(
        "keeptrusts",
        row,
        sdk_at,
        lambda gateway: once(Keeptrusts, "m", base_url=gateway.url, api_key=KEY),
    )


def sdk_at(gateway: Gateway) -> Any:
    openai = pytest.importorskip("openai")
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)


# NeMo Guardrails


def nemo_answer(got: Any) -> object:
    return {
        "answer": (got.content, got.reasoning, got.finish_reason),
        "tools": our_tools(got),
        "ids": (got.request_id, got.model),
        "usage": our_counts(got.usage),
    }


def nemo_stream(got: Streamed) -> object:
    return {
        "text": our_text(got),
        "reasoning": "".join(chunk.delta_reasoning or "" for chunk in got.pieces),
        "finish_reason": [chunk.finish_reason for chunk in got.pieces if chunk.finish_reason],
        "usage": [our_counts(chunk.usage) for chunk in got.pieces if chunk.usage],
        "ids": {(chunk.request_id, chunk.model) for chunk in got.pieces},
        "error": got.error and nemo_error(got.error),
    }


def nemo_error(error: Any) -> object:
    return error.status, error.model_name


def nemo_row(name: str, step: Step, view: View, **params: Any) -> Row:
    def chat(engine: Any) -> Any:
        return engine.chat_completion(MESSAGES, **params)

    return Row(name, [step], chat, chat, view, view)


def nemo_stream_row(name: str, step: Step, **params: Any) -> Row:
    def chat(engine: Any) -> Any:
        return read_async(engine.stream_chat_completion(MESSAGES, **params))

    return Row(name, [step], chat, chat, nemo_stream, nemo_stream)


NEMO = [
    nemo_row("chat", answer("Yes.", reasoning="Hm."), nemo_answer),
    nemo_row("chat-length", answer("Yes", finish_reason="length"), nemo_answer),
    nemo_row("chat-tools", TOOL_STEP, nemo_answer, tools=TOOLS),
    nemo_stream_row("stream", answer("Yes indeed.", reasoning="Hm.", chunking=3)),
    nemo_stream_row("stream-error", error_event(of=THREE)),
    *(nemo_row(f"status-{status}", fail(status), nemo_error) for status in (400, 401, 403, 404, 422, 429, 500, 503)),
]


@pytest.mark.parametrize("dialect", ["openai", "nim"])
@named(NEMO)
async def test_nemoguardrails(row: Row, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model_engine = pytest.importorskip("nemoguardrails.guardrails.model_engine")
    for variable in ("OPENAI_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.setenv(variable, KEY)

    def client_at(gateway: Gateway) -> Any:
        parameters = {"base_url": gateway.url, "max_attempts": 1}
        config = model_engine.Model(type="main", engine=dialect, model="m", parameters=parameters)
        return model_engine.ModelEngine(config)

    await compare(
        dialect,
        row,
        client_at,
        lambda gateway: once({"openai": OpenAI, "nim": NIM}[dialect], "m", base_url=gateway.url),
    )
