"""Batches on a real Ray cluster of two nodes: workers that die, that never come, that stand still."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from penstock import ModelEngine, errors
from penstock.engine.batch.batch import Batch
from penstock.engine.batch.ray_batch import RayBatch
from penstock.engine.batch.results import BatchResult
from penstock.engine.batch.row_retry import RowRetry
from penstock.middleware import Backoff
from penstock.testing import Gateway, answer
from tests.outcomes import failure
from tests.ray_cluster import KEY_IN_THE_ENVIRONMENT, TwoNodes, skip_without_ray, until_gone
from tests.ray_story import story
from tests.redis_server import RedisServer, skip_without_redis

SOON = RowRetry(5, Backoff(0.0, 0.0, 0.0))
SLOW = answer("Hello.", ttft_s=0.05)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    skip_without_ray()
    cluster = TwoNodes()
    yield cluster
    cluster.stop()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """One that is known to honour keys, and brings the answer back with a replay."""
    async with Gateway(dialect="modelgov", keep_content=True) as running:
        yield running


def engine_for(url: str) -> ModelEngine:
    who = {"user_id": "u", "user_type": "t", "feature": "f"}
    return ModelEngine("tiny-mock", gateway="modelgov", params=who, base_url=url)


def batch_at(nodes: TwoNodes, gateway: Gateway, **options: Any) -> RayBatch:
    given = {"workers": 2, "concurrency": 20, "row_attempts": SOON, **options}
    return RayBatch(partial(engine_for, gateway.url), address=nodes.address, **given)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row-{number}", "prompt": f"Say {number}."} for number in range(count)]


def pids(batch: RayBatch) -> list[int]:
    """The processes of its workers."""
    return [seat.facts.pid for seat in batch._runner._seats if seat.facts is not None]  # type: ignore[attr-defined]


async def all_of(batch: RayBatch, count: int, at: int | None = None, deed: Any = None) -> list[BatchResult]:
    """All results of so many rows; `deed` is done with the `at`-th."""
    results: list[BatchResult] = []
    async for result in batch.results(rows(count)):
        results.append(result)
        if len(results) == at:
            deed()
    return results


def assert_each_once(gateway: Gateway, results: list[BatchResult], count: int) -> None:
    assert sorted(result.id for result in results) == sorted(row["id"] for row in rows(count))
    assert [result.error for result in results if not result.ok] == []
    assert len(gateway.executions) == count
    assert set(gateway.executions.values()) == {1}


async def test_each_row_is_answered_once_by_two_workers(nodes: TwoNodes, gateway: Gateway, tmp_path: Path) -> None:
    batch = batch_at(nodes, gateway, journal=tmp_path / "j")
    workers: list[int] = []
    results = await all_of(batch, 100, 1, lambda: workers.extend(pids(batch)))
    assert_each_once(gateway, results, 100)
    assert batch.summary.done == 100
    assert os.getpid() not in workers
    for pid in workers:
        until_gone(pid)


async def test_rows_of_a_killed_worker_are_sent_again_with_the_same_keys(
    nodes: TwoNodes, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.script(default=SLOW)
    batch = batch_at(nodes, gateway, journal=tmp_path / "j")
    results = await all_of(batch, 300, 50, lambda: os.kill(pids(batch)[0], signal.SIGKILL))
    assert_each_once(gateway, results, 300)
    repeated = [result for result in results if len(result.attempts) > 1]
    assert 1 <= len(repeated) <= 15  # 10 in flight, 5 ahead
    assert {result.attempts[0].error for result in repeated} == {"WorkerLostError"}
    assert batch.summary.possibly_duplicated == 0


async def test_with_a_worker_killed_and_redis_begun_anew_each_key_is_executed_once(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    skip_without_redis()
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        books = await story(nodes, redis, tmp_path, 1500)
    finally:
        redis.stop()
    books.check(1500)


async def test_where_no_key_is_known_to_protect_they_are_listed(nodes: TwoNodes) -> None:
    async with Gateway(idempotency="ignore", script=[]) as gateway:
        gateway.script(default=SLOW)
        make = partial(ModelEngine, "tiny-mock", base_url=gateway.url)
        batch = RayBatch(make, address=nodes.address, workers=2, concurrency=20, row_attempts=SOON)
        results = await all_of(batch, 200, 50, lambda: os.kill(pids(batch)[0], signal.SIGKILL))
    assert len(results) == 200
    doubtful = {result.id for result in results if result.possibly_duplicated}
    ran_twice = [key for key, times in gateway.executions.items() if times > 1]
    assert set(batch.summary.possibly_duplicated_ids) == doubtful
    assert len(ran_twice) <= len(doubtful) <= 10
    assert doubtful


async def test_a_worker_that_stands_still_is_lost_as_well(nodes: TwoNodes, gateway: Gateway) -> None:
    gateway.script(default=SLOW)
    batch = batch_at(nodes, gateway, answer_within=1.0)
    held: list[int] = []

    def hold() -> None:
        held.append(pids(batch)[0])
        os.kill(held[0], signal.SIGSTOP)

    try:
        results = await all_of(batch, 200, 50, hold)
    finally:
        os.kill(held[0], signal.SIGKILL)
    assert_each_once(gateway, results, 200)


async def test_a_batch_without_room_for_workers_says_so_in_time(nodes: TwoNodes, gateway: Gateway) -> None:
    batch = batch_at(nodes, gateway, worker_options={"num_cpus": 100}, start_within=1.0)
    with pytest.raises(errors.NoWorkersError) as raised:
        await batch.run(rows(3))
    assert "none of 2 workers was there within 1 s" in str(raised.value)
    assert "CPU free where a worker needs 100" in str(raised.value)
    assert gateway.requests == 0


async def test_when_no_worker_comes_back_the_run_ends_and_can_be_taken_up(
    nodes: TwoNodes, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.script(default=SLOW)
    lonely = nodes.add_node(island=2)
    options = {"worker_options": {"resources": {"island": 1}}, "start_within": 5.0, "answer_within": 1.0}
    batch = batch_at(nodes, gateway, journal=tmp_path / "j", **options)
    error = await failure(all_of(batch, 200, 50, partial(nodes.remove_node, lonely)))
    assert isinstance(error, errors.NoWorkersError)
    assert 50 <= batch.summary.done < 200
    again = await all_of(batch_at(nodes, gateway, journal=tmp_path / "j"), 200)
    assert_each_once(gateway, again, 200)
    assert sum(result.is_from_journal for result in again) >= batch.summary.done


async def test_leaving_early_ends_the_workers_and_the_next_run_goes_on(
    nodes: TwoNodes, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.script(default=SLOW)
    batch = batch_at(nodes, gateway, journal=tmp_path / "j")
    seen, workers = 0, []
    async with aclosing(batch.results(rows(200))) as results:
        async for _ in results:
            seen += 1
            if seen == 30:
                workers = pids(batch)
                break
    for pid in workers:
        until_gone(pid)
    assert_each_once(gateway, await all_of(batch_at(nodes, gateway, journal=tmp_path / "j"), 200), 200)


async def test_draining_finishes_what_the_workers_have(nodes: TwoNodes, gateway: Gateway, tmp_path: Path) -> None:
    gateway.script(default=SLOW)
    batch = batch_at(nodes, gateway, journal=tmp_path / "j")
    results = await all_of(batch, 200, 30, batch.drain)
    assert 30 <= len(results) < 200
    assert not batch.summary.is_complete
    assert gateway.requests == len(results)


DRIVER = """
import asyncio, sys
from functools import partial
from importlib import import_module
from penstock import ModelEngine
from penstock.engine.batch.ray_batch import RayBatch

async def main(address, url, journal):
    who = {"user_id": "u", "user_type": "t", "feature": "f"}
    make = partial(ModelEngine, "tiny-mock", gateway="modelgov", params=who, base_url=url)
    rows = ({"id": f"row-{number}", "prompt": f"Say {number}."} for number in range(200))
    async for result in RayBatch(make, address=address, concurrency=20, journal=journal).results(rows):
        print(result.id, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_run_whose_driver_was_killed_is_taken_up_with_the_same_keys(
    nodes: TwoNodes, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.script(default=SLOW)
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRIVER, nodes.address, gateway.url, str(tmp_path / "j"), stdout=asyncio.subprocess.PIPE
    )
    assert driver.stdout is not None
    for _ in range(60):
        assert await driver.stdout.readline()
    driver.kill()
    await driver.communicate()
    results = await all_of(batch_at(nodes, gateway, journal=tmp_path / "j"), 200)
    assert_each_once(gateway, results, 200)
    assert sum(result.is_from_journal for result in results) >= 60


async def test_a_key_stays_on_the_workers_and_rows_out_of_the_logs(nodes: TwoNodes) -> None:
    async with Gateway(api_key=KEY_IN_THE_ENVIRONMENT) as gateway:
        make = partial(ModelEngine, "tiny-mock", base_url=gateway.url)
        batch = RayBatch(make, address=nodes.address, workers=1, concurrency=5)
        summary = await batch.run([{"prompt": "A prompt nobody else has."}])
    assert summary.done == 1
    texts = [path.read_text(errors="replace") for path in nodes.logs.rglob("*") if path.is_file()]
    assert texts
    for secret in (KEY_IN_THE_ENVIRONMENT, "A prompt nobody else has"):
        assert not any(secret in text for text in texts)


def unlucky(where: int) -> ModelEngine:
    if os.getpid() != where:
        raise KeyError("no such thing")
    return engine_for("http://127.0.0.1:1")


async def test_an_engine_that_cannot_be_made_on_a_worker_ends_the_run(nodes: TwoNodes) -> None:
    batch = RayBatch(partial(unlucky, os.getpid()), address=nodes.address)
    with pytest.raises(errors.ConfigurationError, match="cannot be made on a worker: KeyError: 'no such thing'"):
        await batch.run(rows(3))


def other_gateway(where: int) -> ModelEngine:
    url = "http://127.0.0.1:1"
    return engine_for(url) if os.getpid() == where else ModelEngine("tiny-mock", gateway="openai", base_url=url)


async def test_a_worker_that_speaks_with_another_gateway_is_refused(nodes: TwoNodes) -> None:
    batch = RayBatch(partial(other_gateway, os.getpid()), address=nodes.address)
    with pytest.raises(errors.ConfigurationError, match="has gateway openai, and here is modelgov"):
        await batch.run(rows(3))


async def test_a_cluster_that_is_connected_already_is_left(nodes: TwoNodes, gateway: Gateway) -> None:
    ray: Any = import_module("ray")
    ray.init(nodes.address, log_to_driver=False)
    try:
        make = partial(engine_for, gateway.url)
        assert (await RayBatch(make, workers=1).run(rows(3))).done == 3
        assert ray.is_initialized()
    finally:
        ray.shutdown()


async def test_where_there_is_no_cluster_it_says_so(gateway: Gateway) -> None:
    skip_without_ray()
    with pytest.raises(errors.ConfigurationError, match="no Ray cluster at '127"):
        await RayBatch(partial(engine_for, gateway.url), address="127.0.0.1:1").run(rows(1))


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"concurrency": 0},
        {"concurrency": "auto"},
        {"start_within": 0},
        {"answer_within": -1},
        {"worker_options": {"max_restarts": 3}},
        {"address": "ray://127.0.0.1:10001"},
        {"requests_per_minute": 60},
        {"make_engine": partial(ModelEngine, "tiny-mock", api_key="sk-in-the-clear")},
        pytest.param({"make_engine": lambda: "an engine"}, id="no engine"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    skip_without_ray()
    given: dict[str, Any] = {"make_engine": partial(engine_for, "http://127.0.0.1:1"), **options}
    with pytest.raises(errors.ConfigurationError) as raised:
        RayBatch(given.pop("make_engine"), **given)
    assert "sk-in-the-clear" not in str(raised.value)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(errors.ConfigurationError, match=r"penstock\[ray\]"):
        RayBatch(partial(engine_for, "http://127.0.0.1:1"))
    assert issubclass(RayBatch, Batch)
