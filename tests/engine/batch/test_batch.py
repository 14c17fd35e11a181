"""Rows in, results out: each once, so many at a time, whatever happens to a row, to the source or to the reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from penstock import ModelEngine, Timeouts
from penstock.engine.batch.batch import Batch
from penstock.engine.batch.counters import BatchSummary
from penstock.engine.batch.errands import Outcome, Prepared
from penstock.engine.batch.results import BatchResult
from penstock.engine.batch.row_retry import RowRetry
from penstock.engine.batch.runner import Done
from penstock.engine.errors import (
    BadRowError,
    BatchError,
    ConfigurationError,
    DeadlineExceededError,
    DuplicateRowError,
    EngineClosedError,
    EngineNotStartedError,
    InvalidRequestError,
    OverloadedError,
)
from penstock.middleware.concurrency import AdaptiveConcurrency
from penstock.middleware.limiter import Limiter
from penstock.middleware.policy import Backoff
from penstock.middleware.retry import Retry
from penstock.middleware.stack import default_stack
from penstock.testing import Gateway, answer, contains, fail, rule, stall
from tests.clocks import FakeClock, HeldClock
from tests.conftest import API_KEY
from tests.engine.batch.takes import take_all, turns_until

AT_ONCE = RowRetry(3, Backoff(0.0, 0.0, 0.0))


def prompts(count: int) -> list[str]:
    return [f"row {number}." for number in range(count)]


async def ids(results: AsyncIterator[BatchResult]) -> list[str]:
    return [result.id async for result in results]


def engine_for(gateway: Gateway, **options: Any) -> ModelEngine:
    return ModelEngine("tiny-mock", base_url=gateway.url, api_key=API_KEY, **options)


async def test_each_row_has_one_result_and_is_executed_once(engine: ModelEngine, gateway: Gateway) -> None:
    answers = {result.id: result.response.content async for result in engine.batch(prompts(300), concurrency=16)}
    assert set(answers) == {str(number) for number in range(300)}
    assert all(f'"row {row_id}."' in content for row_id, content in answers.items())
    assert (gateway.requests, set(gateway.executions.values())) == (300, {1})


async def test_results_come_in_the_order_of_the_rows_when_that_is_asked_for(
    engine: ModelEngine, gateway: Gateway
) -> None:
    gateway.script(answer(delay_s=0.002, pieces=list("slow")))
    assert await ids(engine.batch(prompts(100), concurrency=8, ordered=True)) == [str(n) for n in range(100)]


async def test_no_more_rows_are_in_flight_than_asked_for(engine: ModelEngine, gateway: Gateway) -> None:
    results = engine.batch(prompts(200), concurrency=5)
    async for _ in results:
        assert results.progress.in_flight <= 5
    assert gateway.connections <= 5


async def test_a_row_that_fails_is_a_result_and_the_others_go_on(engine: ModelEngine, gateway: Gateway) -> None:
    gateway.script(rule(fail(400), message=contains("row 3.")))
    failed = [result async for result in engine.batch(prompts(20)) if not result.ok]
    assert [(result.id, type(result.error)) for result in failed] == [("3", InvalidRequestError)]
    assert failed[0].error is not None
    assert (failed[0].error.row_id, len(failed[0].attempts)) == ("3", 1)
    assert gateway.requests == 20


async def test_a_row_that_fails_is_raised_after_the_results_of_what_was_in_flight(
    engine: ModelEngine, gateway: Gateway
) -> None:
    gateway.script(rule(fail(400), message=contains("row 3.")))
    taken, error = await take_all(engine.batch(prompts(200), concurrency=4, on_error="raise"))
    assert isinstance(error, InvalidRequestError)
    assert (error.row_id, "row '3'" in str(error)) == ("3", True)
    assert "3" not in {result.id for result in taken}
    assert len(taken) == gateway.requests - 1 < 199


async def test_a_row_that_is_none_is_a_result_and_nothing_is_sent_for_it(engine: ModelEngine, gateway: Gateway) -> None:
    rows = ["Hi", 3, BadRowError("line 3 is not JSON"), {"prompt": "Hi", "timeout": 3}, "Ho"]
    results = [result async for result in engine.batch(rows, ordered=True)]
    assert [type(result.error).__name__ for result in results] == [
        "NoneType",
        "BadRowError",
        "BadRowError",
        "InvalidRequestError",
        "NoneType",
    ]
    assert [result.row.position for result in results] == [0, 1, 2, 3, 4]
    assert gateway.requests == 2


async def test_the_same_id_twice_ends_the_batch_after_the_rows_before(engine: ModelEngine, gateway: Gateway) -> None:
    rows = [{"id": row_id, "prompt": "Hi"} for row_id in ("a", "b", "a", "c")]
    taken, error = await take_all(engine.batch(rows))
    assert isinstance(error, DuplicateRowError)
    assert error.message == "row 2 has the id 'a', which came before"
    assert sorted(result.id for result in taken) == ["a", "b"]
    assert gateway.requests == 2


async def test_an_async_source_is_read_as_it_gives_rows(engine: ModelEngine) -> None:
    """A row is sent before the source has given the next."""
    answered = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await answered.wait()
        yield "second"

    seen = []
    async for result in engine.batch(source()):
        seen.append(result.id)
        answered.set()
    assert seen == ["0", "1"]


async def give_two_and_fail() -> AsyncIterator[str]:
    yield "one"
    yield "two"
    raise LookupError("no third")


def give_two_and_fail_at_once() -> Iterator[str]:
    yield "one"
    yield "two"
    raise LookupError("no third")


@pytest.mark.parametrize("source", [give_two_and_fail, give_two_and_fail_at_once])
async def test_what_the_source_raises_comes_after_the_results_of_all_rows_before(
    engine: ModelEngine, source: Any
) -> None:
    taken, error = await take_all(engine.batch(source()))
    assert ([result.ok for result in taken], repr(error)) == ([True, True], "LookupError('no third')")


async def test_a_reader_who_stops_stops_the_source(engine: ModelEngine) -> None:
    read = 0

    def source() -> Iterator[str]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield f"row {number}"

    async with aclosing(engine.batch(source(), concurrency=2)) as results:
        await anext(results)
        await turns_until(lambda: not results.progress.in_flight)  # the window is full
        assert read <= 257


async def test_a_slow_first_row_holds_back_no_more_than_the_window(engine: ModelEngine, gateway: Gateway) -> None:
    gateway.script(rule(stall(), message=contains("row 0.")))
    async with aclosing(engine.batch((f"row {n}." for n in range(100_000)), concurrency=4, ordered=True)) as results:
        first = asyncio.ensure_future(anext(results))
        await gateway.until(lambda: gateway.requests >= 256)
        for _ in range(50):
            await asyncio.sleep(0)
        assert results.progress.read == gateway.requests == 256
        first.cancel()
        await asyncio.wait((first,))


async def test_left_early_a_batch_ends_what_is_in_flight(engine: ModelEngine, gateway: Gateway) -> None:
    gateway.script(answer("one"), default=stall())
    async for result in engine.batch(prompts(1000), concurrency=8):
        assert result.ok
        break
    await gateway.until(lambda: gateway.requests > 1 and all(call.outcome != "running" for call in gateway.calls))
    assert asyncio.all_tasks() - {asyncio.current_task()} == {
        task for task in asyncio.all_tasks() if "web_protocol" in repr(task)
    }


async def test_a_batch_drains(engine: ModelEngine, gateway: Gateway) -> None:
    results = engine.batch(prompts(1000), concurrency=4)
    seen, sent = [], 0
    async for result in results:
        seen.append(result)
        sent = sent or results.progress.requests + results.progress.in_flight
        results.drain()
    assert len(seen) == gateway.requests <= sent < 1000
    assert not results.summary.is_complete


async def drained_with_two_in_flight(gateway: Gateway, rows: int) -> BatchSummary:
    """A batch that is told to drain before its first two requests have left."""
    gate = asyncio.Event()

    async def holding(request: Any, handler: Any) -> Any:
        await gate.wait()
        return await handler(request)

    async with engine_for(gateway, middleware=[holding, *default_stack()]) as engine:
        batch = Batch(engine, concurrency=2)
        running = asyncio.ensure_future(batch.run(prompts(rows)))
        for _ in range(50):  # until it has nothing to do but wait for these
            await asyncio.sleep(0)
        assert (batch.progress.in_flight, batch.progress.queued) == (2, rows - 2)
        batch.drain()
        gate.set()
        return await running


async def test_drained_a_batch_sends_none_of_the_rows_that_are_ready(gateway: Gateway) -> None:
    summary = await drained_with_two_in_flight(gateway, 100)
    assert (summary.done, gateway.requests, summary.is_complete) == (2, 2, False)


async def test_drained_with_all_rows_in_flight_a_batch_is_complete(gateway: Gateway) -> None:
    summary = await drained_with_two_in_flight(gateway, 2)
    assert (summary.done, gateway.requests, summary.is_complete) == (2, 2, True)


async def test_an_engine_that_is_stopped_meanwhile_ends_the_batch(engine: ModelEngine, gateway: Gateway) -> None:
    gateway.script(answer("one"), default=stall())
    taken, error = await take_all(engine.batch(prompts(1000), concurrency=4), engine.stop)
    assert ([result.ok for result in taken], type(error)) == ([True], EngineClosedError)


async def test_a_bug_of_a_middleware_ends_the_batch(gateway: Gateway) -> None:
    async def buggy(request: Any, handler: Any) -> Any:
        if b"row 3." in request.body:
            raise LookupError("a bug")
        return await handler(request)

    async with engine_for(gateway, middleware=[buggy, *default_stack()]) as engine:
        taken, error = await take_all(engine.batch(prompts(1000), concurrency=4))
    assert repr(error) == "LookupError('a bug')"
    assert len(taken) == gateway.requests < 1000


async def test_a_call_that_is_cancelled_by_what_it_waits_for_ends_the_batch(gateway: Gateway) -> None:
    async def cancelled(request: Any, handler: Any) -> Any:
        if b"row 3." in request.body:
            raise asyncio.CancelledError
        return await handler(request)

    async with engine_for(gateway, middleware=[cancelled, *default_stack()]) as engine:
        taking = take_all(engine.batch(prompts(1000), concurrency=4))
        taken, error = await asyncio.wait_for(taking, 20)
    assert (type(error), "was cancelled" in str(error)) == (BatchError, True)
    assert len(taken) == gateway.requests < 1000


async def test_a_source_that_is_cancelled_has_not_come_to_its_end(engine: ModelEngine) -> None:
    async def source() -> AsyncIterator[str]:
        yield "row 0."
        raise asyncio.CancelledError

    taken, error = await asyncio.wait_for(take_all(engine.batch(source())), 20)
    assert (len(taken), type(error), "source of the rows" in str(error)) == (1, BatchError, True)


async def test_a_call_that_loses_its_cancellation_does_not_hold_up_the_end(gateway: Gateway) -> None:
    gateway.script(answer("one"), default=stall())

    async def losing(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            raise OverloadedError("too much") from None

    async with engine_for(gateway, middleware=[losing, *default_stack()]) as engine:
        results = engine.batch(prompts(100), concurrency=4)
        await anext(results)
        await asyncio.wait_for(results.aclose(), 20)
    assert gateway.requests < 10


async def test_a_batch_needs_a_started_engine(gateway: Gateway) -> None:
    with pytest.raises(EngineNotStartedError):
        await anext(engine_for(gateway).batch(["Hi"]))


async def test_a_row_goes_back_when_the_engine_has_given_up(gateway: Gateway) -> None:
    gateway.script(*[fail(503)] * 3)
    stack = default_stack(retry=Retry(max_attempts=2, backoff=Backoff(0, 0, 0)))
    async with engine_for(gateway, middleware=stack) as engine:
        [result] = [result async for result in Batch(engine, row_attempts=AT_ONCE).results(["Hi"])]
    assert result.ok
    assert [attempt.number for attempt in result.attempts] == [1, 2, 3, 4]
    assert [attempt.status for attempt in result.attempts] == [503, 503, 503, 200]
    assert len(gateway.keys) == 1


async def test_a_row_has_its_own_budget(gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    async with engine_for(gateway, middleware=default_stack(retry=Retry(max_attempts=1))) as engine:
        batch = Batch(engine, row_attempts=AT_ONCE)
        [result] = [result async for result in batch.results(["Hi"])]
    assert (type(result.error), len(result.attempts), gateway.requests) == (OverloadedError, 3, 3)
    assert (batch.summary.errors, batch.summary.retries) == ({"OverloadedError": 1}, 2)


async def test_a_row_waits_as_long_as_the_gateway_says_and_holds_no_lane(gateway: Gateway) -> None:
    clock = FakeClock()
    gateway.script(rule(fail(429, retry_after=300), message=contains("row 0."), times=1))
    async with engine_for(gateway, clock=clock) as engine:
        seen = await ids(Batch(engine, concurrency=1, row_attempts=2).results(prompts(5)))
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert sum(clock.sleeps) >= 300


async def test_a_row_has_a_deadline_over_all_its_calls(gateway: Gateway) -> None:
    gateway.script(default=stall())
    async with engine_for(gateway) as engine:
        batch = Batch(engine, row_deadline=0.05)
        [result] = [result async for result in batch.results(["Hi"])]
    assert isinstance(result.error, DeadlineExceededError)


async def test_a_sink_that_fails_is_given_the_rest_of_what_was_in_flight(engine: ModelEngine, gateway: Gateway) -> None:
    seen = []

    def sink(result: BatchResult) -> None:
        seen.append(result.id)
        if len(seen) == 3:
            raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        await Batch(engine, concurrency=4).run(prompts(1000), sink)
    assert len(seen) == gateway.requests < 1000


async def test_a_sink_may_wait(engine: ModelEngine) -> None:
    seen = []

    async def sink(result: BatchResult) -> None:
        await asyncio.sleep(0)
        seen.append(result.id)

    summary = await Batch(engine).run(prompts(10), sink)
    assert (len(seen), summary.done, summary.is_complete) == (10, 10, True)


async def test_a_sink_is_told_of_the_beginning_and_the_end(engine: ModelEngine) -> None:
    class Sink:
        def __init__(self) -> None:
            self.told: list[Any] = []

        async def start(self, journal: Any) -> None:
            self.told.append(journal)

        def __call__(self, result: BatchResult) -> None:
            self.told.append(result.id)

        async def finish(self, is_complete: bool) -> None:
            self.told.append(is_complete)

        async def close(self) -> None:
            self.told.append("closed")

    sink = Sink()
    await Batch(engine).run(["Hi"], sink)
    assert sink.told == [None, "0", True, "closed"]
    with pytest.raises(DuplicateRowError):
        await Batch(engine).run([{"id": "a", "prompt": "Hi"}] * 2, sink)
    assert sink.told[4:] == [None, "a", "closed"]


async def test_the_summary_counts(engine: ModelEngine, gateway: Gateway) -> None:
    gateway.script(rule(fail(400), message=contains("row 3.")))
    summary = await Batch(engine).run(prompts(10))
    assert (summary.read, summary.done, summary.failed, summary.errors) == (10, 9, 1, {"InvalidRequestError": 1})
    assert (summary.requests, summary.in_flight, summary.queued, summary.waiting) == (10, 0, 0, 0)
    assert summary.output_tokens > summary.input_tokens > 0
    assert summary.rows_per_second > 0


async def test_drained_a_batch_does_not_wait_for_rows_that_wait(gateway: Gateway) -> None:
    gateway.script(default=fail(503))
    async with engine_for(gateway, clock=HeldClock(), middleware=default_stack(retry=Retry(max_attempts=1))) as engine:
        batch = Batch(engine, concurrency=2)
        running = asyncio.ensure_future(batch.run(prompts(2)))
        await gateway.until(lambda: gateway.requests == 2)
        await turns_until(lambda: batch.progress.waiting == 2)
        batch.drain()
        summary = await running
    assert (summary.done, summary.failed, summary.is_complete) == (0, 0, False)
    assert (summary.requests, summary.retries) == (2, 0)


async def test_one_run_at_a_time(engine: ModelEngine) -> None:
    batch = Batch(engine)
    async with aclosing(batch.results(prompts(10))) as results:
        await anext(results)
        with pytest.raises(BatchError, match="runs already"):
            await batch.run(prompts(10))
    assert (await batch.run(prompts(10))).done == 10


async def test_concurrency_that_finds_itself_keeps_to_its_limit(gateway: Gateway) -> None:
    gateway.script(default=answer("x", delay_s=0.002, chunking=64))
    async with engine_for(gateway) as engine:
        batch = Batch(engine, concurrency=AdaptiveConcurrency(2, 1, 8))
        lanes = set()
        async for _ in batch.results(prompts(200)):
            progress = batch.progress
            lanes.add(progress.lanes)
            assert progress.in_flight <= progress.lanes + 1
    assert max(lanes) > 2
    assert gateway.connections <= 8


async def test_concurrency_that_finds_itself_falls_when_the_gateway_has_too_much(gateway: Gateway) -> None:
    gateway.script(*[fail(429)] * 4)
    async with engine_for(gateway, clock=FakeClock()) as engine:
        batch = Batch(engine, concurrency=AdaptiveConcurrency(8, 1, 8))
        await batch.run(prompts(4))
        assert (batch.progress.lanes, batch.summary.done) == (5, 4)


async def test_lanes_come_and_go_with_what_the_runner_allows(engine: ModelEngine) -> None:
    """Many end together when there are to be fewer: one has to stay."""

    class Narrowing:
        rows_a_lane = 1

        def __init__(self) -> None:
            self.lanes = 0
            self.gate = asyncio.Event()
            self.most = self.running = 0

        async def start(self) -> None:
            self.lanes = 20

        async def run(self, rows: Sequence[Prepared], done: Done) -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == 20:
                self.lanes = 1
                self.gate.set()
            await self.gate.wait()
            self.running -= 1
            for prepared in rows:
                done(prepared, Outcome({"choices": []}))

        async def stop(self) -> None:
            pass

    runner = Narrowing()
    summary = await Batch(engine, runner=runner).run(prompts(50))
    assert (summary.done, runner.most) == (50, 20)


async def test_rows_start_no_faster_than_the_rate_allows(gateway: Gateway) -> None:
    clock = FakeClock()
    async with engine_for(gateway, clock=clock, timeouts=Timeouts(queue=1.0)) as engine:
        summary = await Batch(engine, concurrency=8, requests_per_minute=60).run(prompts(30))
    assert summary.done == 30
    assert clock.monotonic() >= 19  # 10 s of the rate may start at once


async def test_answers_have_no_more_tokens_than_the_rate_allows(gateway: Gateway) -> None:
    clock = FakeClock()
    async with engine_for(gateway, clock=clock, timeouts=Timeouts(queue=1.0)) as engine:
        summary = await Batch(engine, concurrency=4, tokens_per_minute=600).run(prompts(100))
    tokens = summary.input_tokens + summary.output_tokens
    assert (summary.done, gateway.requests, tokens) == (100, 100, 1900)
    assert clock.monotonic() >= (tokens - 100 - 4 * 19) / 10  # 10 s of the rate at once, and what was in flight last


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": "many"},
        {"concurrency": True},
        {"on_error": "ignore"},
        {"in_doubt": "ask"},
        {"retry_failed": "some"},
        {"on_changed": "skip"},
        {"row_attempts": 0},
        {"row_deadline": 0},
        {"key_lifetime": -1},
        {"requests_per_minute": 0},
    ],
)
async def test_options_that_cannot_work_are_refused(engine: ModelEngine, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Batch(engine, **options)


async def test_two_limiters_are_refused(gateway: Gateway) -> None:
    async with engine_for(gateway, middleware=default_stack(limiter=Limiter(3))) as engine:
        with pytest.raises(ConfigurationError, match="has a Limiter already"):
            Batch(engine, requests_per_minute=60)


async def test_concurrency_that_finds_itself_follows_the_limiter_of_the_engine(gateway: Gateway) -> None:
    async with engine_for(gateway, middleware=default_stack(limiter=Limiter(3))) as engine:
        batch = Batch(engine, concurrency="auto")
        await batch.run(prompts(20))
        assert (batch.progress.lanes, gateway.connections) == (3, 3)


@pytest.mark.parametrize("source", ["rows.jsonl", {"prompt": "Hi"}, 3])
async def test_what_cannot_be_rows_is_refused(engine: ModelEngine, source: Any) -> None:
    with pytest.raises(ConfigurationError, match="the rows of a batch are an iterable"):
        await anext(engine.batch(source))


async def test_embeddings_are_rows_as_well(engine: ModelEngine) -> None:
    [result] = [result async for result in engine.batch([{"id": "e", "input": ["one", "two"]}])]
    assert len(result.embeddings.embeddings) == 2
    assert result.body is not None
    assert isinstance(result.body["data"][0]["embedding"], list)
