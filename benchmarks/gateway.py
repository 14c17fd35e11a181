"""Does the testing gateway serve at least as many events per second and core as our engine reads on another?

Two measurements, each with the gateway in a process and on a core of its own:

* events: streams as fast as they go. The CPU time of each of the two processes for one event is what its core could
  serve or read at most; the ratio of the two says whose core would be full first. In writes of 16 KiB, which is how
  benchmarks serve, and in one write for each event;
* pace: 4,000 streams at once. How late each event is written against its schedule, at the median and in the worst of
  a hundred. The client reads raw sockets, so that it takes as little of the machine as can be.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import pin, raise_file_limit, report

from penstock import ModelEngine
from penstock.engine.testing.reel import Reel
from penstock.testing import Gateway, Script, answer

PIECES = 2000  # events of an unpaced stream
STREAMS = 16  # of them at the same time
WORD = " event"
WRITES: dict[str, int | str] = {"16 KiB a write": 16384, "an event a write": "event"}
RATE = 10.0  # events per second of a paced stream
LATE_MS = 10.0  # the aim
OPENING_S = 40.0  # at most, until all paced streams are there
OPENED_PER_S = 487  # so slowly that they are not behind from the first; a prime, so that their moments are spread
SETTLE_S = 3.0  # what is behind catches up


def main() -> int:
    options = _options()
    if options.serve is not None:
        asyncio.run(_serve(json.loads(options.serve)))
        return 0
    pin(0)
    raise_file_limit()
    figures: dict[str, float] = {}
    for name, chunking in WRITES.items():
        figures |= _events(name, chunking, options.rounds)
    figures |= _pace(options.streams, options.rate, options.seconds)
    report("gateway", figures)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of the first measurement (default: 7)")
    parser.add_argument("--streams", type=int, default=4000, metavar="N", help="paced, at once (default: 4000)")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help=f"events per second (default: {RATE:g})")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="N", help="of the pace (default: 5)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


# The gateway's process


async def _serve(task: dict[str, Any]) -> None:
    """Serve until stdin ends; each line there is answered by what this process did since the last."""
    pin(1)
    raise_file_limit()
    lateness: list[float] = []
    paced = "delay_s" in task
    if paced:
        _watch(lateness)
    script = Script(default=answer(**task))
    async with Gateway(script=script, keep_calls=16, keep_bodies=False, idempotency="ignore") as gateway:
        print(gateway.url, flush=True)
        cpu, starved = time.process_time(), _waited_for_core_s()
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line == "settle\n":  # streams are open, and what is there stays there
                gc.collect()
                gc.freeze()
            elif line == "begin\n":
                lateness.clear()
            late = sorted(lateness)
            waited = _waited_for_core_s()
            told = {
                "starved_s": waited - starved,
                "cpu_s": time.process_time() - cpu,
                "streams": gateway.open_streams,
                "late_ms": [1000 * late[int(len(late) * share)] for share in (0.5, 0.99, 0.999)] if late else [],
                "events": len(late),
            }
            print(json.dumps(told), flush=True)
            cpu, starved = time.process_time(), waited


def _waited_for_core_s() -> float:
    """How long this process could have run and was not let, since it began. 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _watch(lateness: list[float]) -> None:
    """Note how long after its moment each event is written."""
    write = Reel._write

    def noted(reel: Reel, data: bytes) -> None:
        lateness.append(reel._loop.time() - reel._due)
        write(reel, data)

    Reel._write = noted  # type: ignore[assignment, method-assign]


@contextmanager
def _gateway(**answered: Any) -> Iterator[tuple[str, Any]]:
    """The URL of a gateway that gives this answer, and a function that asks it what it did."""
    command = [sys.executable, __file__, "--serve", json.dumps(answered)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def ask(line: str = "") -> dict[str, Any]:
            stdin.write(f"{line}\n")
            stdin.flush()
            return json.loads(stdout.readline())  # type: ignore[no-any-return]

        try:
            yield stdout.readline().strip(), ask
        finally:
            stdin.close()


# The first measurement


def _events(name: str, chunking: int | str, rounds: int) -> dict[str, float]:
    served, read = [], []
    with _gateway(pieces=[WORD] * PIECES, chunking=chunking) as (url, ask):
        for _ in range(rounds + 1):
            ask()
            cpu = time.process_time()
            events = asyncio.run(_read(url))
            read.append((time.process_time() - cpu) / events * 1e6)
            served.append(ask()["cpu_s"] / events * 1e6)
    serve_us, read_us = statistics.median(served[1:]), statistics.median(read[1:])  # the first round warms up
    print(
        f"{name}: the gateway serves {1e6 / serve_us:,.0f} events/s and core ({serve_us:.2f} µs of CPU each), "
        f"the engine reads {1e6 / read_us:,.0f} ({read_us:.2f} µs): ratio {read_us / serve_us:.2f} (aim: >= 1)"
    )
    key = name.replace(" ", "_")
    return {f"{key}_serve_us": serve_us, f"{key}_read_us": read_us, f"{key}_ratio": read_us / serve_us}


async def _read(url: str) -> int:
    """Read streams with the engine; returns how many events came."""
    async with ModelEngine("tiny-mock", base_url=url) as engine:
        counts = await asyncio.gather(*(_read_one(engine) for _ in range(STREAMS)))
    if set(counts) != {PIECES}:
        raise RuntimeError(f"{PIECES} pieces were sent in each stream, and {sorted(set(counts))} came")
    return sum(counts)


async def _read_one(engine: ModelEngine) -> int:
    count = 0
    async for chunk in engine.stream_call("Go"):
        count += bool(chunk.delta_content)
    return count


# The second


def _pace(streams: int, rate: float, seconds: float) -> dict[str, float]:
    """Open the streams evenly, let them catch up, then measure."""
    events = int(rate * (seconds + OPENING_S))
    with _gateway(pieces=[WORD] * events, delay_s=1 / rate) as (url, ask), selectors.DefaultSelector() as selector:
        _open(url, streams, selector)
        _drain_for(1.0, selector)
        give_up = time.monotonic() + OPENING_S
        while (opened := ask()["streams"]) != streams:
            if time.monotonic() > give_up:
                raise RuntimeError(f"{streams} streams were asked for, and {opened} are open")
            _drain_for(0.5, selector)
        ask("settle")
        _drain_for(SETTLE_S, selector)
        ask("begin")
        start = time.monotonic()
        _drain_for(seconds, selector)
        told, wall = ask(), time.monotonic() - start
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    if told["streams"] != streams:
        raise RuntimeError(f"{streams} streams were open, and {told['streams']} are left")
    p50, p99, p999 = told["late_ms"]
    cost_us = told["cpu_s"] / told["events"] * 1e6
    print(
        f"pace: {streams} streams of {rate:g} events/s, {told['events']} events: written {p50:.2f} ms after their "
        f"moment at the median, {p99:.2f} ms at p99 (aim: < {LATE_MS:g}), {p999:.2f} ms at p99.9; {cost_us:.1f} µs of "
        f"CPU each; the gateway had its core for {told['cpu_s'] / wall:.0%} of the time and waited for it for "
        f"{told['starved_s'] / wall:.0%} (0 % on a machine that does nothing else)"
    )
    return {
        "late_p50_ms": p50,
        "late_p99_ms": p99,
        "late_p999_ms": p999,
        "paced_us": cost_us,
    }


def _open(url: str, streams: int, selector: selectors.BaseSelector) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    body = b'{"model":"tiny-mock","stream":true,"messages":[{"role":"user","content":"Go"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    start = time.monotonic()
    for number in range(streams):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(head % len(body) + body)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        if number % 100 == 0:
            _drain_for(0.0, selector)
        time.sleep(max(0.0, start + number / OPENED_PER_S - time.monotonic()))


def _drain_for(seconds: float, selector: selectors.BaseSelector) -> None:
    """Read and forget what comes, in few and large reads."""
    end = time.monotonic() + seconds
    while True:
        for key, _ in selector.select(timeout=0):
            key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(0.05, left))


if __name__ == "__main__":
    sys.exit(main())
