"""What `Record` writes: everything the wire delivered, and no secret."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from multidict import CIMultiDict
from yarl import URL

from penstock import ModelEngine, Record, Replay, Retry, default_stack, errors, sync
from penstock.engine.cassette.library import load
from penstock.engine.cassette.lines import Answered, Ended, Left, Lost, Read
from penstock.engine.cassette.recording import Recording
from penstock.engine.cassette.response import RecordedBody
from penstock.engine.cassette.take import Take
from penstock.middleware.stack import checked_stack
from penstock.testing import Gateway, answer, cut, fail, reset, stall
from tests.raw_server import DONE, END, STREAM_HEAD, Connection, RawServer, text

from .cassettes import KEY, NOWHERE, engine_at, events, outcome, reads, record, replay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassette.jsonl"


async def test_every_attempt_is_an_interaction_of_its_own(path: Path) -> None:
    await record(path, reset(), fail(503), stream=True)
    (lost,), (refused, body, ended) = events(path)
    assert isinstance(lost, Lost)
    assert (lost.how, lost.why) == ("reset", "ECONNRESET")
    assert isinstance(refused, Answered)
    assert isinstance(body, Read)
    assert (refused.status, type(ended)) == (503, Ended)


async def test_reads_are_what_the_connection_delivered(path: Path) -> None:
    """Each is sent when the one before has been read."""
    pieces = [text("Zw"), text("ei"), text(" 2", "stop") + DONE]
    arrived = asyncio.Queue[None]()

    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(STREAM_HEAD, pieces[0])
        for piece in pieces[1:]:
            await arrived.get()
            await connection.send(piece)
        await connection.send(END)

    async with (
        RawServer(talk) as server,
        engine_at(server.url, Record(path)) as engine,
        engine.stream_call("?") as stream,
    ):
        async for _ in stream.batches():
            arrived.put_nowait(None)
    (recorded,) = reads(path)
    sent = [b"".join(part.split(b"\r\n")[1::2]) for part in pieces]
    assert b"".join(recorded) == b"".join(sent)
    assert recorded[:2] == sent[:2]


async def test_an_end_that_nobody_reads_is_recorded_with_what_came_before_it(path: Path) -> None:
    """As behind the terminal mark of a stream, where the engine stops to read."""
    left = asyncio.Event()

    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(STREAM_HEAD, text("2", "stop"))
        await left.wait()
        await connection.send(DONE, END)

    async with (
        RawServer(talk) as server,
        aiohttp.ClientSession(middlewares=[Record(path)]) as session,
        session.post(server.url) as response,
    ):
        await response.content.readany()
        left.set()
        await asyncio.wait_for(response.content.wait_eof(), 10)
        assert type(events(path)[0][-1]) is Ended
    assert reads(path)[0][1:] == [b"data: [DONE]\n\n"]


async def test_what_had_come_before_a_connection_was_lost_is_recorded_although_nobody_read_it(path: Path) -> None:
    loop = asyncio.get_running_loop()
    source = aiohttp.StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    take = Take(Recording(path, is_new=True), "GET", URL("http://host/"), {}, None, ())
    take.answered(200, "OK", ())
    source.feed_data(b"unread")
    source.set_exception(aiohttp.ClientPayloadError("lost"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await RecordedBody(source, take).readany()
    assert reads(path) == [[b"unread"]]
    assert isinstance(events(path)[0][-1], Lost)


@pytest.mark.parametrize(
    ("step", "how"),
    [(stall(when="before_headers"), "FirstEventTimeoutError"), (stall(after_events=3), "IdleTimeoutError")],
)
async def test_a_clock_that_runs_out_is_recorded_by_its_name(path: Path, step: stall, how: str) -> None:
    await record(path, step, stall(after_events=3), stream=True)
    lost = events(path)[0][-1]
    assert isinstance(lost, Lost)
    assert (lost.how, lost.why) == ("clock", how)


async def test_a_stream_that_is_left_early_says_so(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path)) as engine:
        gateway.script(stall(after_events=2))
        async with engine.stream_call("?") as stream:
            await stream.__anext__()
    assert type(events(path)[0][-1]) is Left


async def test_a_cancelled_call_is_recorded_as_left(path: Path) -> None:
    async with (
        Gateway(api_key=KEY, script=[stall(when="before_headers")]) as gateway,
        engine_at(gateway.url, Record(path)) as engine,
    ):
        call = asyncio.create_task(engine.chat_completion("?"))
        await gateway.until(lambda: gateway.requests == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert [type(event) for event in events(path)[0]] == [Left]


async def test_a_stream_that_is_lost_to_the_garbage_collector_is_recorded_as_left(path: Path) -> None:
    async with (
        Gateway(api_key=KEY, script=[stall(after_events=3)]) as gateway,
        engine_at(gateway.url, Record(path)) as engine,
    ):
        stream = engine.stream_call("?")
        await stream.__anext__()
        with pytest.warns(ResourceWarning, match="was not closed"):
            del stream
        await gateway.assert_no_open_streams()
    assert type(events(path)[0][-1]) is Left


CHAT = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


async def test_recording_changes_nothing_for_who_reads(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway:
        async with engine_at(gateway.url, Record(path)) as engine:
            recorded = await outcome(engine, stream=True)
        gateway.reset()
        stack = default_stack(retry=Retry(max_attempts=2))
        async with ModelEngine("tiny-mock", base_url=gateway.url, api_key=KEY, middleware=stack) as engine:
            assert await outcome(engine, stream=True) == recorded


async def test_the_same_connection_serves_the_next_request(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path)) as engine:
        for _ in range(3):
            async with engine.stream_call("?") as stream:
                await stream.response()
        assert gateway.connections == 1


SECRETS = {
    "key": KEY,
    "header": "header-secret-5551234",
    "query": "query-secret-5551234",
    "cookie": "cookie-secret-5551234",
    "password": "p+ss/word-5551234",
}


def needles(secret: str) -> set[bytes]:
    """Every way a secret may come back, and every 12 characters of each."""
    bearer = base64.b64encode(f"Bearer {secret}".encode()).decode()[12:-4]
    written = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], secret.encode().hex(), bearer}
    written |= {base64.b64encode(secret.encode()).decode().rstrip("="), secret.upper()}
    return {form[at : at + 12].encode() for form in written for at in range(len(form) - 11)}


def content(path: Path) -> bytes:
    """What is in the file; nothing when there is none."""
    return path.read_bytes() if path.exists() else b""


async def echo(connection: Connection) -> None:
    """Answer with everything that was sent, in every form, in pieces that cut it anywhere."""
    asked = await connection.receive()
    lines = [asked.head.decode(), asked.body.decode()]
    forms = [form for each in SECRETS.values() for form in (each, quote(each, safe=""), each.encode().hex())]
    encoded = [base64.b64encode(b"x" * pad + each.encode()).decode() for each in SECRETS.values() for pad in range(3)]
    body = json.dumps({"error": {"message": "\n".join([*lines, *forms, *encoded]), "seen": forms}}).encode()
    headers = f"X-Seen: {KEY}\r\nSet-Cookie: s={SECRETS['cookie']}\r\ncontent-length: {len(body)}"
    await connection.send(f"HTTP/1.1 401 Bad Key {KEY}\r\n{headers}\r\n\r\n".encode())
    for at in range(0, len(body), 7):
        await connection.send(body[at : at + 7])


async def test_no_secret_touches_the_disk(path: Path) -> None:
    """In the raw bytes of the file, no 12 characters of any form of any secret that was sent or echoed."""
    basic = base64.b64encode(f"user:{SECRETS['password']}".encode()).decode()
    headers = {
        "X-Api-Key": SECRETS["header"],
        "Cookie": f"session={SECRETS['cookie']}",
        "Proxy-Authorization": f"Basic {basic}",
    }
    async with RawServer(echo) as server, engine_at(server.url, Record(path), default_headers=headers) as engine:
        with pytest.raises(errors.AuthenticationError):
            await engine.chat_completion(f"My key is {KEY}", extra_query={"access_key": SECRETS["query"]})
    written = content(path).lower()
    assert b"my key is ***" in written
    assert {name for name, each in SECRETS.items() for needle in needles(each) if needle.lower() in written} == set()


async def test_masks_keep_the_length_that_the_head_tells(path: Path) -> None:
    async with RawServer(echo) as server, engine_at(server.url, Record(path)) as engine:
        with pytest.raises(errors.AuthenticationError):
            await engine.chat_completion("?")
    head = load(path)[0].head
    assert head is not None
    assert int(CIMultiDict(head.headers)["content-length"]) == len(b"".join(reads(path)[0]))


async def test_once_records_and_then_plays(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path)) as engine:
        first = await outcome(engine, stream=True)
    async with engine_at(NOWHERE, Record(path, speed=0)) as engine:
        assert await outcome(engine, stream=True) == first


async def test_none_plays_and_never_records(path: Path) -> None:
    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path, mode="none")) as engine:
        with pytest.raises(errors.CassetteError, match="No such file"):
            await engine.chat_completion("?")
        assert gateway.requests == 0
    assert content(path) == b""


async def test_all_records_anew(path: Path) -> None:
    for step in (fail(400), answer("new")):
        await record(path, step, stream=False)
    assert [each.head.status for each in load(path) if each.head] == [200]


async def test_one_record_serves_many_engines_and_tasks_at_a_time(path: Path) -> None:
    recorder = Record(path)
    async with (
        Gateway(api_key=KEY) as gateway,
        engine_at(gateway.url, recorder) as one,
        engine_at(gateway.url, recorder) as other,
    ):
        engines = [one, other] * 8
        calls = [each.chat_completion(f"question {number}") for number, each in enumerate(engines)]
        answers = [each.content for each in await asyncio.gather(*calls)]
    async with engine_at(NOWHERE, Replay(path, speed=0)) as engine:
        backwards = [engine.chat_completion(f"question {number}") for number in reversed(range(16))]
        assert [each.content for each in await asyncio.gather(*backwards)] == answers[::-1]


async def test_two_records_of_one_file_at_a_time_are_refused_before_anything_is_sent(path: Path) -> None:
    async with (
        Gateway(api_key=KEY, script=[stall(after_events=3)]) as gateway,
        engine_at(gateway.url, Record(path, mode="all")) as one,
        engine_at(gateway.url, Record(path, mode="all")) as other,
        one.stream_call("?") as stream,
    ):
        await stream.__anext__()
        with pytest.raises(errors.CassetteError, match="give one Record to all who record into it"):
            await other.chat_completion("?")
        assert gateway.requests == 1


def test_engines_without_a_loop_record_and_play(path: Path) -> None:
    async def serve() -> None:
        async with Gateway(api_key=KEY) as gateway:
            await asyncio.to_thread(ask, gateway.url, Record(path))

    def ask(url: str, wire: Record | Replay) -> str | None:
        stack = [*default_stack(), wire]
        with sync.ModelEngine("tiny-mock", base_url=url, api_key=KEY, middleware=stack) as engine:
            return engine.stream_call("Name a prime.").response().content

    asyncio.run(serve())
    assert "Name a prime." in (ask(NOWHERE, Replay(path, speed=0)) or "")


@pytest.mark.parametrize("how", ["readany", "readline", "iter_chunked", "read"])
async def test_a_plain_session_is_recorded_however_it_reads(path: Path, how: str) -> None:
    async with Gateway(api_key=KEY) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        async with aiohttp.ClientSession(middlewares=[Record(path)]) as session:
            recorded = await body_of(session, url, how)
    async with aiohttp.ClientSession(middlewares=[Replay(path, speed=0)]) as session:
        assert await body_of(session, url, how) == recorded
    assert b"".join(reads(path)[0]) == recorded


async def body_of(session: aiohttp.ClientSession, url: str, how: str) -> bytes:
    async with session.post(url, json=CHAT, headers=AUTHORIZED) as response:
        if how == "read":
            return await response.read()
        if how == "iter_chunked":
            return b"".join([each async for each in response.content.iter_chunked(7)])
        pieces = []
        while piece := await getattr(response.content, how)():
            pieces.append(piece)
        return b"".join(pieces)


async def test_a_body_from_a_generator_is_recorded_and_sent(path: Path) -> None:
    async def pieces() -> object:
        yield json.dumps(CHAT).encode()[:10]
        yield json.dumps(CHAT).encode()[10:]

    async with Gateway(api_key=KEY) as gateway, aiohttp.ClientSession(middlewares=[Record(path)]) as session:
        headers = {**AUTHORIZED, "Content-Type": "application/json"}
        async with session.post(f"{gateway.url}/v1/chat/completions", data=pieces(), headers=headers) as response:
            assert response.status == 200
            await response.read()
        assert json.loads(gateway.calls[0].raw) == CHAT
    assert json.loads(load(path)[0].asked.body or b"") == CHAT


async def test_answers_without_a_body_are_recorded(path: Path) -> None:
    async def talk(connection: Connection) -> None:
        await connection.receive()
        await connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with (
        RawServer(talk) as server,
        aiohttp.ClientSession(middlewares=[Record(path)]) as session,
        session.delete(server.url) as response,
    ):
        assert await response.read() == b""
    assert [type(event) for event in events(path)[0]] == [Answered, Ended]


async def test_a_disk_that_is_full_fails_the_call_and_not_the_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    async with Gateway(api_key=KEY) as gateway, engine_at(gateway.url, Record(path)) as engine:
        monkeypatch.setattr("penstock.engine.cassette.recording.os.write", full)
        with pytest.raises(errors.CassetteError, match="cannot be written: No space left on device"):
            await engine.chat_completion("?")


async def test_the_body_that_was_cut_in_its_middle_is_kept_as_far_as_it_came(path: Path) -> None:
    came = await record(path, cut(after_bytes=50), cut(after_bytes=50), stream=False)
    assert await replay(path, stream=False) == came
    assert isinstance(events(path)[0][-1], Lost)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "new"},
        {"speed": -1},
        {"speed": True},
        {"speed": float("inf")},
        {"match": ("url",)},
        {"match": "body"},
        {"path": ""},
        {"path": None},
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^Record\("):
        Record(**{"path": "x.jsonl", **options})  # type: ignore[arg-type]


def test_it_stands_at_the_wire() -> None:
    recorder, player = Record("x.jsonl"), Replay("x.jsonl")
    checked_stack([*default_stack(), recorder])
    wrong: list[list[Any]] = [[recorder, *default_stack()], [*default_stack(), recorder, player]]
    for stack in wrong:
        with pytest.raises(errors.MiddlewareOrderError):
            checked_stack(stack)


async def test_the_cookie_of_a_session_that_an_answer_begins_is_not_in_its_body_either(path: Path) -> None:
    session = "s6f7g8h9j0k1l2m3n4"
    granting = answer(f"You are {session}.", headers={"set-cookie": f"sid={session}; Path=/"})
    await record(path, granting, stream=False)
    ((head, *_),) = events(path)
    assert isinstance(head, Answered)
    assert "sid=***; Path=/" in [value for name, value in head.headers if name.lower() == "set-cookie"]
    assert b'"content":"You are ******************."' in b"".join(*reads(path))
