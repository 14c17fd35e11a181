"""Runs of several stages, in this process and over several."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from penstock import ModelEngine
from penstock.engine.bench.alone import Alone
from penstock.engine.bench.bench import Bench
from penstock.engine.bench.document import Document
from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.loads import Closed, Open, Until
from penstock.engine.bench.patience import Patience
from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompts import Prompt, PromptList
from penstock.engine.bench.recording import Lost, Recording, Stage
from penstock.engine.bench.synthetic import Length, Synthetic
from penstock.errors import ConfigurationError
from penstock.testing import Gateway, answer, fail, stall

from .runs import API_KEY

WORKERS = [0, 1, 3]


def _local() -> Callable[[str], int]:
    """A tokenizer that another process cannot import."""

    def count(text: str) -> int:
        return len(text)

    return count


def plan(gateway: Gateway, **options: Any) -> Plan:
    engine = {"model_or_config": "tiny-mock", "base_url": gateway.url, "api_key": API_KEY}
    return Plan(engine, PromptList(["Name a prime."]), **options)


@pytest.mark.parametrize("workers", WORKERS)
async def test_stages_are_run_in_order_and_all_is_kept(gateway: Gateway, workers: int) -> None:
    stages = [
        Stage(Closed(3), Until(requests=6), is_warm_up=True),
        Stage(Closed(3), Until(requests=20)),
        Stage(Open(200), Until(requests=15)),
    ]
    async with Bench(plan(gateway), workers=workers) as bench:
        recording = await bench.run(stages)
    assert [len(record.requests) for record in recording.stages] == [6, 20, 15]
    assert [len(record.clients) for record in recording.stages] == [max(1, workers)] * 3
    assert [record.position for record in recording.stages] == [0, 1, 2]
    assert gateway.requests == 41
    assert all(before.ended <= after.began for before, after in zip(recording.stages, recording.stages[1:]))


@pytest.mark.parametrize("workers", WORKERS)
async def test_the_schedule_is_the_same_however_many_processes_run_it(gateway: Gateway, workers: int) -> None:
    async with Bench(plan(gateway), workers=workers) as bench:
        record = await bench.run_stage(Stage(Open(300, seed=5), Until(requests=30)))
    due = sorted((moments.number, moments.scheduled - record.began) for moments in record.requests)
    offsets = Open(300, seed=5).offsets()
    assert due == [(number, next(offsets)) for number in range(30)]


async def test_a_request_that_is_asked_for_again_is_sent_as_before_and_another_is_not(gateway: Gateway) -> None:
    same, warm = {"temperature": 0}, {"temperature": 1}
    prompts = PromptList([Prompt(("a",), same), Prompt(("a",), same), Prompt(("b",), same), Prompt(("b",), warm)])
    engine = {"model_or_config": "tiny-mock", "base_url": gateway.url, "api_key": API_KEY}
    async with Bench(Plan(engine, prompts)) as bench:
        await bench.run_stage(Stage(Closed(1), Until(requests=5)))
    sent = [(call.body["messages"][0]["content"], call.body["temperature"]) for call in gateway.calls]
    assert sent == [("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 0)]


async def test_processes_add_up_to_one_histogram_of_all_gaps(gateway: Gateway) -> None:
    gateway.script(default=answer(pieces=["a", "b", "c", "d"], delay_s=0.002))
    async with Bench(plan(gateway, raw=True), workers=2) as bench:
        record = await bench.run_stage(Stage(Closed(4), Until(requests=12)))
    gaps = [
        later - earlier
        for moments in record.requests
        for earlier, later in zip(moments.stamps or [], (moments.stamps or [])[1:])
    ]
    assert record.gaps == Histogram(gaps)
    assert {moments.worker for moments in record.requests} == {0, 1}


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_stopped_run_has_what_was_measured(gateway: Gateway, workers: int) -> None:
    gateway.script(answer(pieces=["a"]), default=stall(after_events=1))
    async with Bench(plan(gateway), workers=workers) as bench:
        running = asyncio.ensure_future(bench.run([Stage(Closed(3), Until(requests=9)), Stage(Closed(1), Until(1))]))
        await gateway.until(lambda: gateway.open_streams == 3 and gateway.requests == 4, 10)
        bench.stop()
        recording = await running
    (record,) = recording.stages
    outcomes = sorted(moments.outcome for moments in record.requests)
    assert (record.ending, outcomes) == ("stopped", ["completed"] + ["unfinished"] * 3)


async def test_a_dead_server_ends_the_sweep(gateway: Gateway) -> None:
    gateway.script(default=fail(500))
    patience = Patience(failures=5, failing_s=0.0)
    async with Bench(plan(gateway, patience=patience)) as bench:
        recording = await bench.run([Stage(Closed(1), Until(duration_s=60)), Stage(Closed(2), Until(duration_s=60))])
    assert [record.ending for record in recording.stages] == ["dead"]


async def test_a_process_that_is_killed_is_said_to_be_lost_with_what_it_had(gateway: Gateway) -> None:
    """The others are stopped, and what they have measured is there; a stage that was over before is whole."""
    gateway.script(*[answer(pieces=["a"])] * 6, default=stall(after_events=1))
    stages = [Stage(Closed(2), Until(requests=6)), Stage(Closed(2), Until(requests=2)), Stage(Closed(1), Until(1))]
    async with Bench(plan(gateway), workers=2) as bench:
        running = asyncio.ensure_future(bench.run(stages))
        await gateway.until(lambda: gateway.requests == 8 and gateway.open_streams == 2, 10)
        os.kill(bench._crew._hands[1]._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        recording = await asyncio.wait_for(running, 20)
    whole, part = recording.stages
    assert (whole.ending, len(whole.requests), whole.lost) == ("requests", 6, [])
    assert (part.ending, [moments.worker for moments in part.requests]) == ("lost", [0])
    assert part.lost == [Lost(1, None, "it has ended with code -9", 0)]
    figures = Document(recording).figures()
    codes = [{remark.code for remark in stage.remarks} for stage in figures.stages]
    assert ["processes_lost" in each for each in codes] == [False, True]
    assert not figures.stages[1].is_valid


async def test_a_run_whose_processes_are_all_lost_ends_with_nothing(gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))
    async with Bench(plan(gateway), workers=2) as bench:
        running = asyncio.ensure_future(bench.run([Stage(Closed(2), Until(requests=2))]))
        await gateway.until(lambda: gateway.open_streams == 2, 10)
        for hand in bench._crew._hands:  # type: ignore[attr-defined]
            os.kill(hand._process.pid, signal.SIGKILL)
        recording = await asyncio.wait_for(running, 20)
    (record,) = recording.stages
    assert (record.ending, len(record.requests), [each.worker for each in record.lost]) == ("lost", 0, [0, 1])
    assert Document.of_json(orjson.loads(orjson.dumps(Document(recording).to_json()))).recording.stages == [record]


async def test_a_plan_that_cannot_work_is_refused_where_it_is_given() -> None:
    bad = Plan({"model_or_config": "m", "gateway": "no such thing"}, PromptList(["Hi."]))
    for workers in (0, 2):
        with pytest.raises(ConfigurationError, match="no such thing"):
            async with Bench(bad, workers=workers):
                pass


async def test_a_plan_that_cannot_be_sent_to_a_process_leaves_none_behind(gateway: Gateway) -> None:
    prompts = Synthetic(Length(5), count_tokens=_local())
    bench = Bench(Plan({"model_or_config": "m", "base_url": gateway.url}, prompts), workers=2)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        await bench.__aenter__()
    assert bench._crew._hands == []  # type: ignore[attr-defined]


async def test_a_process_ends_with_the_one_that_started_it() -> None:
    """Its standard input ends then, whatever ended the other."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock.engine.bench.worker", stdin=asyncio.subprocess.PIPE
    )
    assert worker.stdin is not None
    worker.stdin.close()
    assert await asyncio.wait_for(worker.wait(), 30) == 0


def test_a_number_of_processes_that_is_none_is_refused(gateway: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="workers="):
        Bench(plan(gateway), workers=-1)


async def test_an_engine_of_the_caller_is_measured_as_it_is(gateway: Gateway, engine: ModelEngine) -> None:
    gateway.script(fail(500), answer(pieces=["a", "b"]))
    async with Bench(plan(gateway), engine=engine) as bench:
        record = await bench.run_stage(Stage(Closed(1), Until(requests=1)))
    moments = record.requests[0]
    assert (moments.outcome, gateway.requests, moments.sent) == ("completed", 2, None)
    assert engine.is_running


async def test_progress_is_what_was_done(gateway: Gateway) -> None:
    for workers in (0, 2):
        async with Bench(plan(gateway), workers=workers) as bench:
            await bench.run_stage(Stage(Closed(2), Until(requests=4)))
            assert (bench.progress.started, bench.progress.completed, bench.progress.running) == (4, 4, 0)


async def test_what_was_measured_before_an_interruption_stays(gateway: Gateway) -> None:
    async with Bench(plan(gateway)) as bench:
        await bench.run_stage(Stage(Closed(1), Until(requests=2)))
        recording = bench.recording
    assert isinstance(recording, Recording)
    assert len(recording.stages) == 1


async def test_a_stop_before_the_stage_has_begun_is_not_forgotten(gateway: Gateway) -> None:
    crew = Alone(plan(gateway))
    await crew.start()
    try:
        crew.stop()
        running = crew.run(Stage(Closed(1), Until(duration_s=600)), 0, time.monotonic_ns())
        record = await asyncio.wait_for(running, 5)
    finally:
        await crew.close()
    assert (record.ending, len(record.requests), gateway.requests) == ("stopped", 0, 0)


async def test_what_runs_is_told(gateway: Gateway) -> None:
    stage = Stage(Closed(1), Until(requests=1))
    gateway.script(stall(when="before_headers"))
    async with Bench(plan(gateway)) as bench:
        running = asyncio.ensure_future(bench.run_stage(stage))
        await gateway.until(lambda: gateway.requests == 1, 20)
        assert bench.running is stage
        bench.stop()
        await running
