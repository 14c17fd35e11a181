"""``penstock mock`` as a process."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from penstock import ModelEngine, errors
from penstock.engine.testing.dialects import DIALECTS
from penstock.testing import Gateway

from .conftest import Run
from .support import finish, process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@asynccontextmanager
async def mock(*arguments: str, **env: str) -> AsyncIterator[tuple[Process, str, list[str]]]:
    """A running mock: its process, its URL, and the lines it says to begin with."""
    async with process("mock", "--port", "0", *arguments, env=env) as started:
        assert started.stdout is not None
        lines = [(await started.stdout.readline()).decode().rstrip("\n") for _ in range(9)]
        yield started, lines[0], lines[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_first_line_is_the_url_and_a_signal_ends_it_with_0(number: signal.Signals) -> None:
    async with mock() as (started, url, lines):
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
            assert response.status == 200
        started.send_signal(number)
        result = await finish(started)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert lines[0] == "speaks openai, lists the model tiny-mock, asks for no key; Ctrl-C stops it"


async def test_stops_in_the_middle_of_a_stream() -> None:
    async with mock() as (started, url, _), aiohttp.ClientSession() as session:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            assert await response.content.readline()
            started.terminate()
            assert (await finish(started)).code == 0


async def test_its_lines_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-mock-0123456789"
    monkeypatch.setenv("MOCK_KEY", key)
    async with mock("--api-key-env", "MOCK_KEY", "--model", "it's", "--gateway", "nim", MOCK_KEY=key) as (
        _,
        url,
        lines,
    ):
        curl, chat, python = (line.strip() for line in lines[2:7:2])
        if shutil.which("curl") is not None:
            assert (await shell(curl)).endswith("data: [DONE]\n\n")
        own = chat.replace("penstock", f"{sys.executable} -m penstock", 1)
        assert (await shell(own)).startswith('You said: "Hello".')
        engine = eval(python.removeprefix("engine = "), {"penstock": sys.modules["penstock"]})
        async with engine:
            assert [model.id for model in await engine.models()] == ["it's"]
        assert (engine.gateway.name, engine.base_url) == ("nim", url)
    assert key not in "".join(lines)


async def test_refuses_without_the_key_it_asks_for() -> None:
    async with (
        mock("--api-key-env", "MOCK_KEY", MOCK_KEY="sk-mock-0123456789") as (_, url, _lines),
        ModelEngine("m", base_url=url) as engine,
    ):
        with pytest.raises(errors.AuthenticationError):
            await engine.call("Hi")


async def test_verbose_tells_each_request() -> None:
    async with mock("--verbose") as (started, url, _):
        assert started.stdout is not None
        async with ModelEngine("m", base_url=url) as engine:
            for _ in range(2):
                await engine.chat_completion("Hi", idempotency_key="key-1")
            await engine.models()
        told = [(await started.stdout.readline()).decode() for _ in range(3)]
        started.terminate()
    patterns = [
        r"1  POST /v1/chat/completions  200  answer, \S+ m?s, key key-1\n",
        r"2  POST /v1/chat/completions  200  replay, \S+ m?s, attempt 2, key key-1\n",
        r"3  GET /v1/models  200  answer, \S+ m?s\n",
    ]
    assert [bool(re.fullmatch(pattern, line)) for pattern, line in zip(patterns, told)] == [True] * 3, told


async def test_request_cannot_break_its_line() -> None:
    async with mock("--verbose") as (started, url, _):
        assert started.stdout is not None
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/a%0Ab%1B[2J")
        assert (await started.stdout.readline()).decode().startswith(r"1  GET /a\nb\x1b[2J  404  refused, ")
        started.terminate()


async def test_port_that_is_taken_is_1(run: Run, gateway: Gateway) -> None:
    port = gateway.url.rpartition(":")[2]
    result = await run("mock", "--port", port)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"penstock mock: port {port} cannot be had: {os.strerror(errno.EADDRINUSE)}; try --port 0\n"


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--gateway", "unheard-of"], ["--api-key-env", "NOT_SET"], ["extra"]]
)
async def test_wrong_usage_or_configuration_is_2(run: Run, arguments: list[str]) -> None:
    result = await run("mock", *arguments)
    assert (result.code, result.out, "Traceback" in result.err) == (2, "", False)


async def test_plays_a_script(tmp_path: Path) -> None:
    script = {
        "rule": [{"message": {"contains": "rain"}, "step": [{"kind": "fail", "status": 503}]}],
        "default": {"kind": "answer", "content": "Fine."},
    }
    (tmp_path / "faults.json").write_text(json.dumps(script))
    found, seen = [], []
    async with (
        mock("--script", str(tmp_path / "faults.json"), "--gateway", "modelgov") as (_, url, lines),
        aiohttp.ClientSession() as session,
    ):
        for text in ("Hi", "Does it rain?"):
            path, body = DIALECTS["modelgov"]("m").example(text)
            async with session.post(url + path, json=body) as response:
                found.append(response.status)
                seen.append(await response.text())
    assert (found, "Fine." in seen[0]) == ([200, 503], True)
    assert lines[0].endswith(f"asks for no key, plays {tmp_path / 'faults.json'}; Ctrl-C stops it")


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"step": [{"kind": "fial"}]}', "step 1, member 'kind': there is none called 'fial'"),
        ('{"step": [{"kind": "block", "cause": "escalation"}]}', "has no block for 'escalation'"),
    ],
)
async def test_wrong_script_is_2_and_says_where(run: Run, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "faults.json").write_text(text)
    result = await run("mock", "--port", "0", "--script", str(tmp_path / "faults.json"))
    assert (result.code, result.out, "Traceback" in result.err) == (2, "", False)
    assert told in result.err


async def test_script_that_is_not_there_is_2(run: Run, tmp_path: Path) -> None:
    result = await run("mock", "--script", str(tmp_path / "none.json"))
    assert (result.code, "No such file" in result.err) == (2, True)


async def test_seed_decides_what_is_left_to_chance(tmp_path: Path) -> None:
    script = {"rule": [{"probability": 0.5, "step": [{"kind": "fail", "status": 503}]}]}
    (tmp_path / "faults.json").write_text(json.dumps(script))
    played = [await statuses("--script", str(tmp_path / "faults.json"), "--seed", seed) for seed in ("7", "7", "8")]
    assert (played[0] == played[1], played[0] == played[2]) == (True, False)


async def statuses(*arguments: str) -> list[int]:
    async with mock(*arguments) as (_, url, _lines), aiohttp.ClientSession() as session:
        found = []
        for _ in range(20):
            body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                found.append(response.status)
        return found


async def test_speaks_tls_with_an_authority_that_goes_with_it() -> None:
    pytest.importorskip("trustme")
    async with mock("--tls") as (started, url, lines):
        path = Path(shlex.split(lines[2])[3])
        context = ssl.create_default_context(cafile=path)
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health", ssl=context) as response:
            assert response.status == 200
        started.terminate()
        assert (await finish(started)).code == 0
    assert (url.startswith("https://"), f"SSL_CERT_FILE={path}" in lines[4], path.exists()) == (True, True, False)  # noqa: ASYNC240


async def shell(command: str) -> str:
    started = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    out, _ = await started.communicate()
    assert started.returncode == 0, command
    return out.decode()
