"""What `Replay` plays is what was recorded, on the way of an answer from the network."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock import ModelEngine, Record, Replay, Timeouts, default_stack, errors
from penstock.engine.cassette.lines import HEADING, Answered, Asked, Ended, Event, Left, Lost, Read, encoded
from penstock.testing import (
    Gateway,
    Step,
    answer,
    cut,
    empty,
    error_event,
    fail,
    garbage_frame,
    hang_up,
    html,
    invalid_json,
    no_done,
    reset,
    stall,
    truncate,
)
from tests.raw_server import Connection, RawServer

from .cassettes import KEY, NOWHERE, engine_at, reads, record, replay

FAULTS: list[Step] = [
    answer(),
    answer(reasoning="because"),
    cut(after_events=2),
    cut(after_bytes=100),
    empty(),
    error_event(),
    fail(400),
    fail(429, retry_after=0),
    fail(503),
    garbage_frame(),
    hang_up(),
    html(),
    invalid_json(),
    no_done(),
    reset(),
    cut(after_events=2, by="reset"),
    reset("before_request_read"),
    reset("after_headers"),
    stall(when="before_headers"),
    stall(after_events=0),
    stall(after_events=3),
    truncate(),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassette.jsonl"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("step", FAULTS, ids=repr)
async def test_what_came_of_it_comes_of_it_again(path: Path, step: Step, stream: bool) -> None:
    """Text, usage, error, and the ledger of attempts, when the gateway fails once and when it fails twice."""
    for steps in ((step,), (step, step)):
        came = await record(path, *steps, stream=stream)
        assert await replay(path, stream=stream) == came


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("gateway", ["atrium", "keeptrusts", "modelgov", "nim", "omnigate", "openai"])
async def test_every_gateway_can_be_played(path: Path, gateway: str, stream: bool) -> None:
    came = await record(path, reset(), stream=stream, gateway=gateway)
    assert came["error"] is None or came["error"][0] != "CassetteError"
    assert await replay(path, stream=stream, gateway=gateway) == came


async def test_embeddings_are_played(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path)) as engine:
        vectors = (await engine.embed(["one", "two"])).embeddings
    async with engine_at(NOWHERE, Replay(path, speed=0)) as engine:
        assert (await engine.embed(["one", "two"])).embeddings == vectors


async def test_a_refused_connection_is_played(path: Path) -> None:
    async with engine_at(NOWHERE, Record(path)) as engine:
        with pytest.raises(errors.ConnectError) as recorded:
            await engine.chat_completion("?")
    async with engine_at(NOWHERE, Replay(path, speed=0)) as engine:
        with pytest.raises(errors.ConnectError) as played:
            await engine.chat_completion("?")
    assert (played.value.phase, played.value.__cause__.errno) == (recorded.value.phase, recorded.value.__cause__.errno)  # type: ignore[union-attr]


def tape(path: Path, *events: Event, asked: Asked = Asked("POST", f"{NOWHERE}/v1")) -> Path:  # noqa: B008
    lines = [encoded(1, each) for each in (asked, *events)]
    path.write_bytes(HEADING + b"".join(lines))
    return path


HEAD = Answered(0.0, 200, "Fine", (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Type", "text/plain")))


def cut_off(path: Path, *, lines: int) -> None:
    """Keep so many lines, and let an hour pass before the next read."""
    kept = path.read_bytes().splitlines(keepends=True)[:lines]
    path.write_bytes(b"".join([*kept, encoded(1, Read(3600.0, b"later"))]))


async def fetched(path: Path, **options: Any) -> list[bytes]:
    async with (
        aiohttp.ClientSession(middlewares=[Replay(path, **options)]) as session,
        session.post(f"{NOWHERE}/v1") as response,
    ):
        return [each async for each in response.content.iter_any()]


@pytest.mark.parametrize("speed", [0, 50.0])
async def test_reads_are_given_out_one_by_one_at_every_speed(path: Path, speed: float) -> None:
    pieces = [b"one", b"\xff\x00", b"x" * 100_000, "é".encode()[:1], "é".encode()[1:]]
    timed = [Read(number / 10, piece) for number, piece in enumerate(pieces)]
    assert await fetched(tape(path, HEAD, *timed, Ended(0.5)), speed=speed) == pieces


async def test_reads_come_one_by_one_to_a_reader_that_is_late(path: Path) -> None:
    tape(path, HEAD, Read(0.0, b"one"), Read(0.0, b"two"), Ended(0.0))
    async with aiohttp.ClientSession(middlewares=[Replay(path)]) as session, session.post(f"{NOWHERE}/v1") as response:
        assert [await response.content.readany() for _ in range(3)] == [b"one", b"two", b""]


async def test_no_read_comes_before_its_time(path: Path) -> None:
    tape(path, HEAD, Read(0.05, b"one"), Read(0.1, b"two"), Ended(0.15))
    time = asyncio.get_running_loop().time
    started = time()
    async with aiohttp.ClientSession(middlewares=[Replay(path)]) as session, session.post(f"{NOWHERE}/v1") as response:
        moments = [(each, time() - started) async for each in response.content.iter_any()]
    assert [each for each, _ in moments] == [b"one", b"two"]
    assert all(at >= due - 0.002 for (_, at), due in zip(moments, (0.05, 0.1)))


async def test_a_plain_session_gets_the_head_as_it_was(path: Path) -> None:
    tape(path, HEAD, Read(0.0, b"text"), Ended(0.0))
    async with aiohttp.ClientSession(middlewares=[Replay(path)]) as session, session.post(f"{NOWHERE}/v1") as response:
        assert (response.status, response.reason, await response.text()) == (200, "Fine", "text")
        assert response.headers.getall("set-cookie") == ["a=1", "b=2"]
        assert {name: morsel.value for name, morsel in response.cookies.items()} == {"a": "1", "b": "2"}


LOSSES: list[tuple[str, str, type[Exception]]] = [
    ("connect", "ECONNREFUSED", aiohttp.ClientConnectorError),
    ("name", "", aiohttp.ClientConnectorDNSError),
    ("tls", "CERTIFICATE_VERIFY_FAILED", aiohttp.ClientSSLError),
    ("connect_timeout", "", aiohttp.ConnectionTimeoutError),
    ("closed", "", aiohttp.ServerDisconnectedError),
    ("kept", "", aiohttp.ServerDisconnectedError),
    ("reset", "ECONNRESET", aiohttp.ClientOSError),
    ("protocol", "", aiohttp.ClientResponseError),
    ("timeout", "", asyncio.TimeoutError),
    ("truncated", "", aiohttp.ClientPayloadError),
    ("clock", "FirstEventTimeoutError", asyncio.TimeoutError),
    ("clock", "no clock of ours", asyncio.TimeoutError),
    ("of a later version", "", aiohttp.ClientConnectionError),
]


@pytest.mark.parametrize(("how", "why", "kind"), LOSSES)
async def test_a_plain_session_gets_the_exception_that_aiohttp_raised(
    path: Path, how: str, why: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await fetched(tape(path, Lost(0.0, how, why)))
    with pytest.raises(kind):
        await fetched(tape(path, HEAD, Read(0.0, b"one"), Lost(0.0, how, why)))


@pytest.mark.parametrize("events", [(), (Left(0.0),)])
async def test_who_waits_longer_than_the_recording_is_told(path: Path, events: tuple[Event, ...]) -> None:
    """Also where the recording itself was cut off."""
    with pytest.raises(errors.CassetteMismatchError, match=r"ends here: who made it left"):
        await fetched(tape(path, *events))
    with pytest.raises(errors.CassetteMismatchError, match=r"line 2\) ends here"):
        await fetched(tape(path, HEAD, Read(0.0, b"one"), *events))


async def test_a_recording_that_was_left_is_no_truncated_stream(path: Path) -> None:
    async with (
        Gateway(api_key=KEY, script=[stall(after_events=2)]) as gateway,
        engine_at(gateway.url, Record(path)) as engine,
        engine.stream_call("?") as stream,
    ):
        await stream.__anext__()
    async with engine_at(NOWHERE, Replay(path, speed=0)) as engine, engine.stream_call("?") as stream:
        with pytest.raises(errors.CassetteMismatchError):
            await stream.response()


async def test_a_request_that_is_not_recorded_is_not_sent_and_not_repeated(path: Path) -> None:
    await record(path, stream=False)
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Replay(path)) as engine:
        with pytest.raises(errors.CassetteMismatchError) as raised:
            await engine.chat_completion("Name two primes.")
        assert gateway.connections == 0
    assert '-   "content": "Name a prime.",\n+   "content": "Name two primes.",' in str(raised.value)
    assert (raised.value.phase, len(raised.value.attempts)) == ("not_sent", 1)


async def test_the_difference_shows_no_secret(path: Path) -> None:
    await record(path, stream=False)
    async with engine_at(NOWHERE, Replay(path)) as engine:
        with pytest.raises(errors.CassetteMismatchError) as raised:
            await engine.chat_completion(f"My key is {KEY}")
    assert "My key is ***" in str(raised.value)
    assert KEY[8:] not in repr(raised.value)


async def test_what_nobody_asked_for_can_be_seen(path: Path) -> None:
    await record(path, reset(), stream=False)
    player = Replay(path, speed=0)
    assert [each.number for each in player.unplayed] == [1, 2]
    async with engine_at(NOWHERE, player) as engine:
        await engine.chat_completion("Name a prime.")
    assert player.unplayed == []


async def test_the_engines_own_clocks_run_over_what_is_played(path: Path) -> None:
    body = b'{"model":"tiny-mock","messages":[{"role":"user","content":"?"}]}'
    tape(path, Answered(3600.0, 200, "OK", ()), asked=Asked("POST", f"{NOWHERE}/v1/chat/completions", (), body))
    async with ModelEngine(
        "tiny-mock", base_url=NOWHERE, api_key=KEY, middleware=[*default_stack(), Replay(path)]
    ) as engine:
        with pytest.raises(errors.DeadlineExceededError):
            await engine.chat_completion("?", timeout=0.05)


async def test_a_stream_can_be_left_and_the_engine_stopped(path: Path) -> None:
    await record(path, stream=True)
    cut_off(path, lines=4)
    async with engine_at(NOWHERE, Replay(path), on_break="raise") as engine:
        stream = engine.stream_call("Name a prime.", timeouts=Timeouts())
        waiting = asyncio.create_task(stream.response())
        for _ in range(50):
            await asyncio.sleep(0)  # the head is there then; how much of the body is with it differs by event loop
        await engine.stop()
        with pytest.raises(errors.EngineClosedError):
            await waiting


async def test_an_answer_that_came_compressed_is_played_as_it_was_read(path: Path) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        body = gzip.compress(b'{"data": []}')
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n"
        await connection.send(head.encode(), body)

    async with RawServer(talk) as server, engine_at(server.url, Record(path)) as engine:
        assert await engine.models() == ()
    assert reads(path) == [[b'{"data": []}']]
    async with engine_at(NOWHERE, Replay(path, speed=0)) as engine:
        assert await engine.models() == ()
