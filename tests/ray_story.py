"""What a batch on Ray goes through on a bad day, and the books of the gateway at its end.

    python -m tests.ray_story [ROWS]        20,000 rows unless told otherwise

Two nodes, two workers, one limit for both in Redis. In the middle one worker is killed, and Redis is killed and begun
again with nothing in it. At the end every row is in the output once, and the gateway has executed every key once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from penstock import ModelEngine
from penstock.engine.batch.counters import BatchSummary
from penstock.engine.batch.ray_batch import RayBatch
from penstock.engine.batch.row_retry import RowRetry
from penstock.middleware import Auth, Backoff, Idempotency, Retry
from penstock.middleware.shared_limiter import SharedLimiter
from penstock.testing import Gateway, answer

from .ray_cluster import TwoNodes, until_gone
from .redis_server import RedisServer

CONCURRENCY = 100  # of both workers


@dataclass(frozen=True)
class Books:
    """How it ended.

    Args:
        rows: How often each row came out.
        executions: How often the gateway has executed each key.
        summary: Of the run.
        is_back: Whether the workers have found Redis again.
    """

    rows: Counter[str]
    executions: dict[str, int]
    summary: BatchSummary
    is_back: bool

    def check(self, count: int) -> None:
        """Raise an `AssertionError` unless every row is in the output once and was executed once."""
        assert self.rows == Counter(f"row-{number}" for number in range(count))
        assert len(self.executions) == count
        assert set(self.executions.values()) == {1}
        assert (self.summary.done, self.summary.failed, self.summary.possibly_duplicated) == (count, 0, 0)
        assert self.is_back


def make_engine(url: str, redis_url: str) -> ModelEngine:
    """An engine for a gateway that honours keys, with a limit that all workers share."""
    limiter = SharedLimiter(redis_url, "story", workers=2, concurrency=CONCURRENCY, requests_per_minute=600_000)
    stack: list[Any] = [Idempotency(), Retry(), limiter, Auth()]
    who = {"user_id": "u", "user_type": "t", "feature": "f"}
    return ModelEngine("tiny-mock", gateway="modelgov", base_url=url, params=who, middleware=stack)


async def story(nodes: TwoNodes, redis: RedisServer, folder: Path, count: int) -> Books:
    """Live through it."""
    rows: Counter[str] = Counter()
    async with Gateway(dialect="modelgov", keep_content=True, keep_bodies=False) as gateway:
        gateway.script(default=answer("Hello.", ttft_s=0.02))
        batch = RayBatch(
            partial(make_engine, gateway.url, redis.url),
            address=nodes.address,
            concurrency=CONCURRENCY,
            journal=folder / "journal",
            row_attempts=RowRetry(5, Backoff(0.0, 0.0, 0.0)),
        )
        results = batch.results({"id": f"row-{number}", "prompt": f"Say {number}."} for number in range(count))
        is_back = False
        async for result in results:
            rows[result.id] += 1
            if rows.total() == count // 3:
                kill_a_worker(batch)
            if rows.total() == count // 2:
                redis.stop()
            if rows.total() == count * 2 // 3:
                redis.start()
            if rows.total() > count * 2 // 3 and not is_back:
                is_back = await has_keys(redis)
                await asyncio.sleep(0.02)  # who takes results slowly has the workers send slowly
        return Books(rows, dict(gateway.executions), batch.summary, is_back)


def kill_a_worker(batch: RayBatch) -> None:
    runner = batch._runner
    pids = [seat.facts.pid for seat in runner._seats if seat.facts is not None]  # type: ignore[attr-defined]
    os.kill(pids[0], signal.SIGKILL)
    until_gone(pids[0])


async def has_keys(redis: RedisServer) -> bool:
    """Whether Redis has anything in it."""
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url) as client:
        return int(await client.dbsize()) > 0


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, nodes = RedisServer(folder), TwoNodes()
        redis.start()
        try:
            began = time.monotonic()
            books = asyncio.run(story(nodes, redis, folder, count))
            seconds = time.monotonic() - began
        finally:
            nodes.stop()
            redis.stop()
    books.check(count)
    repeats = books.summary.requests - count
    print(f"{count} rows in {seconds:.1f} s: each once in the output, each key executed once, {repeats} sent again")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
