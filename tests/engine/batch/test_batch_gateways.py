"""Every gateway's engine takes a batch: its own encoder, its own answers, its own rules for keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import NIM, Atrium, Keeptrusts, ModelEngine, Modelgov, OmniGate
from penstock.engine.batch.batch import Batch
from penstock.engine.errors import InvalidRequestError, ReplayedWithoutContentError
from penstock.testing import Gateway, block, raw
from tests.conftest import API_KEY

WHO = {"user_id": "u", "user_type": "employee", "feature": "tests"}


@asynccontextmanager
async def served(dialect: str, **options: Any) -> AsyncIterator[tuple[ModelEngine, Gateway]]:
    async with Gateway(dialect=dialect, api_key=API_KEY, **options) as gateway:
        engines: dict[str, Any] = {
            "nim": lambda: NIM("tiny-mock", base_url=gateway.url, api_key=API_KEY),
            "atrium": lambda: Atrium("tiny-mock", base_url=gateway.url, api_key=API_KEY),
            "keeptrusts": lambda: Keeptrusts("tiny-mock", base_url=gateway.url, api_key=API_KEY),
            "modelgov": lambda: Modelgov(gateway.url, API_KEY),
            "omnigate": lambda: OmniGate(gateway.url, API_KEY, model="tiny-mock"),
        }
        async with engines[dialect]() as engine:
            yield engine, gateway


def rows(dialect: str, count: int = 5) -> list[dict[str, Any]]:
    who = WHO if dialect == "modelgov" else {}
    return [{"id": f"row-{number}", "prompt": f"row {number}.", **who} for number in range(count)]


@pytest.mark.parametrize("dialect", ["nim", "atrium", "keeptrusts", "modelgov", "omnigate"])
async def test_rows_are_answered_and_come_back_from_the_journal(dialect: str, tmp_path: Path) -> None:
    async with served(dialect) as (engine, gateway):
        first = await collect(Batch(engine, journal=tmp_path / "j", ordered=True), rows(dialect))
        again = await collect(Batch(engine, journal=tmp_path / "j", ordered=True), rows(dialect))
        assert gateway.requests == 5
    assert [result.error for result in first] == [None] * 5
    assert [f'"row {number}."' in result.response.content for number, result in enumerate(again)] == [True] * 5
    assert [result.usage for result in again] == [result.usage for result in first]
    assert all(result.usage is not None and result.usage.output_tokens > 0 for result in first)


@pytest.mark.parametrize(("dialect", "currency"), [("atrium", "IDR"), ("modelgov", "USD"), ("omnigate", "USD")])
async def test_the_summary_has_the_cost_where_the_gateway_tells_it(dialect: str, currency: str) -> None:
    async with served(dialect) as (engine, _):
        summary = await Batch(engine).run(rows(dialect))
    assert list(summary.cost) == [currency]
    assert summary.cost[currency] > 0


async def test_a_policy_block_is_the_result_of_its_row() -> None:
    async with served("keeptrusts", script=[block("input")]) as (engine, _):
        results = await collect(Batch(engine, concurrency=1, ordered=True), rows("keeptrusts"))
    assert [type(result.error).__name__ for result in results[:2]] == ["PolicyBlockedError", "NoneType"]
    assert results[0].error is not None
    assert results[0].error.governance is not None


async def test_a_gateway_without_embeddings_says_so_in_the_row() -> None:
    async with served("atrium") as (engine, gateway):
        [result] = await collect(Batch(engine), [{"id": "a", "input": "Hi"}])
        assert (type(result.error), gateway.requests) == (InvalidRequestError, 0)


async def test_a_success_without_an_answer_is_a_failed_row() -> None:
    body = b'{"id": "chatcmpl-1", "choices": []}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with served("nim", script=[raw(head + body)]) as (engine, _):
        results = await collect(Batch(engine, concurrency=1, ordered=True), rows("nim", 2))
    assert [type(result.error).__name__ for result in results] == ["MalformedResponseError", "NoneType"]


async def test_a_replay_whose_text_is_gone_is_generated_again_only_on_request(tmp_path: Path) -> None:
    """The gateway ran the row once and has not kept the text: it is a second execution, under a second key."""
    async with served("modelgov") as (engine, gateway):
        key = await first_key(engine, tmp_path / "j")
        await engine.chat_completion("row 0.", **WHO, idempotency_key=key)
        [result] = await collect(Batch(engine, journal=tmp_path / "j"), rows("modelgov", 1))
        assert isinstance(result.error, ReplayedWithoutContentError)
        [result] = await collect(Batch(engine, journal=tmp_path / "j", retry_failed="all"), rows("modelgov", 1))
        assert (result.ok, list(gateway.executions.values())) == (True, [1, 1])


async def first_key(engine: ModelEngine, path: Path) -> str:
    """The key that the first row has in this journal."""
    from penstock.engine.batch.journal import Journal
    from penstock.engine.batch.keeping import fingerprint
    from penstock.engine.batch.rows import BatchRow

    row = BatchRow.of(rows("modelgov", 1)[0], 0)
    async with await Journal.open(path) as journal:
        return journal.key(row.id, fingerprint("modelgov", engine._prepared("chat", row.body)), 0)


async def collect(batch: Batch, source: Any) -> list[Any]:
    return [result async for result in batch.results(source)]
