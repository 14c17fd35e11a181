"""Benchmarks on a real Ray cluster of two nodes: one schedule, one sum, workers that die or stand still."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock import errors
from penstock.engine.bench.document import Document
from penstock.engine.bench.hand import ClockOffset
from penstock.engine.bench.histogram import Histogram
from penstock.engine.bench.loads import Closed, Open, Until
from penstock.engine.bench.plan import Plan
from penstock.engine.bench.prompts import PromptList
from penstock.engine.bench.ray_bench import RayBench
from penstock.engine.bench.recording import Stage
from penstock.testing import Gateway, answer, stall
from tests.engine.cli.support import Result, finish, process
from tests.ray_cluster import KEY_IN_THE_ENVIRONMENT, TwoNodes, skip_without_ray, until_gone

PROMPT = "A prompt nobody else has."


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    skip_without_ray()
    cluster = TwoNodes()
    yield cluster
    cluster.stop()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(api_key=KEY_IN_THE_ENVIRONMENT) as running:
        yield running


def plan(gateway: Gateway, **options: Any) -> Plan:
    return Plan({"model_or_config": "tiny-mock", "base_url": gateway.url}, PromptList([PROMPT]), **options)


def bench_at(nodes: TwoNodes, gateway: Gateway, *, raw: bool = False, **options: Any) -> RayBench:
    return RayBench(plan(gateway, raw=raw), address=nodes.address, **options)


def outposts(bench: RayBench) -> list[int]:
    """The processes that Ray has begun for the workers, in their order."""
    return [hand.pid for hand in bench._workers._hands]  # type: ignore[attr-defined]


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rpartition(")")[2].split()[1] == str(pid)
    ]


async def test_two_workers_follow_one_schedule_and_add_up(nodes: TwoNodes, gateway: Gateway) -> None:
    """What a histogram says of all gaps is what a list of them says, and each moment is by the clock of its worker."""
    gateway.script(default=answer(pieces=["a", "b", "c", "d"], delay_s=0.002))
    async with bench_at(nodes, gateway, raw=True) as bench:
        workers = [pid for outpost in outposts(bench) for pid in children(outpost)]
        stages = [Stage(Open(100, seed=5), Until(requests=30)), Stage(Closed(4), Until(requests=12))]
        recording = await bench.run(stages)
    for record, count in zip(recording.stages, (30, 12)):
        assert sorted(moments.number for moments in record.requests) == list(range(count))
        assert {moments.outcome for moments in record.requests} == {"completed"}
        assert {moments.worker for moments in record.requests} == {0, 1}
        stamps = [moments.stamps or [] for moments in record.requests]
        assert record.gaps == Histogram(later - earlier for each in stamps for earlier, later in zip(each, each[1:]))
    first, offsets = recording.stages[0], Open(100, seed=5).offsets()
    due = sorted((moments.number, moments.scheduled - first.began) for moments in first.requests)
    assert due == [(number, next(offsets)) for number in range(30)]
    assert os.getpid() not in workers
    for pid in workers:
        until_gone(pid)


async def test_the_offset_of_a_clock_is_right_to_what_is_said_of_it(nodes: TwoNodes, gateway: Gateway) -> None:
    """The nodes are of one machine, so the clocks do not differ at all."""
    async with bench_at(nodes, gateway) as bench:
        clocks = await asyncio.gather(*(hand.clock() for hand in bench._workers._hands))
        record = await bench.run_stage(Stage(Closed(2), Until(requests=2)))
    for clock in clocks:
        assert abs(clock.offset_ns) <= clock.error_ns
    assert all(client.host and client.clock_error > 0 for client in record.clients)
    assert "clocks" in {remark.code for remark in Document(bench.recording).figures().stages[0].remarks}


@pytest.mark.parametrize("is_outpost", [True, False], ids=["what Ray began", "what that began"])
async def test_a_worker_that_is_killed_is_lost_with_what_it_had(
    nodes: TwoNodes, gateway: Gateway, is_outpost: bool
) -> None:
    gateway.script(default=answer("Yes.", ttft_s=0.02))
    async with bench_at(nodes, gateway) as bench:
        outpost = outposts(bench)[1]
        (worker,) = children(outpost)
        running = asyncio.ensure_future(bench.run([Stage(Closed(4), Until(duration_s=600)), Stage(Closed(2))]))
        await gateway.until(lambda: gateway.requests >= 200, 60)
        os.kill(outpost if is_outpost else worker, signal.SIGKILL)
        recording = await asyncio.wait_for(running, 60)
        until_gone(worker)
    (record,) = recording.stages
    assert (record.ending, [each.worker for each in record.lost]) == ("lost", [1])
    assert {moments.worker for moments in record.requests} == {0}
    assert 0 < record.lost[0].requests < gateway.requests
    stage = Document(recording).figures().stages[0]
    assert (stage.is_valid, stage.remarks[0].code) == (False, "processes_lost")
    assert stage.requests["completed"] > 0


async def test_a_worker_that_stands_still_is_lost_as_well(nodes: TwoNodes, gateway: Gateway) -> None:
    gateway.script(default=stall(after_events=1))
    async with bench_at(nodes, gateway, answer_within=2.0) as bench:
        (victim,) = children(outposts(bench)[0])
        running = asyncio.ensure_future(bench.run([Stage(Closed(2), Until(requests=2))]))
        await gateway.until(lambda: gateway.open_streams == 2, 60)
        os.kill(victim, signal.SIGSTOP)
        try:
            recording = await asyncio.wait_for(running, 60)
        finally:
            os.kill(victim, signal.SIGKILL)
    assert [each.why for each in recording.stages[0].lost] == ["it has said nothing for 2 s"]


async def test_a_stopped_run_has_what_was_measured(nodes: TwoNodes, gateway: Gateway) -> None:
    gateway.script(answer(pieces=["a"]), default=stall(after_events=1))
    async with bench_at(nodes, gateway) as bench:
        running = asyncio.ensure_future(bench.run([Stage(Closed(3), Until(requests=9)), Stage(Closed(1), Until(1))]))
        await gateway.until(lambda: gateway.open_streams == 3 and gateway.requests == 4, 60)
        bench.stop()
        recording = await asyncio.wait_for(running, 60)
    (record,) = recording.stages
    outcomes = sorted(moments.outcome for moments in record.requests)
    assert (record.ending, outcomes) == ("stopped", ["completed"] + ["unfinished"] * 3)


async def test_without_room_it_says_so_in_time(nodes: TwoNodes, gateway: Gateway) -> None:
    bench = bench_at(nodes, gateway, workers=3, worker_options={"num_cpus": 2}, start_within=5.0)
    with pytest.raises(errors.NoWorkersError, match=r"2 of 3 workers were there within 5 s; Ray has .* CPU free"):
        async with bench:
            pass
    assert gateway.requests == 0


async def test_as_many_workers_as_there_is_room_for(nodes: TwoNodes, gateway: Gateway) -> None:
    nodes.until_free(4)
    async with bench_at(nodes, gateway, workers="auto") as bench:
        assert len(bench) == 4
        record = await bench.run_stage(Stage(Closed(4), Until(requests=8)))
    workers = sorted(client.worker for client in record.clients)
    assert (len(record.requests), workers) == (8, [0, 1, 2, 3])


async def test_a_client_is_measured_where_it_is(nodes: TwoNodes, gateway: Gateway) -> None:
    async with bench_at(nodes, gateway, workers=1) as bench:
        calibration = await bench.calibrate(Closed(2))
    assert calibration.requests > 0
    assert calibration.text.startswith(f"this client on {os.uname().nodename} measures")


# The command


async def command(nodes: TwoNodes, gateway: Gateway, *options: str) -> Result:
    given = ("bench", gateway.url, "--model", "tiny-mock", "--prompt", PROMPT, "--runner", "ray", "--workers", "2")
    async with process(*given, "--ray-address", nodes.address, *options) as started:
        out, err = await asyncio.wait_for(started.communicate(), 120)
    return Result(started.returncode, out.decode(), err.decode())


async def test_the_command_keeps_key_and_prompts_out_of_the_logs(
    nodes: TwoNodes, gateway: Gateway, tmp_path: Path
) -> None:
    """A header may be a credential of another name; it goes as bytes, and no log shows it."""
    path, header = tmp_path / "run.json", "X-Team: team-of-nobody"
    result = await command(nodes, gateway, "--requests", "20", "--json", str(path), "--header", header)
    assert result.code in (0, 7), result.err
    assert result.out.startswith("== Penstock bench ==")
    assert re.search(r"^Outcome +20 completed$", result.out, re.MULTILINE)
    assert f"this client on {os.uname().nodename} measures" in result.err
    (stage,) = orjson.loads(path.read_bytes())["stages"]
    assert [bool(client["host"] and client["clock_error_ns"]) for client in stage["clients"]] == [True, True]
    assert gateway.calls[-1].headers["X-Team"] == "team-of-nobody"
    texts = [path.read_text(errors="replace") for path in nodes.logs.rglob("*") if path.is_file()]
    assert texts
    for secret in (KEY_IN_THE_ENVIRONMENT, PROMPT, "team-of-nobody"):
        assert not any(secret in text for text in texts)


async def test_the_command_reports_when_it_is_interrupted(nodes: TwoNodes, gateway: Gateway) -> None:
    gateway.script(default=answer("Yes.", ttft_s=0.02))
    given = ("bench", gateway.url, "--model", "tiny-mock", "--runner", "ray", "--workers", "2", "--no-calibration")
    options = ("--ray-address", nodes.address, "--duration", "600")
    async with process(*given, *options) as started:
        await gateway.until(lambda: gateway.requests >= 40, 60)
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, "Traceback" in result.err) == (130, False)
    assert "The run was stopped before its end." in result.out


# What cannot work


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ({}, {"workers": 0}),
        ({}, {"start_within": 0}),
        ({}, {"answer_within": -1}),
        ({}, {"worker_options": {"max_restarts": 3}}),
        ({}, {"address": "ray://127.0.0.1:10001"}),
        ({"api_key": "sk-in-the-clear"}, {}),
    ],
    ids=["workers", "start_within", "answer_within", "worker_options", "address", "key"],
)
def test_options_that_cannot_work_are_refused(engine: dict[str, Any], options: dict[str, Any]) -> None:
    skip_without_ray()
    with pytest.raises(errors.ConfigurationError) as raised:
        RayBench(Plan({"model_or_config": "tiny-mock", **engine}, PromptList([PROMPT])), **options)
    assert "sk-in-the-clear" not in str(raised.value)


async def test_where_there_is_no_cluster_it_says_so(gateway: Gateway) -> None:
    skip_without_ray()
    with pytest.raises(errors.ConfigurationError, match="no Ray cluster at '127"):
        async with RayBench(plan(gateway), address="127.0.0.1:1"):
            pass


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'penstock\[ray\]'"):
        RayBench(Plan({"model_or_config": "tiny-mock"}, PromptList([PROMPT])))


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (ClockOffset(1000, 50), ClockOffset(1010, 20), 50),  # what the first says is the worst
        (ClockOffset(1000, 50), ClockOffset(1400, 70), 470),  # it ran ahead in between
        (ClockOffset(1000, 50), ClockOffset(600, 70), 470),
        (ClockOffset(), ClockOffset(), 0),
    ],
    ids=["steady", "ahead", "behind", "this machine"],
)
def test_the_error_of_a_clock_has_what_it_went_astray_in_it(
    before: ClockOffset, after: ClockOffset, error: int
) -> None:
    assert before.error_until(after) == error
