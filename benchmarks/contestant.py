"""Runs one library in its own interpreter, on a core of its own: tasks come as lines of JSON, results go as such.

    python contestant.py <module in peers> <asyncio or uvloop> <URL of the load server>

The first line out tells what there is to measure. Measured is CPU time of this process, all of it: what a library does
in threads counts.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # our modules behind all others: a library may have one of the same name

from corpora import corpus
from harness import pin, raise_file_limit
from peers.base import Peer, Work

WAVE = 256  # streams that are opened at the same time
POLL = 0.01  # seconds between two looks at whether all streams are open
PAGE = os.sysconf("SC_PAGE_SIZE")
RESIDENT: list[int] = []  # bytes, while a batch runs


async def describe(peer: Peer) -> dict[str, Any]:
    parsers = {name: parser.corpora for name, parser in peer.parsers.items()}
    named = {"readers": list(peer.readers), "callers": list(peer.callers), "parsers": parsers}
    kinds = {name: [batcher.is_resume, batcher.is_alone] for name, batcher in peer.batchers.items()}
    return {**named, "batchers": kinds}


async def stream(peer: Peer, reader: str, prompt: str, streams: int, least: float) -> dict[str, Any]:
    """Read streams that have no pace, at the same time and to their end; again and again for so many seconds of CPU."""
    read = peer.readers[reader]
    texts: set[str] = set()
    total, runs = 0.0, 0
    while not runs or total < least:
        taken: list[list[Any]] = [[] for _ in range(streams)]
        gc.collect()
        cpu = time.process_time()
        if streams == 1:
            await read(prompt, taken[0].append)
        else:
            await asyncio.gather(*(read(prompt, pieces.append) for pieces in taken))
        total += time.process_time() - cpu
        runs += 1
        texts.update(digests(taken))
    return {"cpu": total, "runs": runs, "texts": sorted(texts)}


async def paced(
    peer: Peer, reader: str, prompt: str, streams: int, seconds: float, open_within: float
) -> dict[str, Any]:
    """Read paced streams, and measure for a while when all of them run."""
    read = peer.readers[reader]
    taken: list[list[Any]] = [[] for _ in range(streams)]
    reading: list[asyncio.Future[Any]] = []
    try:
        await open_in_waves(reading, [partial(read, prompt, pieces.append) for pieces in taken], taken, open_within)
        await opened(reading, taken, 2, open_within)
        before, wall, cpu = events(taken), time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        cpu, wall, after = time.process_time() - cpu, time.monotonic() - wall, events(taken)
        await asyncio.gather(*reading)
    finally:
        await ended(reading)
    return {"cpu": cpu, "wall": wall, "events": after - before, "texts": digests(taken)}


async def lag(
    peer: Peer, reader: str, prompt: str, streams: int, pieces: int, open_within: float, end_within: float
) -> dict[str, Any]:
    """Read paced streams to their end, and tell how old events are when they arrive."""
    read = peer.readers[reader]
    first: list[list[int]] = [[] for _ in range(streams)]
    lags: list[int] = []
    now = time.monotonic_ns

    def taker(opening: list[int]) -> Callable[[Any], object]:
        def take(piece: Any) -> None:
            moment = now()
            for stamp in stamps(piece):
                if opening:
                    lags.append(moment - stamp)
                else:
                    opening.append(stamp)  # sent with the head, while others still open

        return take

    reading: list[asyncio.Future[Any]] = []
    try:
        await open_in_waves(reading, [partial(read, prompt, taker(opening)) for opening in first], first, open_within)
        wall, cpu, stolen = time.monotonic(), time.process_time(), stolen_seconds()
        await asyncio.wait_for(asyncio.gather(*reading), end_within)
        cpu, wall, stolen = time.process_time() - cpu, time.monotonic() - wall, stolen_seconds() - stolen
    finally:
        await ended(reading)
    if len(lags) != streams * (pieces - 1):
        raise ValueError(f"{len(lags)} events came in the place of {streams * (pieces - 1)}")
    lags.sort()
    median, p99 = lags[len(lags) // 2], lags[len(lags) * 99 // 100]
    share = {"busy": cpu / wall, "stolen": stolen / wall}
    return {"p50_ms": median / 1e6, "p99_ms": p99 / 1e6, "max_ms": lags[-1] / 1e6, **share}


async def memory(peer: Peer, reader: str, prompt: str, streams: int, open_within: float) -> dict[str, Any]:
    """Open streams, hold them for three events each, and close the library with all of them open."""
    read = peer.readers[reader]
    taken: list[list[Any]] = [[] for _ in range(streams)]
    gc.collect()
    before, started = resident_bytes(), time.monotonic()
    reading: list[asyncio.Future[Any]] = []
    try:
        await open_in_waves(reading, [partial(read, prompt, pieces.append) for pieces in taken], taken, open_within)
        opening = time.monotonic() - started
        await opened(reading, taken, 3, open_within)
        await asyncio.sleep(1)
        counts = [len(pieces) for pieces in taken]
        gc.collect()
        held = resident_bytes() - before
    finally:
        started = time.monotonic()
        await peer.close()
        await ended(reading)
    return {
        "bytes": held / streams,
        "open_s": opening,
        "stop_s": time.monotonic() - started,
        "fewest": min(counts),
        "most": max(counts),
    }


async def unary(peer: Peer, caller: str, calls: int, concurrency: int) -> dict[str, Any]:
    """Make calls, so many of them at a time."""
    call = peer.callers[caller]
    turns = iter(range(calls))
    texts: set[str] = set()

    async def work() -> None:
        for _ in turns:
            texts.add(await call("Name a prime."))

    gc.collect()
    wall, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return {"cpu": cpu, "wall": wall, "texts": sorted(texts)}


async def batch(peer: Peer, batcher: str, rows: int, concurrency: int, samples: int = 0) -> dict[str, Any]:
    """Take rows through, and look at the memory now and then."""
    contestant = peer.batchers[batcher]
    with tempfile.TemporaryDirectory() as folder:
        work = Work(rows, concurrency, Path(folder))
        if contestant.prepare is not None:
            await contestant.prepare(work)
        gc.collect()
        before = resident_bytes()
        sampling = asyncio.ensure_future(sampled(samples))
        wall, cpu = time.monotonic(), time.process_time()
        done = await contestant.run(work)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    return {"cpu": cpu, "wall": wall, "done": done, "before": before, "peak": peak_bytes(), "resident": RESIDENT}


async def sampled(samples: int) -> None:
    """Note the resident memory so many times a minute, in `RESIDENT`."""
    RESIDENT.clear()
    while samples:
        await asyncio.sleep(60 / samples)
        RESIDENT.append(resident_bytes())


async def parse(peer: Peer, parser: str, name: str, pieces: int, cut: str, times: int) -> dict[str, Any]:
    """Decode a stream that is in memory, in a thread: some decoders want an event loop of their own."""
    contestant, data = peer.parsers[parser], corpus(name, pieces)
    reads = data.payloads if contestant.wants_payloads else cuts(data.events, cut)
    loop = asyncio.get_running_loop()

    def decode() -> tuple[float, list[Any]]:
        objects: list[Any] = []
        gc.collect()
        cpu = time.process_time()
        for _ in repeat(None, times):
            objects = contestant.decode(reads)
        return time.process_time() - cpu, objects

    cpu, objects = await loop.run_in_executor(None, decode)
    return {"cpu": cpu / times, "texts": [digest(contestant.text(objects).encode())]}


async def open_in_waves(
    reading: list[asyncio.Future[Any]],
    reads: list[Callable[[], Awaitable[object]]],
    taken: list[list[Any]],
    within: float,
) -> None:
    """Start to read, a few hundred streams at a time: the system's queue of new connections is not what is measured.

    Args:
        reading: Where the tasks are put.
        reads: What starts each.
        taken: What each has had so far.
        within: Seconds.
    """
    until = time.monotonic() + within
    for start in range(0, len(reads), WAVE):
        reading += [asyncio.ensure_future(read()) for read in reads[start : start + WAVE]]
        await opened(reading, taken, 1, until - time.monotonic())


async def opened(reading: Sequence[asyncio.Future[Any]], taken: list[list[Any]], pieces: int, within: float) -> None:
    """Wait until each stream has had so many pieces.

    Raises:
        TimeoutError: That took too long.
    """
    waiting = list(zip(reading, taken))
    until = time.monotonic() + within
    while waiting := [(task, got) for task, got in waiting if len(got) < pieces]:
        for task, _ in waiting:
            if task.done():
                await task  # raises what it failed of
                raise ValueError("a stream ended before it had begun")
        if time.monotonic() > until:
            got = len(reading) - len(waiting)
            raise TimeoutError(f"{got} of {len(taken)} streams had {pieces} events in time")
        await asyncio.sleep(POLL)


async def ended(reading: Sequence[asyncio.Future[Any]]) -> None:
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


def events(taken: list[list[Any]]) -> int:
    """How many events were taken. Bytes may have several in one piece."""
    return sum(piece.count(b"\n\n") or 1 if isinstance(piece, bytes) else 1 for pieces in taken for piece in pieces)


def stamps(piece: Any) -> list[int]:
    """The times that stand in a piece."""
    if isinstance(piece, str):
        return [int(stamp) for stamp in piece.split()]
    marks = [part.split(b" ", 1)[0] for part in piece.split(b'"content":"')[1:]]
    return [int(mark) for mark in marks if mark.isdigit()]


def digests(taken: list[list[Any]]) -> list[str]:
    """What was delivered, once for each that differs. Bytes count without the blank lines between events."""
    return sorted({digest(joined(pieces)) for pieces in taken})


def joined(pieces: list[Any]) -> bytes:
    if pieces and isinstance(pieces[0], bytes):
        return b"".join(pieces).replace(b"\n\n", b"")
    return "".join(pieces).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def cuts(stream_events: tuple[bytes, ...], cut: str) -> list[bytes]:
    """The reads of a stream: ``"event"`` has one in each, ``"16384"`` and ``"1"`` are bytes."""
    if cut == "event":
        return list(stream_events)
    size, whole = int(cut), b"".join(stream_events)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def waited_seconds() -> float:
    """How long this process could have run and did not, because another one did. 0 where that is not told."""
    if not os.path.exists("/proc/self/schedstat"):
        return 0.0
    with open("/proc/self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def stolen_seconds() -> float:
    """How long the cores together were taken away by the machine's other guests. 0 where the kernel does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def peak_bytes() -> int:
    """The most that was ever resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


TASKS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "describe": describe,
    "stream": stream,
    "paced": paced,
    "lag": lag,
    "memory": memory,
    "unary": unary,
    "batch": batch,
    "parse": parse,
}


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = import_module(name).new_event_loop()
    return loop


def main(module: str, loop_name: str, url: str) -> None:
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not a result
    logging.disable(logging.CRITICAL)
    pin(0)
    raise_file_limit()
    loop = new_loop(loop_name)
    asyncio.set_event_loop(loop)
    peer: Peer = loop.run_until_complete(import_module(f"peers.{module}").connect(url))
    for line in sys.stdin:
        task = json.loads(line)
        started, waited = time.monotonic(), waited_seconds()
        result: dict[str, Any]
        try:
            result = loop.run_until_complete(TASKS[task.pop("do")](peer, **task))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        result["disturbed"] = (waited_seconds() - waited) / (time.monotonic() - started)
        print(json.dumps(result), file=results, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
