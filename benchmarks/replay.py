"""Is a replay the recording: the same reads, byte for byte, within 5 ms of their time (p99)?

A server sends paced streams to many clients at once, which record them; then they are played as many at once, in the
process and by the proxy, which is another process. Late is what comes after the time that the cassette tells, counted
from the request on; by the proxy from the head on, since connecting takes its own time. The last figure is what costs
most in recording: the reads per second that one core takes the secrets out of.

    .venv/bin/python benchmarks/replay.py [--streams 50] [--reads 100]
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from harness import report

from penstock import Record, Replay
from penstock.engine.cassette.library import load
from penstock.engine.cassette.lines import Read
from penstock.engine.cassette.scrub import BodyScrubber, Scrubber

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORTEST, LONGEST = 0.001, 0.040  # seconds between two events, as of fast and slow models
KEY = "sk-benchmark-0123456789abcdef"


@dataclass(frozen=True)
class Heard:
    """What a client read, and when, in seconds from its request on."""

    name: str
    head: float
    reads: list[tuple[float, bytes]]


def events(seed: int, count: int) -> list[tuple[float, bytes]]:
    """The pauses and events of a stream."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefgh ", k=chance.randint(1, 12))) for _ in range(count)]
    frames = [f'data: {{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}\n\n'.encode() for word in words]
    return [(chance.uniform(SHORTEST, LONGEST), frame) for frame in frames]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD)
    due = time.monotonic()
    for pause, frame in events(int(head.split(b" ")[1].strip(b"/")), count):
        due += pause
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
    writer.write(b"0\r\n\r\n")
    writer.close()


async def listen(session: aiohttp.ClientSession, url: str, name: str) -> Heard:
    started = time.monotonic()
    async with session.get(f"{url}/{name}", headers={"Authorization": f"Bearer {KEY}"}) as response:
        head = time.monotonic() - started
        return Heard(name, head, [(time.monotonic() - started, data) async for data in response.content.iter_any()])


async def listen_to_all(url: str, streams: int, *middlewares: Record | Replay) -> list[Heard]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(middlewares=middlewares, connector=connector) as session:
        return await asyncio.gather(*(listen(session, url, str(number)) for number in range(streams)))


def told(path: Path) -> dict[str, Heard]:
    """What a cassette tells, by the name of the stream."""
    streams: dict[str, Heard] = {}
    for each in load(path):
        assert each.head is not None
        name = each.asked.url.rpartition("/")[2]
        reads = [(event.at, event.data) for event in each.events if isinstance(event, Read)]
        streams[name] = Heard(name, each.head.at, reads)
    return streams


def borders(reads: Sequence[tuple[float, bytes]]) -> dict[int, float]:
    """Where reads end, in bytes, and when they came."""
    size = 0
    return {(size := size + len(data)): at for at, data in reads}


def compare(recorded: dict[str, Heard], heard: Sequence[Heard], *, since_head: bool = False) -> tuple[int, list[float]]:
    """How many ends of reads are at other places than recorded, and how many seconds each of the rest was late."""
    late: list[float] = []
    others = 0
    for each in heard:
        model = recorded[each.name]
        wanted, came = borders(model.reads), borders(each.reads)
        if b"".join(data for _, data in each.reads) != b"".join(data for _, data in model.reads):
            raise AssertionError(f"stream {each.name} is another than recorded")
        others += len(wanted.keys() ^ came.keys())
        start = each.head - model.head if since_head else 0.0
        late += [came[end] - wanted[end] - start for end in wanted.keys() & came.keys()]
    return others, sorted(late)


def show(title: str, others: int, late: list[float]) -> dict[str, float]:
    median, p99, most = (late[int(len(late) * share)] * 1000 for share in (0.5, 0.99, 1 - 1e-9))
    print(
        f"{title:<13} {len(late)} reads, {others} borders elsewhere; "
        f"late by {median:.2f} ms (median), {p99:.2f} ms (p99), {most:.2f} ms (most)"
    )
    return {"reads": len(late), "others": others, "late_p50_ms": median, "late_p99_ms": p99, "late_max_ms": most}


def scrub_rate(count: int) -> float:
    """Reads per second that secrets are taken out of."""
    body = BodyScrubber(Scrubber([KEY]))
    reads = [Read(0.0, frame) for _, frame in events(0, count)]
    started = time.perf_counter()
    for read in reads:
        body.feed(read)
    return count / (time.perf_counter() - started)


@contextmanager
def playing(path: Path) -> Iterator[str]:
    """The URL of ``penstock record --replay``, a process of its own."""
    command = [sys.executable, "-m", "penstock", "record", "--replay", "--cassette", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield proxy.stdout.readline().strip()
        finally:
            proxy.terminate()


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--reads", type=int, default=100)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.jsonl"
        server = await asyncio.start_server(lambda r, w: serve(r, w, options.reads), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        heard = await listen_to_all(url, options.streams, Record(path))
        server.close()
        recorded = told(path)
        others, late = compare(recorded, heard)
        print(f"{options.streams} streams of {options.reads} events each, 1 to 40 ms apart")
        figures |= {f"record_{name}": value for name, value in show("recorded", others, late).items()}
        heard = await listen_to_all("http://127.0.0.1:9", options.streams, Replay(path))
        figures |= {f"replay_{name}": value for name, value in show("played", *compare(recorded, heard)).items()}
        with playing(path) as proxy:
            heard = await listen_to_all(proxy, options.streams)
        figures |= {
            f"proxy_{name}": value
            for name, value in show("by the proxy", *compare(recorded, heard, since_head=True)).items()
        }
    figures["scrub_reads_per_s"] = scrub_rate(20_000)
    print(f"secrets are taken out of {figures['scrub_reads_per_s']:,.0f} reads per second")
    report("replay", figures)


if __name__ == "__main__":
    asyncio.run(main())
