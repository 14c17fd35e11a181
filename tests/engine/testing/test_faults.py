"""Each step, as it arrives at a client."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
import pytest

from penstock.engine.testing import (
    Gateway,
    HttpDate,
    answer,
    cut,
    empty,
    error_event,
    fail,
    garbage_frame,
    hang_up,
    html,
    http_date,
    invalid_json,
    no_done,
    reset,
    stall,
    truncate,
)
from penstock.engine.testing.http_date import Form

from .support import CHAT, chat, send, stream

ABCD = answer(pieces=["a", "b", "c", "d"])


class TestFail:
    async def test_sends_the_envelope_of_the_dialect(self, gateway: Gateway) -> None:
        gateway.script(fail(429))
        got = await stream(gateway)
        assert got.status == 429
        assert got.headers["content-type"] == "application/json"
        assert orjson.loads(got.body) == {
            "error": {
                "message": "Rate limit reached.",
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        }

    @pytest.mark.parametrize("status", [204, 304])
    async def test_sends_no_body_where_there_is_none(
        self, gateway: Gateway, session: aiohttp.ClientSession, status: int
    ) -> None:
        gateway.script(fail(status), answer("Next."))
        async with session.post(gateway.url + CHAT, json=chat()) as response:
            assert (response.status, await response.read()) == (status, b"")
        async with session.post(gateway.url + CHAT, json=chat()) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "Next."
        assert gateway.connections == 1

    async def test_takes_other_members_of_the_envelope(self, gateway: Gateway) -> None:
        gateway.script(fail(429, code="insufficient_quota", type="insufficient_quota", message="Used up."))
        error = orjson.loads((await send(gateway, chat())).body)["error"]
        assert error == {
            "message": "Used up.",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }

    @pytest.mark.parametrize(
        ("body", "sent", "content_type"),
        [
            ({"detail": "busy"}, b'{"detail":"busy"}', "application/json"),
            ("busy", b"busy", "text/plain; charset=utf-8"),
            (b"\x00\xff", b"\x00\xff", None),
            ("", b"", "text/plain; charset=utf-8"),
        ],
    )
    async def test_takes_any_body(
        self, gateway: Gateway, body: dict[str, str] | str | bytes, sent: bytes, content_type: str | None
    ) -> None:
        gateway.script(fail(503, body=body))
        got = await send(gateway, chat())
        assert (got.status, got.body, got.headers.get("content-type")) == (503, sent, content_type)

    @pytest.mark.parametrize(("value", "text"), [(2, "2"), (0.5, "0.5"), (0, "0"), ("soon", "soon")])
    async def test_says_when_to_come_back(self, gateway: Gateway, value: float | str, text: str) -> None:
        gateway.script(fail(429, retry_after=value))
        assert (await send(gateway, chat())).headers["retry-after"] == text

    @pytest.mark.parametrize("form", ["imf", "rfc850", "asctime"])
    async def test_says_it_as_a_date_counted_from_the_answer(self, gateway: Gateway, form: Form) -> None:
        gateway.script(fail(429, retry_after=http_date(60, form=form)))
        before = time.time()
        got = await send(gateway, chat())
        line = next(line for line in got.head.split("\r\n") if line.startswith("retry-after: "))
        then = parsedate_to_datetime(line.removeprefix("retry-after: ")).timestamp()
        assert before + 60 <= then < time.time() + 61
        assert HttpDate(60, form=form).text(before)[:3] == line[13:16]

    async def test_says_it_in_milliseconds_and_whether_at_all(self, gateway: Gateway) -> None:
        gateway.script(fail(429, retry_after_ms=1500, should_retry=True), fail(429, should_retry=False))
        first, second = [(await send(gateway, chat())).headers for _ in range(2)]
        assert (first["retry-after-ms"], first["x-should-retry"]) == ("1500", "true")
        assert ("retry-after-ms" in second, second["x-should-retry"]) == (False, "false")

    async def test_sends_a_header_twice_when_given_pairs(self, gateway: Gateway) -> None:
        gateway.script(fail(429, headers=[("Retry-After", "1"), ("Retry-After", "2")], retry_after=9))
        got = await send(gateway, chat())
        assert [line for line in got.head.split("\r\n") if line.lower().startswith("retry-after")] == [
            "Retry-After: 1",
            "Retry-After: 2",
        ]

    async def test_sends_a_status_without_a_phrase(self, gateway: Gateway) -> None:
        gateway.script(fail(529))
        assert (await send(gateway, chat())).head.startswith("HTTP/1.1 529 \r\n")


class TestConnection:
    async def test_reset_before_the_request_is_read(self, gateway: Gateway) -> None:
        gateway.script(reset("before_request_read"))
        got = await send(gateway, chat("x" * 1_000_000))
        assert (got.data, got.was_reset) == (b"", True)
        assert (gateway.calls[0].raw, gateway.calls[0].status, gateway.calls[0].outcome) == (b"", None, "reset")

    async def test_reset_before_the_headers(self, gateway: Gateway) -> None:
        gateway.script(reset())
        got = await stream(gateway)
        assert (got.data, got.was_reset) == (b"", True)
        assert gateway.calls[0].body == chat(stream=True)

    async def test_reset_after_the_headers(self, gateway: Gateway) -> None:
        gateway.script(reset("after_headers"))
        got = await stream(gateway)
        assert (got.status, got.body, got.was_reset) == (200, b"", True)
        assert gateway.calls[0].status == 200

    async def test_hang_up_closes_without_a_byte(self, gateway: Gateway) -> None:
        gateway.script(hang_up())
        got = await stream(gateway)
        assert (got.data, got.was_reset) == (b"", False)

    @pytest.mark.parametrize(("by", "was_reset"), [("close", False), ("reset", True)])
    async def test_cut_after_events(self, gateway: Gateway, by: str, was_reset: bool) -> None:
        gateway.script(cut(after_events=3, by=by, of=ABCD))  # type: ignore[arg-type]
        got = await stream(gateway)
        assert (got.text, len(got.events), got.is_complete, got.was_reset) == ("ab", 3, False, was_reset)

    async def test_cut_after_no_event_leaves_the_head(self, gateway: Gateway) -> None:
        gateway.script(cut(after_events=0))
        got = await stream(gateway)
        assert (got.status, got.body, got.is_complete) == (200, b"", False)

    @pytest.mark.parametrize("size", [0, 1, 7, 300])
    async def test_cut_after_bytes(self, gateway: Gateway, size: int) -> None:
        gateway.script(cut(after_bytes=size, of=ABCD), ABCD)
        spoiled, whole = await stream(gateway), await stream(gateway)
        expected = whole.body[:size].replace(b"chatcmpl-2", b"chatcmpl-1")
        assert (spoiled.body, spoiled.is_complete) == (expected, False)

    async def test_cut_of_an_answer_that_is_not_streamed(self, gateway: Gateway) -> None:
        gateway.script(cut(after_events=1), cut(after_bytes=5))
        first, second = [await send(gateway, chat()) for _ in range(2)]
        announced = int(first.headers["content-length"])
        assert len(first.body) == announced // 2
        assert second.body == b'{"id"'
        assert int(second.headers["content-length"]) == announced

    async def test_a_large_body_arrives_in_full_before_the_reset(self, gateway: Gateway) -> None:
        gateway.script(cut(after_bytes=20_000_000, by="reset", of=answer("x" * 30_000_000, chunking="whole")))
        got = await stream(gateway)
        # The client takes the bytes out of the kernel before it can meet the reset.
        assert (len(got.body.partition(b"\r\n")[0]) > 0, got.was_reset) == (True, True)


class TestStream:
    async def test_truncate_ends_cleanly_without_finish_reason(self, gateway: Gateway) -> None:
        gateway.script(truncate(of=ABCD), truncate(after_events=2, of=ABCD))
        first, second = await stream(gateway), await stream(gateway)
        assert (first.text, first.is_complete, first.events[-1]) == ("abcd", True, first.events[4])
        assert (second.text, second.is_complete, len(second.events)) == ("a", True, 2)
        assert all(frame["choices"][0]["finish_reason"] is None for frame in first.frames)

    async def test_truncate_of_an_answer_that_is_not_streamed_is_half_a_json(self, gateway: Gateway) -> None:
        gateway.script(truncate())
        got = await send(gateway, chat())
        assert len(got.body) == int(got.headers["content-length"])
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(got.body)

    async def test_no_done_ends_cleanly_after_the_finish_reason(self, gateway: Gateway) -> None:
        gateway.script(no_done(of=ABCD), no_done(of=ABCD))
        got = await stream(gateway)
        assert (got.text, got.is_complete) == ("abcd", True)
        assert got.frames[-1]["choices"][0]["finish_reason"] == "stop"
        assert "[DONE]" not in got.events
        assert orjson.loads((await send(gateway, chat())).body)["choices"][0]["message"]["content"] == "abcd"

    async def test_an_error_inside_a_200(self, gateway: Gateway) -> None:
        gateway.script(error_event(of=ABCD))
        got = await stream(gateway)
        assert (got.status, got.text, got.is_complete) == (200, "a", True)
        assert got.frames[-1]["error"]["type"] == "server_error"
        assert "[DONE]" not in got.events

    async def test_an_error_with_a_name_a_value_and_done_after_it(self, gateway: Gateway) -> None:
        gateway.script(error_event(after_events=0, error="upstream died", event_name="error", done=True))
        got = await stream(gateway)
        assert got.body == b'event: error\ndata: {"error":"upstream died"}\n\ndata: [DONE]\n\n'

    async def test_an_error_inside_a_200_that_is_not_streamed(self, gateway: Gateway) -> None:
        gateway.script(error_event(error={"message": "no"}))
        got = await send(gateway, chat())
        assert (got.status, got.body) == (200, b'{"error":{"message":"no"}}')

    async def test_garbage_among_good_frames(self, gateway: Gateway) -> None:
        gateway.script(garbage_frame(after_events=3, of=ABCD), garbage_frame(data="<html>"))
        got = await stream(gateway)
        assert (got.events[3], got.text, got.events[-1]) == ("not json", "abcd", "[DONE]")
        assert (await send(gateway, chat())).body == b"<html>"


class TestInstead:
    async def test_html(self, gateway: Gateway) -> None:
        gateway.script(html(), html(status=502, body="<h1>Bad Gateway</h1>"))
        first, second = await stream(gateway), await stream(gateway)
        assert (first.status, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert first.body.startswith(b"<html>")
        assert (second.status, second.body) == (502, b"<h1>Bad Gateway</h1>")

    async def test_empty(self, gateway: Gateway) -> None:
        gateway.script(empty())
        got = await stream(gateway)
        assert (got.status, got.headers["content-length"], got.body) == (200, "0", b"")
        assert "content-type" not in got.headers

    async def test_invalid_json(self, gateway: Gateway) -> None:
        gateway.script(invalid_json())
        got = await send(gateway, chat())
        assert (got.status, got.headers["content-type"]) == (200, "application/json")
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(got.body)


class TestStall:
    async def test_silence_in_the_body_goes_on_until_the_client_leaves(
        self, gateway: Gateway, session: aiohttp.ClientSession
    ) -> None:
        gateway.script(stall(after_events=2, of=ABCD))
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            lines = [await response.content.readline() for _ in range(4)]
            assert b'"content":"a"' in lines[2]
            assert (gateway.open_streams, gateway.calls[0].outcome) == (1, "running")
            response.close()
        await gateway.assert_no_open_streams()
        assert gateway.calls[0].outcome == "abandoned"

    async def test_pings_show_life_meanwhile(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        gateway.script(stall(ping_every_s=0.001))
        async with session.post(gateway.url + CHAT, json=chat(stream=True)) as response:
            assert [await response.content.readline() for _ in range(4)] == [b": ping\n", b"\n"] * 2
            response.close()

    async def test_a_stall_that_ends_goes_on_with_the_answer(self, gateway: Gateway) -> None:
        gateway.script(
            stall(after_events=2, for_s=0.02, ping_every_s=0.005, of=ABCD),
            stall(for_s=0.02, of=ABCD),
            stall(when="before_headers", for_s=0.02, of=ABCD),
        )
        started = time.monotonic()
        first, second, third = await stream(gateway), await send(gateway, chat()), await stream(gateway)
        assert time.monotonic() - started >= 3 * 0.019  # timers may be a millisecond short
        assert (first.text, first.events[-1], third.text) == ("abcd", "[DONE]", "abcd")
        assert b": ping\n\n" in first.body
        assert orjson.loads(second.body)["choices"][0]["message"]["content"] == "abcd"

    async def test_silence_before_the_headers(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        gateway.script(stall(when="before_headers"))
        request = asyncio.ensure_future(session.post(gateway.url + CHAT, json=chat(stream=True)))
        await gateway.until(lambda: gateway.requests == 1 and gateway.calls[0].body is not None)
        assert (gateway.calls[0].status, gateway.calls[0].executed, gateway.open_streams) == (None, False, 0)
        request.cancel()
        await gateway.until(lambda: gateway.calls[0].outcome == "abandoned")
