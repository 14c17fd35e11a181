"""A batch with a journal: ended anywhere and run again, each row is executed once per key and has one result."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from penstock import ModelEngine, Modelgov
from penstock.engine.batch.batch import Batch
from penstock.engine.batch.journal import Journal
from penstock.engine.batch.keeping import Book, fingerprint
from penstock.engine.batch.ledger import Ledger
from penstock.engine.batch.results import BatchResult
from penstock.engine.errors import (
    BatchError,
    ConfigurationError,
    EngineClosedError,
    InputChangedError,
    JournalError,
    JournalLockedError,
    ModelEngineError,
    RowsInDoubtError,
)
from penstock.middleware.idempotency import Idempotency
from penstock.middleware.retry import Retry
from penstock.middleware.stack import default_stack
from penstock.testing import Gateway, answer, contains, fail, hang_up, rule, stall
from tests.awaits import CountedAwaits, at_each_wait, cancel_this_task
from tests.clocks import HeldClock
from tests.conftest import API_KEY
from tests.engine.batch.takes import take_all, turns_until

WHO = {"user_id": "u", "user_type": "employee", "feature": "tests"}
ROWS = [{"id": f"row-{number}", "prompt": f"row {number}."} for number in range(20)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


async def run(engine: ModelEngine, path: Path, rows: Any = ROWS, **options: Any) -> list[BatchResult]:
    return [result async for result in Batch(engine, journal=path, concurrency=4, **options).results(rows)]


async def leave_in_flight(engine: ModelEngine, gateway: Gateway, path: Path, rows: Any = ROWS) -> None:
    """A run that ends while its rows are in flight."""
    gateway.script(default=stall())
    running = asyncio.ensure_future(run(engine, path, rows))
    await gateway.until(lambda: gateway.requests >= min(4, len(rows)))
    running.cancel()
    await asyncio.wait((running,))
    gateway.script()


def first_used(path: Path, seconds: int) -> None:
    """Have all keys of a journal be as old as that."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rows SET keyed_at = ?", (seconds,))


def counts(results: list[BatchResult]) -> dict[str, int]:
    return Counter(result.id for result in results)


async def test_what_is_done_is_not_sent_again(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    first = await run(engine, path, ordered=True)
    gateway.reset()
    second = await run(engine, path, ordered=True)
    assert gateway.requests == 0
    assert [result.is_from_journal for result in second] == [True] * 20
    assert [(result.id, result.body) for result in second] == [(result.id, result.body) for result in first]
    assert [result.response.content for result in second] == [result.response.content for result in first]


async def test_what_failed_is_not_sent_again(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    gateway.script(default=fail(400))
    await run(engine, path)
    gateway.reset()
    again = await run(engine, path)
    assert (gateway.requests, {type(result.error).__name__ for result in again}) == (0, {"InvalidRequestError"})


async def test_what_failed_is_sent_again_on_request_with_a_new_key(
    engine: ModelEngine, gateway: Gateway, path: Path
) -> None:
    gateway.script(default=fail(400))
    await run(engine, path)
    gateway.script()
    assert [result.ok for result in await run(engine, path, retry_failed="transient")] == [False] * 20
    assert [result.ok for result in await run(engine, path, retry_failed="all")] == [True] * 20
    assert len(gateway.keys) == 40


async def test_what_may_have_run_is_sent_again_with_its_key(gateway: Gateway, path: Path) -> None:
    gateway.script(default=hang_up())
    async with ModelEngine(
        "tiny-mock", base_url=gateway.url, api_key=API_KEY, middleware=default_stack(retry=Retry(max_attempts=1))
    ) as engine:
        await run(engine, path, ROWS[:3], row_attempts=1)
        gateway.script()
        results = await run(engine, path, ROWS[:3], retry_failed="transient")
    assert [result.ok for result in results] == [True] * 3
    assert len(gateway.keys) == 3
    assert [result.possibly_duplicated for result in results] == [True] * 3  # the gateway's facts do not promise


async def test_a_row_that_was_turned_away_after_a_lost_answer_keeps_its_key(
    engine: ModelEngine, gateway: Gateway, path: Path
) -> None:
    gateway.script(hang_up(executed=True), default=fail(429, retry_after_ms=1))
    (failed,) = await run(engine, path, ROWS[:1], row_attempts=1)
    assert type(failed.error).__name__ == "RateLimitError"
    gateway.script()
    (result,) = await run(engine, path, ROWS[:1], retry_failed="all")
    assert (result.ok, list(gateway.executions.values())) == (True, [1])


async def test_a_failure_older_than_the_memory_for_keys_may_be_executed_twice(path: Path) -> None:
    async with Gateway(dialect="modelgov", api_key=API_KEY) as gateway, Modelgov(gateway.url, API_KEY) as engine:
        gateway.script(default=hang_up())
        rows = [{**ROWS[0], **WHO}]
        await run(engine, path, rows, row_attempts=1)
        first_used(path, 1_000)
        gateway.script()
        (result,) = await run(engine, path, rows, retry_failed="all")
        assert (result.ok, result.possibly_duplicated) == (True, True)


async def test_a_failed_row_that_is_sent_again_keeps_the_time_of_its_key(
    engine: ModelEngine, gateway: Gateway, path: Path
) -> None:
    gateway.script(default=hang_up())
    await run(engine, path, ROWS[:1], row_attempts=1)
    first_used(path, 1_000)
    await run(engine, path, ROWS[:1], row_attempts=1, retry_failed="all")
    async with await Journal.open(path) as journal:
        (record,) = await journal.find([(0, "row-0")])
    assert getattr(record, "keyed_at", None) == 1_000


async def test_a_failed_row_that_may_have_run_and_is_not_sent_again_in_time_is_in_doubt(path: Path) -> None:
    async with Gateway(dialect="modelgov", api_key=API_KEY) as gateway, Modelgov(gateway.url, API_KEY) as engine:
        rows = [{**row, **WHO} for row in ROWS]
        gateway.script(default=hang_up())
        await run(engine, path, rows, row_attempts=1)
        gateway.script(default=stall())
        requests = gateway.requests
        running = asyncio.ensure_future(run(engine, path, rows, retry_failed="all"))
        await gateway.until(lambda: gateway.requests >= requests + 4)
        running.cancel()
        await asyncio.wait((running,))
    async with await Journal.open(path) as journal:
        counts = await journal.counts()
    assert (counts.new, counts.keyed > 4) == (0, True)  # some were written down ahead


async def test_rows_in_flight_at_the_end_are_sent_again_with_their_keys(
    engine: ModelEngine, gateway: Gateway, path: Path
) -> None:
    await leave_in_flight(engine, gateway, path)
    batch = Batch(engine, journal=path)
    results = [result async for result in batch.results(ROWS)]
    assert counts(results) == {row["id"]: 1 for row in ROWS}
    assert all(runs == 1 for runs in gateway.executions.values())
    assert len(gateway.keys) == 20
    assert sorted(batch.summary.in_doubt_ids) == sorted(batch.summary.possibly_duplicated_ids)
    assert batch.summary.in_doubt == 4


async def test_rows_that_were_not_sent_are_not_in_doubt(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    await leave_in_flight(engine, gateway, path)
    async with await Journal.open(path) as journal:
        assert [record.id for record in await journal.in_doubt()] == ["row-0", "row-1", "row-2", "row-3"]


async def test_rows_of_all_lanes_that_become_free_while_rows_are_written_down_are_the_next_block(
    engine: ModelEngine, gateway: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    intend = Book.intend
    batch = Batch(engine, journal=path, concurrency=4)

    async def held(book: Book, errands: Any) -> None:
        begun.append(len(errands))
        if len(begun) == 2:  # of the lane that is free first: the others become free meanwhile
            await turns_until(lambda: batch.progress.in_flight == 0)
        await intend(book, errands)

    monkeypatch.setattr(Book, "intend", held)
    gateway.script(answer("First."), *[answer("Later.", ttft_s=0.05)] * 3)
    results = [result async for result in batch.results(ROWS)]
    assert len(results) == 20
    assert begun[:3] == [4, 1, 3]
    assert max(begun) == 4  # no more than there are lanes


async def test_rows_that_were_written_down_ahead_and_not_sent_are_not_in_doubt(path: Path) -> None:
    async with Gateway(dialect="modelgov", api_key=API_KEY) as gateway, Modelgov(gateway.url, API_KEY) as engine:
        await leave_in_flight(engine, gateway, path, [{**row, **WHO} for row in ROWS])
        async with await Journal.open(path) as journal:
            assert len(await journal.in_doubt()) == gateway.requests == 4


@pytest.mark.parametrize(("step", "in_doubt"), [(hang_up(), ["row-0"]), (fail(429), []), (fail(500), ["row-0"])])
async def test_a_row_that_waited_at_the_end_is_in_doubt_where_it_may_have_run(
    gateway: Gateway, path: Path, step: Any, in_doubt: list[str]
) -> None:
    gateway.script(default=step)
    options: dict[str, Any] = {"clock": HeldClock(), "middleware": default_stack(retry=Retry(max_attempts=1))}
    async with (
        ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY, **options) as engine,
        await Journal.open(path) as journal,
    ):
        batch = Batch(engine, journal=journal)
        running = asyncio.ensure_future(batch.run(ROWS[:1]))
        await turns_until(lambda: _has_read(batch) and batch.progress.waiting == 1)
        batch.drain()
        await running
        assert [record.id for record in await journal.in_doubt()] == in_doubt


async def test_rows_in_doubt_are_skipped_on_request(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    await leave_in_flight(engine, gateway, path, ROWS[:4])
    gateway.reset()
    results = await run(engine, path, in_doubt="skip")
    skipped = {result.id for result in results if isinstance(result.error, RowsInDoubtError)}
    assert skipped == {"row-0", "row-1", "row-2", "row-3"}
    assert gateway.requests == 16
    assert all(result.ok for result in await run(engine, path))  # skipped is not failed for good


async def test_rows_in_doubt_stop_the_batch_on_request(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    await leave_in_flight(engine, gateway, path)
    gateway.reset()
    with pytest.raises(
        RowsInDoubtError, match=r"4 rows were in flight .* 'row-0', 'row-1', 'row-2', 'row-3'"
    ) as raised:
        await run(engine, path, in_doubt="fail")
    assert (raised.value.body, gateway.requests) == (["row-0", "row-1", "row-2", "row-3"], 0)


async def test_rows_that_a_key_protects_are_in_no_doubt_that_matters(path: Path) -> None:
    async with (
        Gateway(dialect="modelgov", api_key=API_KEY, keep_content=True) as gateway,
        Modelgov(gateway.url, API_KEY) as engine,
    ):
        rows = [{**row, **WHO} for row in ROWS]
        await leave_in_flight(engine, gateway, path, rows)
        batch = Batch(engine, journal=path, concurrency=4, in_doubt="fail")
        results = [result async for result in batch.results(rows)]
        assert all(result.ok and not result.possibly_duplicated for result in results)
        assert (batch.summary.in_doubt, batch.summary.in_doubt_ids) == (0, ())
        assert set(gateway.executions.values()) == {1}
        assert len(gateway.keys) == 20


async def test_a_key_that_the_gateway_has_forgotten_protects_nothing(path: Path) -> None:
    async with Gateway(dialect="modelgov", api_key=API_KEY) as gateway, Modelgov(gateway.url, API_KEY) as engine:
        rows = [{**row, **WHO} for row in ROWS]
        await leave_in_flight(engine, gateway, path, rows)
        with pytest.raises(RowsInDoubtError):
            await run(engine, path, rows, in_doubt="fail", key_lifetime=0)


async def test_a_changed_row_ends_the_batch_before_it_is_sent(
    engine: ModelEngine, gateway: Gateway, path: Path
) -> None:
    await run(engine, path)
    changed = [*ROWS[:5], {"id": "row-5", "prompt": "something else"}, *ROWS[6:]]
    gateway.reset()
    with pytest.raises(InputChangedError, match="row 'row-5'"):
        await run(engine, path, changed)
    assert gateway.requests == 0


async def test_a_changed_row_is_a_new_row_on_request(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    await run(engine, path)
    changed = [*ROWS[:5], {"id": "row-5", "prompt": "something else"}, *ROWS[6:]]
    results = await run(engine, path, changed, on_changed="rerun")
    assert [result.id for result in results if not result.is_from_journal] == ["row-5"]
    assert len(gateway.keys) == 21


async def test_a_journal_of_another_model_is_refused(gateway: Gateway, path: Path) -> None:
    for model in ("one", "two"):
        async with ModelEngine(model, base_url=gateway.url, api_key=API_KEY) as engine:
            if model == "one":
                await run(engine, path)
                continue
            with pytest.raises(InputChangedError, match=r"another batch: .*model 'one', not 'two'"):
                await run(engine, path)


async def test_a_row_that_moved_keeps_its_result(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    await run(engine, path)
    gateway.reset()
    results = await run(engine, path, ROWS[::-1], ordered=True)
    assert [result.id for result in results] == [row["id"] for row in ROWS[::-1]]
    assert gateway.requests == 0


async def test_rows_that_the_input_has_no_more_are_counted(engine: ModelEngine, path: Path) -> None:
    await run(engine, path)
    batch = Batch(engine, journal=path)
    await batch.run(ROWS[:15])
    assert (batch.summary.absent, batch.summary.done, batch.summary.is_complete) == (5, 15, True)


async def test_a_journal_has_one_writer(engine: ModelEngine, path: Path) -> None:
    async with Batch(engine, journal=path):
        with pytest.raises(JournalLockedError):
            await run(engine, path)


async def test_a_second_run_leaves_the_journal_to_the_first(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "row 0."
        await gate.wait()
        yield "row 1."

    batch = Batch(engine, journal=path)
    running = asyncio.ensure_future(batch.run(source()))
    await gateway.until(lambda: gateway.requests == 1)
    with pytest.raises(BatchError, match="runs already"):
        await batch.run(["row 2."])
    gate.set()
    assert ((await running).done, gateway.requests) == (2, 2)


async def test_a_batch_that_was_entered_keeps_its_journal_open_between_runs(engine: ModelEngine, path: Path) -> None:
    async with Batch(engine, journal=path) as batch:
        await batch.run(["row 0."])
        assert batch.journal is not None
        assert (await batch.journal.counts()).done == 1
    assert batch.journal is None


async def test_a_journal_that_was_given_is_left_open(engine: ModelEngine, path: Path) -> None:
    async with await Journal.open(path) as journal:
        summary = await Batch(engine, journal=journal).run(ROWS)
        assert summary.done == (await journal.counts()).done == 20
        assert (await Batch(engine, journal=journal).run(ROWS)).from_journal == 20


async def test_a_journal_that_fails_ends_the_batch_and_nothing_unrecorded_is_given_out(
    engine: ModelEngine, path: Path
) -> None:
    journal = await Journal.open(path)
    taken, error = await take_all(Batch(engine, journal=journal, concurrency=4).results(ROWS), journal.close)
    assert isinstance(error, JournalError)
    again = await run(engine, path)
    assert {result.id for result in taken} <= {result.id for result in again if result.is_from_journal}
    assert counts(again) == {row["id"]: 1 for row in ROWS}


async def test_a_result_is_not_given_out_before_it_is_committed(
    engine: ModelEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    settle = Ledger.settle

    def held(ledger: Ledger, settlements: Any) -> Any:
        begun.set()
        assert released.wait(10)
        return settle(ledger, settlements)

    monkeypatch.setattr(Ledger, "settle", held)
    batch = Batch(engine, journal=path)
    taken: list[BatchResult] = []

    async def take() -> None:
        async for result in batch.results(ROWS[:1]):
            taken.append(result)  # noqa: PERF401  # what has come so far is looked at

    taking = asyncio.ensure_future(take())
    await turns_until(begun.is_set)
    for _ in range(100):
        await asyncio.sleep(0)
    before = (len(taken), batch.has_ready, batch.progress.in_flight)
    released.set()
    await taking
    assert (before, len(taken)) == ((0, False, 0), 1)


async def test_an_engine_without_keys_sends_none(gateway: Gateway, path: Path) -> None:
    stack = [each for each in default_stack() if not isinstance(each, Idempotency)]
    async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY, middleware=stack) as engine:
        results = await run(engine, path)
    assert ({result.idempotency_key for result in results}, gateway.keys) == ({None}, [])


async def test_no_secret_is_in_the_journal(gateway: Gateway, path: Path) -> None:
    gateway.script(rule(fail(400, message=f"your key {API_KEY} is fine"), message=contains("row 3.")))
    async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY) as engine:
        await run(engine, path)
    assert all(API_KEY.encode() not in each.read_bytes() for each in path.parent.iterdir())


async def test_what_stands_for_a_row_does_not_change_between_versions(engine: ModelEngine) -> None:
    """Else a journal of an older version would take each of its rows for changed."""
    call = engine._prepared("chat", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    assert call.body == b'{"model":"tiny-mock","messages":[{"role":"user","content":"Hi"}],"temperature":0}'
    assert fingerprint("openai", call).hex() == FINGERPRINT


FINGERPRINT = "ef6367b0396b9459ce04b20673cb69f3"


async def test_stopped_meanwhile_a_batch_goes_on_later(engine: ModelEngine, gateway: Gateway, path: Path) -> None:
    gateway.script(answer("one"), default=stall())
    _, error = await take_all(Batch(engine, journal=path, concurrency=4).results(ROWS), engine.stop)
    assert isinstance(error, EngineClosedError)
    gateway.script()
    await engine.start()
    assert counts(await run(engine, path)) == {row["id"]: 1 for row in ROWS}
    assert set(gateway.executions.values()) == {1}


async def test_a_batch_that_fails_to_begin_leaves_no_journal(engine: ModelEngine, path: Path) -> None:
    with pytest.raises(ConfigurationError):
        await run(engine, path, "no rows")
    assert list(path.parent.iterdir()) == []
    assert len(await run(engine, path)) == 20


async def test_a_batch_that_fails_to_begin_leaves_the_journal_that_was_there(engine: ModelEngine, path: Path) -> None:
    await (await Journal.open(path)).close()
    with pytest.raises(ConfigurationError):
        await run(engine, path, "no rows")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_a_batch_that_fails_after_its_first_row_leaves_its_journal(engine: ModelEngine, path: Path) -> None:
    with pytest.raises(ModelEngineError):
        await run(engine, path, [*ROWS[:8], ROWS[0]])
    assert any(result.is_from_journal for result in await run(engine, path, ROWS))


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_cancelled_at_any_wait_of_its_reader_a_batch_loses_and_repeats_nothing(
    gateway: Gateway, tmp_path: Path, is_ordered: bool
) -> None:
    rows = ROWS[:4]

    async def cancel_at(wait: int) -> bool:
        gateway.reset()
        gateway.script(rule(fail(429), message=contains("row 2."), times=1))
        path = tmp_path / f"{wait}.journal"
        taken: list[BatchResult] = []

        async def take(engine: ModelEngine) -> None:
            async with aclosing(
                Batch(engine, journal=path, concurrency=2, ordered=is_ordered).results(rows)
            ) as results:
                async for result in results:
                    taken.append(result)  # noqa: PERF401  # what came before the cancellation is wanted

        async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY) as engine:
            awaits = CountedAwaits[None](take(engine), at=wait, do=cancel_this_task)
            await asyncio.wait((asyncio.ensure_future(_run(awaits)),))
            await gateway.until(lambda: all(call.outcome != "running" for call in gateway.calls))
            left = [task for task in asyncio.all_tasks() - {asyncio.current_task()} if "batch" in repr(task.get_coro())]
            assert left == [], awaits.place
            again = await run(engine, path, rows)
        assert counts(again) == {row["id"]: 1 for row in rows}, awaits.place
        assert all(result.ok for result in again)
        assert {result.id for result in taken} <= {result.id for result in again if result.is_from_journal}
        assert set(gateway.executions.values()) == {1}
        assert len(gateway.keys) == 4
        return awaits.has_done

    assert await at_each_wait(cancel_at) > 6


async def _run(awaitable: Any) -> None:
    await awaitable


async def test_run_again_and_again_with_a_bad_network_each_row_is_executed_once(path: Path) -> None:
    """Drained at ten moments, with a gateway that fails a fifth of the requests."""
    rows = [{"id": f"row-{number}", "prompt": f"row {number}."} for number in range(300)]
    async with Gateway(api_key=API_KEY, script=[rule(hang_up(), probability=0.2)], seed=7) as gateway:
        for drain_after in [*range(5, 50, 5), 1000]:
            async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY) as engine:
                batch = Batch(engine, journal=path, concurrency=16, retry_failed="transient")
                sent = 0
                async for result in batch.results(rows):
                    sent += not result.is_from_journal
                    if sent == drain_after:
                        batch.drain()
        async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY) as engine:
            results = await run(engine, path, rows, retry_failed="transient")
        assert counts(results) == {row["id"]: 1 for row in rows}
        assert (len(gateway.keys), set(gateway.executions.values()) <= {0, 1}) == (300, True)
        assert [result.error for result in results if isinstance(result.error, ModelEngineError)] == []


async def test_ended_while_rows_are_written_down_those_rows_are_in_no_doubt(engine: ModelEngine, path: Path) -> None:
    async with await Journal.open(path) as journal:
        batch = Batch(engine, journal=journal, concurrency=4)
        async with aclosing(batch.results(ROWS)) as results:
            first = asyncio.ensure_future(anext(results))
            await turns_until(lambda: _has_read(batch))
            first.cancel()
            await asyncio.wait((first,))
        assert await journal.in_doubt() == []


def _has_read(batch: Batch) -> bool:
    try:
        return batch.progress.read > 0
    except BatchError:
        return False
