"""OmniGate: JSON and plain text of its own, and OpenAI's twin."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.testing import (
    Gateway,
    Step,
    answer,
    block,
    cut,
    error_event,
    fail,
    garbage_frame,
    provider_error,
    stall,
    truncate,
)

from ..support import CHAT as TWIN
from ..support import Exchange, chat, send

CHAT = "/v1/chat"


async def ask(gateway: Gateway, *, path: str = CHAT, headers: dict[str, str] | None = None, **options: Any) -> Exchange:
    return await send(gateway, chat(**options), path=path, **headers or {})


class TestChat:
    async def test_the_body_is_that_of_the_contract(self) -> None:
        async with Gateway(dialect="omnigate", script=[answer("Salut !")]) as gateway:
            got = await ask(gateway, stream=False)
        assert got.json == {
            "id": "chatcmpl-1",
            "provider": "openai",
            "model": "tiny-mock",
            "content": "Salut !",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            "cost_usd": 3e-06,
            "finish_reason": "stop",
            "cached": False,
            "fallback_used": False,
            "latency_ms": 12,
        }
        stated = {"x-llmgw-provider": "openai", "x-llmgw-model": "tiny-mock", "x-llmgw-cached": "false"}
        assert stated.items() <= got.headers.items()
        assert got.headers["x-request-id"] == "00000000-0000-4000-8000-000000000001"
        assert {"x-ratelimit-reset", "x-budget-project-daily-spend", "x-budget-org-daily-limit"} <= set(got.headers)

    async def test_what_it_states_can_be_given(self) -> None:
        facts = answer(
            governance={
                "provider": "gemini",
                "model": "flash",
                "cost": None,
                "cached": True,
                "fallback": True,
                "latency_ms": 1,
            },
            usage=None,
            finish_reason="length",
        )
        async with Gateway(dialect="omnigate", script=[facts, facts]) as gateway:
            own, twin = await ask(gateway), await ask(gateway, path=TWIN)
        body = own.json
        assert (body["provider"], body["model"], body["cost_usd"], body["cached"]) == ("gemini", "flash", None, True)
        assert (body["fallback_used"], body["finish_reason"], "usage" in body) == (True, "length", False)
        for got in (own, twin):
            assert (got.headers["x-llmgw-model"], got.headers["x-llmgw-fallback"]) == ("flash", "true")
        assert twin.json["model"] == "flash"

    @pytest.mark.parametrize(
        ("wrong", "where"),
        [
            ({"model": None}, ["model"]),
            ({"messages": []}, ["messages"]),
            ({"messages": "Hi"}, ["messages"]),
            ({"messages": ["Hi"]}, ["messages", 0]),
            ({"messages": [{"role": "tool", "content": "Hi"}]}, ["messages", 0, "role"]),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, ["messages", 0, "content"]),
            ({"max_tokens": 0}, ["max_tokens"]),
            ({"max_tokens": 1.5}, ["max_tokens"]),
            ({"temperature": 2.1}, ["temperature"]),
            ({"fallback_models": ["m"] * 6}, ["fallback_models"]),
        ],
    )
    async def test_a_wrong_member_is_listed(self, wrong: dict[str, Any], where: list[str | int]) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            got = await ask(gateway, **wrong)
        (complaint,) = got.json["detail"]
        assert (got.status, complaint["loc"]) == (422, ["body", *where])

    @pytest.mark.parametrize("body", [b"{broken", b"[]", b"", b"{}"])
    async def test_no_body_is_without_complaint(self, body: bytes) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            got = await send(gateway, body, path=CHAT)
        assert (got.status, len(got.json["detail"]) > 0) == (422, True)


class TestTextStream:
    async def test_is_text_and_nothing_else(self) -> None:
        async with Gateway(dialect="omnigate", script=[answer(pieces=["Old ", "pond — \n", "splash"])]) as gateway:
            got = await ask(gateway, stream=True)
        assert got.headers["content-type"] == "text/plain; charset=utf-8"
        assert (got.body.decode(), got.is_complete) == ("Old pond — \nsplash", True)
        assert len(got.chunks) == 3
        assert (got.headers["x-llmgw-provider"], "x-llmgw-cached" in got.headers) == ("openai", False)

    async def test_a_failure_is_a_mark_in_the_text(self) -> None:
        of = answer(pieces=["Partial", " text"])
        script: list[Step] = [
            provider_error(500, message="exploded", when="in_stream", after_events=1, of=of),
            provider_error(None, message="timeout", provider="Gemini", when="in_stream", after_events=0),
            block("budget", when="in_stream", after_events=0),
            error_event(after_events=0),
            error_event(after_events=0, error=""),
            error_event(after_events=0, error={"message": "two\nlines"}),
        ]
        async with Gateway(dialect="omnigate", script=script) as gateway:
            texts = [(await ask(gateway, stream=True)).body.decode() for _ in script]
        assert texts == [
            "Partial\n[error] OpenAI error 500: exploded",
            "\n[error] Gemini request failed: timeout",
            "\n[error] Project daily budget exceeded",
            "\n[error] Internal Server Error",
            "\n[error] ",
            "\n[error] two\nlines",
        ]

    async def test_the_mark_can_be_cut_anywhere(self) -> None:
        of = answer(pieces=["a", "b"], chunking=3)
        async with Gateway(dialect="omnigate", script=[error_event(after_events=1, error="no", of=of)]) as gateway:
            got = await ask(gateway, stream=True)
        assert got.chunks == [b"a\n[", b"err", b"or]", b" no"]

    async def test_faults_count_writes_as_events(self) -> None:
        of = answer(pieces=["a", "b", "c"], comments=["not sent"])
        script: list[Step] = [
            cut(after_events=2, of=of),
            truncate(after_events=1, of=of),
            garbage_frame(after_events=1, data="?", of=of),
            stall(after_events=1, for_s=0.01, ping_every_s=0.002, of=of),
        ]
        async with Gateway(dialect="omnigate", script=script) as gateway:
            got = [await ask(gateway, stream=True) for _ in script]
        assert [(one.body, one.is_complete) for one in got] == [
            (b"ab", False),
            (b"a", True),
            (b"a?bc", True),
            (b"abc", True),
        ]


class TestTwin:
    async def test_is_openais(self) -> None:
        async with Gateway(dialect="omnigate", script=[answer("Hi there."), answer("Hi there.")]) as gateway:
            whole = await ask(gateway, path=TWIN, headers={"x_request_id": "mine"}, brand_new=1)
            options = {"stream_options": {"include_usage": True}, "stream": True}
            streamed = await ask(gateway, path=TWIN, headers={"x_request_id": "mine"}, **options)
        assert whole.json["choices"][0]["message"]["content"] == streamed.text == "Hi there."
        assert (streamed.frames[-1]["usage"]["total_tokens"], streamed.events[-1]) == (3, "[DONE]")
        # The caller's id is kept where nothing is streamed.
        assert (whole.headers["x-request-id"], streamed.headers["x-request-id"][-1]) == ("mine", "2")

    async def test_an_error_is_followed_by_done_all_the_same(self) -> None:
        script: list[Step] = [provider_error(500, when="in_stream"), error_event(), error_event(done=False)]
        async with Gateway(dialect="omnigate", script=script) as gateway:
            provider, plain, unmarked = [await ask(gateway, path=TWIN, stream=True) for _ in script]
        error = {"message": "OpenAI error 500: upstream failed", "type": "provider_error"}
        assert (provider.frames[-1], provider.events[-1]) == ({"error": error}, "[DONE]")
        assert (plain.events[-1], "[DONE]" in unmarked.events) == ("[DONE]", False)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"n": 2},
            {"messages": [{"role": "tool", "content": "Hi"}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        ],
    )
    async def test_what_it_cannot_pass_on_is_refused_like_openai_would(self, wrong: dict[str, Any]) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            got = await ask(gateway, path=TWIN, **wrong)
        assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")

    async def test_a_missing_member_is_listed(self) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            got = await send(gateway, {"messages": [{"role": "developer", "content": "Hi"}]}, path=TWIN)
        assert (got.status, got.json["detail"][0]["loc"]) == (422, ["body", "model"])


class TestErrors:
    @pytest.mark.parametrize(
        ("step", "status", "detail"),
        [
            (block("budget"), 402, "Project daily budget exceeded"),
            (
                block("budget", reason="Organisation monthly budget exceeded"),
                402,
                "Organisation monthly budget exceeded",
            ),
            (fail(401), 401, "Invalid API key"),
            (fail(429), 429, "Rate limit exceeded"),
        ],
    )
    async def test_what_stands_before_both_chats_speaks_for_itself(self, step: Any, status: int, detail: str) -> None:
        async with Gateway(dialect="omnigate", script=[step, step]) as gateway:
            got = [await ask(gateway, path=path) for path in (CHAT, TWIN)]
        assert [(one.status, one.json) for one in got] == [(status, {"detail": detail})] * 2

    async def test_limits_are_stated_when_they_are_reached(self) -> None:
        async with Gateway(dialect="omnigate", script=[fail(429, retry_after=17), provider_error(429)]) as gateway:
            own, providers = await ask(gateway), await ask(gateway)
        assert (own.headers["x-ratelimit-remaining"], own.headers["retry-after"]) == ("0", "17")
        assert ("x-ratelimit-remaining" in providers.headers, providers.json["detail"][:16]) == (
            False,
            "OpenAI error 429",
        )

    @pytest.mark.parametrize(
        ("step", "status", "message", "type"),
        [
            (provider_error(401, message="bad key"), 401, "OpenAI error 401: bad key", "invalid_request_error"),
            (provider_error(500), 500, "OpenAI error 500: upstream failed", "provider_error"),
            (provider_error(None, provider="Gemini"), 502, "Gemini request failed: upstream failed", "provider_error"),
            (fail(503), 503, "openai circuit is open", "provider_error"),
            (fail(400), 400, "Bad Request", "invalid_request_error"),
        ],
    )
    async def test_what_lies_behind_is_told_in_the_words_of_each(
        self, step: Any, status: int, message: str, type: str
    ) -> None:
        async with Gateway(dialect="omnigate", script=[step, step]) as gateway:
            own, twin = await ask(gateway), await ask(gateway, path=TWIN)
        assert (own.status, own.json) == (status, {"detail": message})
        error = {"message": message, "type": type, "param": None, "code": None}
        assert (twin.status, twin.json) == (status, {"error": error})

    @pytest.mark.parametrize(
        ("headers", "detail"),
        [
            ({}, "Missing x-api-key header (or Authorization: Bearer token)"),
            ({"authorization": "Basic llmg_1"}, "Missing x-api-key header (or Authorization: Bearer token)"),
            ({"x_api_key": "llmg_2"}, "Invalid API key"),
            ({"x_api_key": "llmg_2", "authorization": "Bearer llmg_1"}, "Invalid API key"),
            ({"x_api_key": "llmg_1"}, None),
            ({"authorization": "Bearer llmg_1"}, None),
        ],
    )
    async def test_keys(self, headers: dict[str, str], detail: str | None) -> None:
        async with Gateway(dialect="omnigate", api_key="llmg_1") as gateway:
            got = await ask(gateway, headers=headers)
        assert (got.status, got.json.get("detail")) == (200 if detail is None else 401, detail)

    async def test_paths_it_does_not_have(self) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            got = [await send(gateway, method=m, path=p) for m, p in (("GET", CHAT), ("POST", "/v1/nothing"))]
        assert [one.status for one in got] == [405, 404]


class TestOperations:
    async def test_models(self) -> None:
        async with Gateway(dialect="omnigate") as gateway:
            listed = await send(gateway, method="GET", path="/v1/models")
            found = await send(gateway, method="GET", path="/v1/models/tiny-mock")
            missing = await send(gateway, method="GET", path="/v1/models/huge")
        assert listed.json["data"] == [found.json]
        assert found.json["pricing"] == {"input_per_1k_usd": 0.001, "output_per_1k_usd": 0.001}
        assert (missing.status, missing.json) == (404, {"detail": "Model 'huge' not found"})

    async def test_metrics(self) -> None:
        path = "/v1/metrics"
        async with Gateway(dialect="omnigate") as gateway:
            plain = await send(gateway, method="GET", path=path)
            grouped = await send(gateway, method="GET", path=f"{path}?range=7d&group_by=model&granularity=day")
            wrong = [await send(gateway, method="GET", path=path + query) for query in ("?range=1y", "?group_by=mood")]
        assert (plain.json["totals"]["requests"], plain.json["breakdown"]) == (4, [])
        assert (grouped.json["granularity"], grouped.json["breakdown"][0]["key"]) == ("day", "tiny-mock")
        assert [one.json["detail"] for one in wrong] == ["invalid range", "invalid group_by"]

    async def test_signing_up_needs_no_key(self) -> None:
        async with Gateway(dialect="omnigate", api_key="llmg_1") as gateway:
            got = await send(gateway, {"email": "a@b.example", "project_name": "Default"}, path="/v1/signup")
            wrong = await send(gateway, {"email": "nobody"}, path="/v1/signup")
        assert (got.status, got.json["email"]) == (201, "a@b.example")
        assert got.json["api_key"].startswith("llmg_")
        assert (wrong.status, wrong.json["detail"][0]["loc"]) == (422, ["body", "email"])

    async def test_keys_are_minted_and_stored(self) -> None:
        azure = {"provider": "azure", "api_key": "12345678"}
        meta = {"endpoint": "https://x.example", "deployment": "d"}
        async with Gateway(dialect="omnigate") as gateway:
            minted = await send(gateway, {"name": "ci"}, path="/v1/keys/api")
            stored = await send(gateway, {"provider": "openai", "api_key": "12345678"}, path="/v1/keys")
            placed = await send(gateway, {**azure, "meta": meta}, path="/v1/keys")
            wrong = [
                await send(gateway, body, path="/v1/keys")
                for body in (azure, {"provider": "acme", "api_key": "12345678"}, {"provider": "openai", "api_key": "1"})
            ]
            assert gateway.calls[0].executed is True
        assert (minted.status, minted.json["name"]) == (201, "ci")
        assert (stored.status, stored.body, placed.status) == (204, b"", 204)
        assert {"content-length", "content-type"} & set(stored.headers) == set()
        assert [one.status for one in wrong] == [422, 422, 422]

    async def test_the_project_and_health(self) -> None:
        async with Gateway(dialect="omnigate", api_key="llmg_1") as gateway:
            project = await send(gateway, method="GET", path="/v1/me", x_api_key="llmg_1")
            health = await send(gateway, method="GET", path="/health")
        assert (project.json["daily_budget"], health.json) == ("5.0000", {"status": "ok", "version": "0.2.0"})

    async def test_a_minted_key_can_be_lost_on_the_way(self) -> None:
        async with Gateway(dialect="omnigate", script=[fail(503, executed=True)]) as gateway:
            got = [await send(gateway, {"name": "ci"}, path="/v1/keys/api") for _ in range(2)]
            assert [call.executed for call in gateway.calls] == [True, True]
        assert [one.status for one in got] == [503, 201]
