"""``penstock chat`` against a gateway."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from typing import Any

import orjson
import pytest

from penstock.engine.cli import chat as chat_module
from penstock.engine.cli import main
from penstock.testing import Gateway, ToolCall, answer, cut, error_event, fail, reset, stall

from .conftest import Run
from .support import Result, finish, process

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and terminals")


def asked(gateway: Gateway) -> Any:
    """The body of the last request."""
    return gateway.calls[-1].body


async def test_answer_goes_to_stdout_and_the_rest_to_stderr(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer("Two and three."))
    result = await chat("Name", "two", "primes")
    assert (result.code, result.out) == (0, "Two and three.\n")
    assert asked(gateway)["messages"] == [{"role": "user", "content": "Name two primes"}]
    verdict, usage, timing, attempts, first = result.err.splitlines()
    assert verdict == "verdict   complete (finish reason stop)"
    assert usage == "usage     3 tokens in; 3 out (reported)"
    assert timing.startswith("timing    first token after ")
    assert (attempts, first) == ("attempts  1", "  1  HTTP 200")


async def test_request_is_streamed_and_asks_for_usage(chat: Run, gateway: Gateway) -> None:
    await chat("Hi")
    assert (asked(gateway)["stream"], asked(gateway)["stream_options"]) == (True, {"include_usage": True})


async def test_no_stream_asks_for_one_piece(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer("Two."))
    result = await chat("--no-stream", "Hi")
    assert (result.code, result.out, "stream" in asked(gateway)) == (0, "Two.\n", False)
    assert "usage     1 tokens in; 1 out (reported)" in result.err


async def test_line_break_at_the_end_is_not_doubled(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer("One line.\n"))
    assert (await chat("Hi")).out == "One line.\n"


async def test_options_make_the_request(chat: Run, gateway: Gateway) -> None:
    await chat(
        "--system", "Be brief.", "--param", "temperature=0", "--param", "user=me", "--header", "X-Trace: 7", "Hi"
    )
    assert asked(gateway) == {
        "model": "tiny-mock",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0,
        "user": "me",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert gateway.calls[-1].headers["X-Trace"] == "7"


async def test_options_may_stand_between_words(run: Run, gateway: Gateway) -> None:
    await run("chat", "two", "--model", "m", "words", "--base-url", gateway.url, "--", "-5")
    assert asked(gateway)["messages"][0]["content"] == "two words -5"


async def test_every_member_of_the_body_can_be_a_param(chat: Run, gateway: Gateway) -> None:
    """Also those that have the name of an option of a call; and `null` leaves out what we add."""
    await chat("--param", "stream_options=null", "--param", "timeout=3", "Hi")
    assert ("stream_options" in asked(gateway), asked(gateway)["timeout"]) == (False, 3)


@pytest.mark.parametrize("arguments", [[], ["-"]])
async def test_message_comes_from_stdin(chat: Run, gateway: Gateway, arguments: list[str]) -> None:
    await chat(*arguments, stdin="Wie schön\n\nist es?\n".encode())
    assert asked(gateway)["messages"][0]["content"] == "Wie schön\n\nist es?"


async def test_model_comes_from_the_environment(run: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_MODEL", "from-outside")
    assert (await run("chat", "--base-url", gateway.url, "Hi")).code == 0
    assert asked(gateway)["model"] == "from-outside"


@pytest.mark.parametrize("dialect", ["openai", "nim", "house-gateway"])
async def test_gateway_is_named(run: Run, gateway: Gateway, dialect: str) -> None:
    gateway.script(fail(400))
    result = await run("chat", "--model", "m", "--gateway", dialect, "--base-url", gateway.url, "Hi")
    assert (result.code, f"gateway {dialect}," in result.err) == (1, True)


async def test_key_comes_from_the_variable_that_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", "sk-house-0123456789")
    async with Gateway(api_key="sk-house-0123456789") as gateway:
        call = ("chat", "--model", "m", "--base-url", gateway.url, "Hi")
        refused, accepted = await run(*call), await run(*call, "--api-key-env", "HOUSE_KEY")
    assert (refused.code, accepted.code) == (1, 0)
    assert "AuthenticationError" in refused.err


async def test_key_is_not_shown_when_the_gateway_repeats_it(
    chat: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_KEY", "house0123456789")
    gateway.script(fail(401, message="wrong key house0123456789"), fail(401, message="wrong key house0123456789"))
    for options in ([], ["--json"]):
        result = await chat("--api-key-env", "HOUSE_KEY", *options, "Hi")
        assert "wrong key ***" in result.err
        assert "house0123456789" not in result.out + result.err


async def test_attempts_are_told_with_their_waits(chat: Run, gateway: Gateway) -> None:
    gateway.script(fail(429, retry_after_ms=5), answer("Yes."))
    result = await chat("Hi")
    assert (result.code, result.out) == (0, "Yes.\n")
    attempts, first, second = result.err.splitlines()[-3:]
    assert attempts == "attempts  2"
    assert re.fullmatch(r"  1  HTTP 429, RateLimitError: .+, waited \S+ m?s", first)
    assert second == "  2  HTTP 200"


async def test_max_attempts_is_the_number_of_requests(chat: Run, gateway: Gateway) -> None:
    gateway.script(default=fail(503, retry_after_ms=1))
    result = await chat("--max-attempts", "2", "Hi")
    assert (result.code, result.out, gateway.requests) == (1, "", 2)
    assert "  2  HTTP 503, OverloadedError: 2 attempts were made" in result.err
    assert result.err.splitlines()[-1].startswith("penstock chat: OverloadedError: ")


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_timeout_bounds_the_whole_call(chat: Run, gateway: Gateway, options: list[str]) -> None:
    gateway.script(default=stall(when="before_headers"))
    result = await chat("--timeout", "0.2", *options, "Hi")
    assert (result.code, "DeadlineExceededError" in result.err) == (1, True)


async def test_nothing_there_is_1(run: Run) -> None:
    result = await run("chat", "--model", "m", "--base-url", "http://127.0.0.1:1", "--max-attempts", "1", "Hi")
    assert (result.code, result.out) == (1, "")
    assert "  1  not sent, ConnectError" in result.err


async def test_what_had_come_stays(chat: Run, gateway: Gateway) -> None:
    gateway.script(cut(after_events=3, of=answer(pieces=["One", " two", " three"])))
    result = await chat("Hi")
    assert (result.code, result.out) == (1, "One two\n")
    assert result.err.startswith("verdict   truncated\n")
    assert "penstock chat: StreamTruncatedError: " in result.err


async def test_error_in_the_stream_is_1_and_no_traceback(chat: Run, gateway: Gateway) -> None:
    gateway.script(error_event(after_events=2, error={"message": "it broke", "type": "server_error"}))
    result = await chat("Hi")
    assert (result.code, "it broke" in result.err, "Traceback" in result.err) == (1, True, False)


async def test_reasoning_is_left_out_of_a_pipe(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer("Two.", reasoning="Think of primes."))
    result = await chat("Hi")
    assert result.out == "Two.\n"
    assert "4 out, 3 of them reasoning" in result.err


async def test_refusal_is_an_answer(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer(refusal="I would rather not."))
    assert (await chat("Hi")).out == "I would rather not.\n"


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_tool_call_is_a_line_of_json(chat: Run, gateway: Gateway, options: list[str]) -> None:
    gateway.script(answer(tool_calls=[ToolCall("add", {"a": 1}, id="c1"), ToolCall("add", {"a": 2}, id="c2")]))
    result = await chat(*options, "Hi")
    assert result.json_lines == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}},
    ]


async def test_pipe_gets_no_escapes_of_ours_and_the_text_as_it_is(chat: Run, gateway: Gateway) -> None:
    gateway.script(fail(500), answer("a\x1b[31mb", reasoning="hm"))
    result = await chat("Hi")
    assert (result.out, "\x1b" in result.err) == ("a\x1b[31mb\n", False)


# JSON lines


async def test_json_has_a_line_for_each_chunk_and_a_summary(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer(pieces=["Zwei", " schöne"], reasoning="hm"))
    result = await chat("--json", "Hi")
    *chunks, last = result.json_lines
    assert (result.code, result.err, list(last)) == (0, "", ["summary"])
    assert [chunk["delta_content"] for chunk in chunks if "delta_content" in chunk] == ["Zwei", " schöne"]
    assert [chunk["delta_reasoning"] for chunk in chunks if "delta_reasoning" in chunk] == ["hm"]
    assert len(chunks) == last["summary"]["chunks"]
    assert last["summary"]["verdict"] == "complete"
    assert last["summary"]["usage"] == {
        "input_tokens": 1,
        "output_tokens": 3,
        "total_tokens": 4,
        "reasoning_tokens": 1,
        "cached_tokens": 0,
    }


async def test_json_without_a_stream_has_the_answer_as_one_chunk(chat: Run, gateway: Gateway) -> None:
    gateway.script(answer("Two.", reasoning="hm"))
    chunk, last = (await chat("--json", "--no-stream", "Hi")).json_lines
    assert chunk == {
        "delta_content": "Two.",
        "delta_reasoning": "hm",
        "finish_reason": "stop",
        "usage": last["summary"]["usage"],
        "extra": {"system_fingerprint": "fp_penstock"},
        "index": 0,
        "received_s": chunk["received_s"],
    }
    assert (last["summary"]["verdict"], last["summary"]["chunks"]) == ("complete", None)


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_json_tells_several_answers_apart(chat: Run, gateway: Gateway, options: list[str]) -> None:
    *chunks, _ = (await chat("--json", "--param", "n=2", *options, "Hi")).json_lines
    texts = ["".join(chunk.get("delta_content", "") for chunk in chunks if chunk["index"] == index) for index in (0, 1)]
    assert texts[0] + " This is choice 1." == texts[1]


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_json_of_a_failure_has_the_error_in_the_summary(chat: Run, gateway: Gateway, options: list[str]) -> None:
    (gateway.script(fail(400, code="bad_thing", message="No.")))
    result = await chat("--json", *options, "Hi")
    (last,) = result.json_lines
    error = last["summary"]["error"]
    assert (error["class"], error["status"], error["code"]) == ("InvalidRequestError", 400, "bad_thing")
    assert [attempt["status"] for attempt in last["summary"]["attempts"]] == [400]
    assert (result.code, result.err.count("\n")) == (1, 1)


async def test_every_json_field_is_in_the_help(chat: Run, gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.script(fail(400), answer(tool_calls=[ToolCall("add")], reasoning="hm"))
    lines = (await chat("--json", "Hi")).json_lines + (await chat("--json", "Hi")).json_lines
    main(["chat", "--help"])
    documented = set(re.findall(r"\w+", capsys.readouterr().out))
    summary = lines[0]["summary"]
    names = {name for line in (*lines, summary, summary["error"], *summary["attempts"]) for name in line}
    assert names - documented == set()


# Wrong command lines


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["Hi"], "give --model, or set PENSTOCK_MODEL"),
        (["--model", "m", "--param", "temperature", "Hi"], "name=value"),
        (["--model", "m", "--param", "model=x", "Hi"], "use --model"),
        (["--model", "m", "--param", "stream=false", "Hi"], "use --no-stream"),
        (["--model", "m", "--param", "messages=[]", "Hi"], "use MESSAGE and --system"),
        (["--model", "m", "--param", "n=2", "Hi"], "--json"),
        (["--model", "m", "--header", "Accept", "Hi"], "Name: value"),
        (["--model", "m", "--timeout", "0", "Hi"], "positive number of seconds"),
        (["--model", "m", "--max-attempts", "0", "Hi"], "whole number from 1"),
        (["--model", "m", " "], "the message is empty"),
        (["--model", "m"], "the message is empty"),
        (["--model", "m", "--tim", "3", "Hi"], "unrecognized arguments"),
        (["--model", "m", "Hi"], "OPENAI_API_KEY"),
        (["--model", "m", "--api-key-env", "NOT_SET", "Hi"], "NOT_SET"),
        (["--model", "m", "--base-url", "ftp://x", "Hi"], "http"),
        (["--model", "m", "--gateway", "unheard-of", "Hi"], "unheard-of"),
        (["--model", "m", "--base-url", "http://127.0.0.1:1", "--header", "X: a\nb", "Hi"], "default_headers['X']"),
    ],
)
async def test_wrong_usage_or_configuration_is_2(run: Run, arguments: list[str], words: str) -> None:
    result = await run("chat", *arguments)
    assert (result.code, result.out, "Traceback" in result.err) == (2, "", False)
    assert words in result.err


async def test_stdin_that_is_not_text_is_2(chat: Run, gateway: Gateway) -> None:
    result = await chat(stdin=b"\xff\xfe")
    assert (result.code, gateway.requests) == (2, 0)
    assert "not UTF-8" in result.err


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_what_cannot_be_sent_is_2(chat: Run, gateway: Gateway, options: list[str]) -> None:
    """A lone surrogate: what Python makes of a byte in the arguments that is no UTF-8."""
    result = await chat(*options, "caf\udce9")
    assert (result.code, gateway.requests) == (2, 0)
    assert result.err.startswith("penstock chat: InvalidRequestError: ")


# On a terminal


async def on_a_terminal(*arguments: str, **env: str) -> Result:
    """Run with stdout and stderr on a pseudo-terminal."""
    import pty

    ours, theirs = pty.openpty()
    seen = bytearray()

    def read(terminal: io.FileIO) -> None:
        try:
            while data := terminal.read(1 << 16):
                seen.extend(data)
        except OSError:
            pass  # Linux's word for the end of a pseudo-terminal

    with io.FileIO(ours) as terminal:
        environment = {"TERM": "xterm", **env}
        async with process(*arguments, stdout=theirs, stderr=theirs, env=environment) as started:
            os.close(theirs)
            await asyncio.wait_for(asyncio.to_thread(read, terminal), 30.0)
            await started.wait()
    return Result(started.returncode, seen.decode().replace("\r\n", "\n"), "")


@needs_posix
async def test_terminal_shows_reasoning_dimmed_and_control_characters_as_signs(gateway: Gateway) -> None:
    gateway.script(answer(pieces=["Two", " \x1b]0;x\x07"], reasoning="hm"))
    result = await on_a_terminal("chat", "--model", "m", "--base-url", gateway.url, "Hi")
    shown, _, rest = result.out.partition("\x1b[2mverdict")
    assert (result.code, shown) == (0, "\x1b[2mhm\x1b[0m\n\nTwo ␛]0;x␇\n")
    assert rest.endswith("\x1b[0m\n")


@needs_posix
async def test_no_color_leaves_words_to_tell_the_parts_apart(gateway: Gateway) -> None:
    gateway.script(answer("Two.", reasoning="hm"))
    result = await on_a_terminal("chat", "--model", "m", "--base-url", gateway.url, "Hi", NO_COLOR="1")
    assert result.out.startswith("[reasoning]\nhm\n\n[answer]\nTwo.\nverdict   complete")
    assert "\x1b" not in result.out


@needs_posix
async def test_terminal_says_why_nothing_comes(gateway: Gateway) -> None:
    gateway.script(reset(), answer("Two."))
    result = await on_a_terminal("chat", "--model", "m", "--base-url", gateway.url, "Hi")
    first = result.out.splitlines()[0]
    assert re.fullmatch(
        r"\x1b\[2mattempt 1 failed with DisconnectedError; the next one follows in .+ m?s\x1b\[0m", first
    )


# Ctrl-C


@needs_posix
@pytest.mark.parametrize("after_events", [0, 3])
async def test_interrupt_closes_the_connection_and_is_130(gateway: Gateway, after_events: int) -> None:
    """Before the answer and in the middle of it."""
    gateway.script(stall(after_events=after_events, of=answer(pieces=["One", " two", " three"])))
    async with process("chat", "--model", "m", "--base-url", gateway.url, "Hi") as started:
        assert started.stdout is not None
        await gateway.until(lambda: gateway.open_streams == 1, within_s=20.0)
        shown = b"One two" if after_events else b""
        seen = await started.stdout.readexactly(len(shown))
        started.send_signal(signal.SIGINT)
        result = await finish(started)
    assert (result.code, seen + result.out.encode(), result.err) == (130, shown, "\ninterrupted\n")
    await gateway.assert_no_open_connections()


def test_chunk_fields_are_those_of_a_chunk() -> None:
    """A field that a chunk gets is to be in the JSON lines, too."""
    from penstock.engine.types import _COMPARED_CHUNK_FIELDS

    assert {*chat_module._CHUNK_FIELDS, "index"} == set(_COMPARED_CHUNK_FIELDS)


def test_lines_are_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    from penstock.engine.types import LLMResponseChunk

    chat_module._JsonView().show([LLMResponseChunk(delta_content="é")], 0.0)
    assert orjson.loads(raw.getvalue()) == {"delta_content": "é", "index": 0, "received_s": 0.0}
