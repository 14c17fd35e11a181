"""Do two workers on Ray take at least 0.85 times as many rows a second as two processes without it?

    python benchmarks/batch_ray.py [ROWS]

Both make the same calls against the same server, which answers after a fixed time, with as many rows in flight. The two
processes have half of the rows each, a `Batch` without a journal, and nothing between them: what Ray adds is the way of
the rows to the workers and back, through one process that reads and writes all of them. So on a machine with few cores
there is a rate above which that process is what is measured; both loads are shown, one far below it and one above.

Each is measured three times, in turn, without its first rows, so that the start of Ray does not count. Needs
``penstock[ray]``, and begins a cluster of two nodes.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from harness import Spread, report
from load_server import BODY

from penstock import ModelEngine
from penstock.engine.batch.batch import Batch
from penstock.engine.batch.ray_batch import RayBatch
from penstock.engine.exchange import Operation
from penstock.engine.gateways import OpenAICompatibleGateway

ROWS = 20_000
LOADS = {"gentle": (0.2, 100), "full": (0.02, 200)}  # seconds for an answer, rows in flight
TIMES = 3
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Keyed(OpenAICompatibleGateway):
    """A gateway that is known to honour keys, so that workers may have rows ahead."""

    name = "keyed"
    chat = Operation("chat", "POST", "/v1/chat/completions", keys="honoured")


class Waiter(asyncio.Protocol):
    """A connection whose requests are answered after a while, one after another."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, rest = self._read.partition(b"\r\n\r\n")
        if not blank:
            return
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if len(rest) >= length:
            self._read = rest[length:]
            asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Waiter(seconds), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def child(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """This script in a process of its own, doing one of its parts."""
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


async def rows_a_second(batch: Batch, count: int) -> float:
    """From when a fifth of the rows is done: all workers are there by then."""
    began, done = 0.0, 0
    async for result in batch.results(f"Say {number}." for number in range(count)):
        assert result.ok, result.error
        done += 1
        if done == count // 5:
            began = time.perf_counter()
    return (count - count // 5) / (time.perf_counter() - began)


async def plain(url: str, count: int, in_flight: int) -> None:
    """One of the two processes."""
    async with ModelEngine("tiny", gateway=Keyed(), base_url=url) as engine:
        print(await rows_a_second(Batch(engine, concurrency=in_flight), count), flush=True)


def two_processes(url: str, count: int, in_flight: int) -> float:
    with child("plain", url, count // 2, in_flight // 2) as one, child("plain", url, count // 2, in_flight // 2) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        return float(one.stdout.readline()) + float(two.stdout.readline())


def two_workers(address: str, url: str, count: int, in_flight: int) -> tuple[float, float]:
    """Rows a second, and milliseconds of processor time that a row takes in this process."""
    batch = RayBatch(
        partial(ModelEngine, "tiny", gateway=Keyed(), base_url=url), address=address, concurrency=in_flight
    )
    before = time.process_time()
    rate = asyncio.run(rows_a_second(batch, count))
    return rate, (time.process_time() - before) / count * 1000


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster on this machine, begun for the time."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils: Any = import_module("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def main(count: int) -> None:
    figures: dict[str, float] = {}
    with two_nodes() as address:
        for load, (seconds, in_flight) in LOADS.items():
            rows = min(count, int(in_flight / seconds * 20))  # 20 s of it are enough
            ratios, with_ray, costs = [], [], []
            with child("serve", seconds) as server:
                assert server.stdout is not None
                url = server.stdout.readline().strip()
                for _ in range(TIMES):
                    without = two_processes(url, rows, in_flight)
                    rate, cost = two_workers(address, url, rows, in_flight)
                    ratios.append(rate / without)
                    with_ray.append(rate)
                    costs.append(cost)
            print(f"{load}: {in_flight} in flight, {seconds:g} s for an answer, {rows} rows")
            print(f"  rows/s with Ray          {Spread.of(with_ray)}")
            print(f"  of two processes         {Spread.of(ratios)}")
            print(f"  ms a row, this process   {Spread.of(costs)}")
            figures[f"{load}_ratio"] = Spread.of(ratios).median
            figures[f"{load}_rows_per_s"] = Spread.of(with_ray).median
            figures[f"{load}_driver_ms_per_row"] = Spread.of(costs).median
    figures["driver_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report("batch_ray", figures)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", seconds]:
            asyncio.run(serve(float(seconds)))
        case ["plain", url, count, in_flight]:
            asyncio.run(plain(url, int(count), int(in_flight)))
        case [count]:
            main(int(count))
        case _:
            main(ROWS)
