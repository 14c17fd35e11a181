"""``penstock batch``: what goes in, what comes out, and which exit code."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.engine.batch.journal import Journal
from penstock.testing import Gateway, answer, contains, fail, rule

from .conftest import Run
from .support import Result, finish, process

Batch = Callable[..., Awaitable[Result]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def batch(run: Run, gateway: Gateway, tmp_path: Path, out: Path) -> Batch:
    """Run ``penstock batch`` over some rows, into `out`."""

    async def run_batch(*options: str, rows: list[Any] | bytes, name: str = "in.jsonl") -> Result:
        put(tmp_path / name, rows if isinstance(rows, bytes) else json_lines(rows))
        common = ("--model", "tiny-mock", "--base-url", gateway.url, "--row-attempts", "1")
        return await run("batch", str(tmp_path / name), "-o", str(out), *common, *options)

    return run_batch


def json_lines(rows: list[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def prompts(count: int) -> list[Any]:
    return [{"id": f"r{number}", "prompt": f"Say {number}."} for number in range(count)]


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def data(path: Path) -> bytes:
    return path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def lines(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in data(path).splitlines()]


def ids(path: Path) -> list[str]:
    return [line["id"] for line in lines(path)]


def errors_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.errors.jsonl")


def asked(gateway: Gateway) -> list[str]:
    return sorted(call.body["messages"][0]["content"] for call in gateway.calls)


# In and out


async def test_each_row_is_sent_once_and_its_answer_stands_in_its_place(
    batch: Batch, gateway: Gateway, out: Path
) -> None:
    gateway.script(rule(answer("Slow.", ttft_s=0.02), message="Say 0."), default=answer("Yes."))
    result = await batch(rows=prompts(50))
    assert (result.code, result.out, ids(out)) == (0, "", [f"r{number}" for number in range(50)])
    assert lines(out)[0]["body"]["choices"][0]["message"]["content"] == "Slow."
    assert asked(gateway) == sorted(f"Say {number}." for number in range(50))


async def test_summary_is_for_a_person(batch: Batch, out: Path) -> None:
    result = await batch(rows=prompts(3))
    told = {line[:9].strip(): line[10:] for line in result.err.splitlines() if not line.startswith("{")}
    assert (told["done"], told["requests"]) == ("3 rows", "3, 0 of them retries")
    assert (told["output"], told["journal"]) == (str(out), f"{out}.journal")
    assert told["time"].endswith(" rows/s")


async def test_summary_for_a_program(batch: Batch, out: Path) -> None:
    (line,) = (await batch("--json", "--quiet", rows=prompts(3))).json_lines
    summary = line["summary"]
    assert (summary["exit_code"], summary["is_complete"], summary["done"], summary["failed"]) == (0, True, 3, 0)
    assert (summary["output"], summary["error"], summary["errors"]) == (str(out), None, {})
    assert summary["input_tokens"] > 0


async def test_quiet_says_nothing(batch: Batch) -> None:
    result = await batch("--quiet", rows=prompts(3))
    assert (result.code, result.out, result.err) == (0, "", "")


async def test_shape_of_openai_comes_back_in_it(batch: Batch, out: Path) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert (await batch(rows=[row])).code == 0
    (line,) = lines(out)
    assert (line["custom_id"], line["error"]) == ("a", None)
    assert (line["response"]["status_code"], line["response"]["body"]["object"]) == (200, "chat.completion")


async def test_row_says_what_is_its_own_and_options_the_rest(batch: Batch, gateway: Gateway) -> None:
    row = {"id": "a", "prompt": "Hi", "temperature": 1, "model": "mine"}
    await batch("--param", "temperature=0", "--param", "seed=7", "--header", "X-Trace: 7", rows=[row])
    body = gateway.calls[0].body
    assert (body["model"], body["temperature"], body["seed"]) == ("mine", 1, 7)
    assert gateway.calls[0].headers["X-Trace"] == "7"


async def test_embeddings_are_rows_too(batch: Batch, gateway: Gateway, out: Path) -> None:
    assert (await batch(rows=[{"id": "a", "input": ["x", "y"]}])).code == 0
    assert (gateway.calls[0].path, len(lines(out)[0]["body"]["data"])) == ("/v1/embeddings", 2)


async def test_compressed_in_and_out(batch: Batch, run: Run, gateway: Gateway, tmp_path: Path) -> None:
    put(tmp_path / "in.gz", gzip.compress(json_lines(prompts(3))))
    target = tmp_path / "out.jsonl.gz"
    files = (str(tmp_path / "in.gz"), "-o", str(target))
    assert (await run("batch", *files, "--model", "m", "--base-url", gateway.url)).code == 0
    assert [orjson.loads(line)["id"] for line in gzip.decompress(data(target)).splitlines()] == ["r0", "r1", "r2"]


async def test_stdin_to_stdout(gateway: Gateway, tmp_path: Path) -> None:
    command = ("batch", "-", "-o", "-", "--model", "m", "--base-url", gateway.url, "--ordered")
    async with process(*command) as started:
        result = await finish(started, json_lines([*prompts(3), {}]))
    assert (result.code, [line["id"] for line in result.json_lines]) == (1, ["r0", "r1", "r2", "3"])
    assert "no journal outlives this command" in result.err


async def test_progress_is_a_line_of_json_where_nobody_looks(gateway: Gateway, tmp_path: Path, out: Path) -> None:
    put(tmp_path / "in.jsonl", json_lines(prompts(4)))
    gateway.script(default=answer("Yes.", ttft_s=0.1))
    command = ("batch", str(tmp_path / "in.jsonl"), "-o", str(out), "--model", "m", "--base-url", gateway.url)
    async with process(*command, "--concurrency", "1", "--progress-interval", "0.05") as started:
        result = await finish(started)
    told = [orjson.loads(line)["progress"] for line in result.err.splitlines() if line.startswith("{")]
    assert len(told) >= 3
    assert (told[-1]["rows"], told[-1]["rows_is_estimate"], told[-1]["concurrency"]) == (4, False, 1)
    assert "\x1b" not in result.err


# Rows that fail


async def test_failed_rows_are_in_their_own_file_and_1(batch: Batch, gateway: Gateway, out: Path) -> None:
    gateway.script(rule(fail(400, code="bad_thing"), message="Say 1."))
    result = await batch(rows=prompts(3))
    assert (result.code, ids(out), ids(errors_of(out))) == (1, ["r0", "r2"], ["r1"])
    error = lines(errors_of(out))[0]["error"]
    assert (error["type"], error["status"], error["code"]) == ("InvalidRequestError", 400, "bad_thing")
    assert "failed    1 row: InvalidRequestError 1\n" in result.err


async def test_bad_lines_do_not_hold_up_the_others(batch: Batch, gateway: Gateway, out: Path) -> None:
    rows = json_lines(prompts(1)) + b'{"oops\n\xff\xfe\n{}\n' + json_lines([{"id": "last", "prompt": "Hi"}])
    result = await batch(rows=rows)
    assert (result.code, ids(out), ids(errors_of(out))) == (1, ["r0", "last"], ["1", "2", "3"])
    assert "line 2: not JSON" in lines(errors_of(out))[0]["error"]["message"]
    assert gateway.requests == 2


async def test_strict_sends_nothing_when_a_line_is_bad(batch: Batch, gateway: Gateway, out: Path) -> None:
    result = await batch("--strict", rows=json_lines(prompts(3)) + b"oops\n")
    assert (result.code, gateway.requests, names(out.parent)) == (4, 0, ["in.jsonl"])
    assert "line 4: not JSON" in result.err


async def test_failed_rows_are_sent_again_when_asked_for(batch: Batch, gateway: Gateway, out: Path) -> None:
    gateway.script(rule(fail(400), message="Say 1.", times=1))
    assert (await batch(rows=prompts(3))).code == 1
    assert (await batch(rows=prompts(3))).code == 1
    assert gateway.requests == 3
    assert (await batch("--retry-failed", "all", rows=prompts(3))).code == 0
    assert (gateway.requests, ids(out)) == (4, ["r0", "r1", "r2"])
    assert errors_of(out).name not in names(out.parent)


async def test_key_is_in_no_file(
    batch: Batch, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_KEY", "house0123456789")
    gateway.script(default=fail(401, message="wrong key house0123456789"))
    result = await batch("--api-key-env", "HOUSE_KEY", rows=prompts(3))
    written = b"".join(data(tmp_path / name) for name in names(tmp_path))
    assert (result.code, b"wrong key ***" in written) == (1, True)
    assert b"house0123456789" not in written + result.err.encode()


# Run again


async def test_second_run_sends_nothing_and_publishes_the_same(batch: Batch, gateway: Gateway, out: Path) -> None:
    await batch(rows=prompts(20))
    before = data(out)
    result = await batch(rows=prompts(20))
    assert (result.code, gateway.requests, data(out)) == (0, 20, before)
    assert "done      20 rows, 20 of them from the journal\n" in result.err


async def test_new_rows_of_the_input_are_sent_and_lost_ones_left_out(batch: Batch, gateway: Gateway, out: Path) -> None:
    rows = prompts(5)
    await batch(rows=rows[:3])
    result = await batch(rows=[rows[4], rows[2], rows[0]])
    assert (result.code, ids(out), gateway.requests) == (0, ["r4", "r2", "r0"], 4)
    assert "absent    1 row of the journal are not in the input" in result.err


async def test_output_is_written_again_from_the_journal(batch: Batch, gateway: Gateway, out: Path) -> None:
    await batch(rows=prompts(3))
    os.unlink(out)
    assert (await batch(rows=prompts(3))).code == 0
    assert (ids(out), gateway.requests) == (["r0", "r1", "r2"], 3)


@pytest.mark.parametrize("options", [[], ["--ordered"]])
async def test_append_writes_what_is_new(batch: Batch, gateway: Gateway, out: Path, options: list[str]) -> None:
    rows = prompts(6)
    await batch("--publish", "append", *options, rows=[*rows[:3], {}])
    before = data(out)
    assert (await batch("--publish", "append", *options, rows=[*rows[:3], {}, *rows[3:]])).code == 1
    assert (data(out).startswith(before), sorted(ids(out))) == (True, [f"r{number}" for number in range(6)])
    assert ids(errors_of(out)) == ["3"]


async def test_changed_row_stops_the_run_or_is_sent_anew(batch: Batch, gateway: Gateway, out: Path) -> None:
    await batch(rows=prompts(2))
    changed = [prompts(2)[0], {"id": "r1", "prompt": "Something else."}]
    result = await batch(rows=changed)
    assert (result.code, gateway.requests) == (4, 2)
    assert "InputChangedError" in result.err
    assert (await batch("--on-changed", "rerun", rows=changed)).code == 0
    assert gateway.requests == 3


# Other exit codes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--concurrency", "0"], "--concurrency"),
        (["--price", "x"], "--price"),
        (["--price", "nan,1"], "--price"),
        (["--json", "-o", "-"], "both write to stdout"),
        (["--runner", "ray", "--rpm", "9"], "--shared-limit"),
        (["--param", "messages=[]"], "--param messages"),
        (["--publish", "sideways"], "--publish"),
    ],
)
async def test_wrong_options_are_2_and_nothing_is_sent(
    batch: Batch, gateway: Gateway, tmp_path: Path, options: list[str], told: str
) -> None:
    result = await batch(*options, rows=prompts(1))
    assert (result.code, told in result.err, gateway.requests) == (2, True, 0)
    assert names(tmp_path) == ["in.jsonl"]


async def test_output_over_the_input_is_2(batch: Batch, gateway: Gateway, out: Path) -> None:
    result = await batch("--overwrite", rows=prompts(1), name="out.jsonl")
    assert (result.code, "IN and OUT are the same file" in result.err, ids(out)) == (2, True, ["r0"])


async def test_in_order_what_is_done_at_last_stands_in_its_place(batch: Batch, gateway: Gateway, out: Path) -> None:
    gateway.script(rule(fail(400), message=contains("Say 1.")))
    options = ("--publish", "append", "--ordered", "--retry-failed", "all")
    assert ((await batch(*options, rows=prompts(3))).code, ids(out)) == (1, ["r0", "r2"])
    gateway.script()
    assert ((await batch(*options, rows=prompts(3))).code, ids(out)) == (0, ["r0", "r1", "r2"])
    assert not errors_of(out).exists()


async def test_output_over_the_input_by_another_name_is_2(
    batch: Batch, gateway: Gateway, tmp_path: Path, out: Path
) -> None:
    put(tmp_path / "in.jsonl", b"")
    os.link(tmp_path / "in.jsonl", out)
    result = await batch("--overwrite", "--publish", "append", rows=prompts(1))
    assert (result.code, "IN and OUT are the same file" in result.err, gateway.requests) == (2, True, 0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (gzip.compress(b'{"prompt":"Hi"}\n' * 99, mtime=0)[:-5], "ends in the middle"),
        (json_lines(prompts(1)) * 2, "DuplicateRowError"),
    ],
)
async def test_input_that_cannot_be_read_is_4(batch: Batch, rows: bytes, told: str) -> None:
    result = await batch(rows=rows)
    assert (result.code, told in result.err) == (4, True)


@pytest.mark.parametrize("publish", ["rename", "append"])
async def test_missing_input_is_4_and_leaves_nothing(run: Run, gateway: Gateway, tmp_path: Path, publish: str) -> None:
    files = (str(tmp_path / "missing"), "-o", str(tmp_path / "out"))
    result = await run("batch", *files, "--publish", publish, "--model", "m", "--base-url", gateway.url)
    assert (result.code, "missing cannot be read: No such file" in result.err) == (4, True)
    assert names(tmp_path) == []


async def test_folder_for_an_input_is_4_and_leaves_nothing(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    result = await run("batch", str(folder), "-o", str(tmp_path / "out"), "--model", "m", "--base-url", gateway.url)
    assert (result.code, "in cannot be read: Is a directory" in result.err, names(tmp_path)) == (4, True, ["in"])


async def test_journal_that_is_none_is_5(batch: Batch, gateway: Gateway, tmp_path: Path) -> None:
    put(tmp_path / "out.jsonl.journal", b"precious " * 500)
    result = await batch(rows=prompts(1))
    assert (result.code, gateway.requests) == (5, 0)
    assert data(tmp_path / "out.jsonl.journal") == b"precious " * 500


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
async def test_journal_that_is_no_regular_file_is_5_and_is_left(batch: Batch, gateway: Gateway, tmp_path: Path) -> None:
    """As /dev/null is none, which root can replace."""
    special = tmp_path / "special"
    os.mkfifo(special)
    result = await batch("--journal", str(special), rows=prompts(1))
    assert (result.code, "is no regular file" in result.err, gateway.requests) == (5, True, 0)
    assert special.is_fifo()
    assert names(tmp_path) == ["in.jsonl", "special"]


async def test_journal_of_a_run_that_is_on_is_5(batch: Batch, gateway: Gateway, tmp_path: Path) -> None:
    async with await Journal.open(tmp_path / "out.jsonl.journal"):
        result = await batch(rows=prompts(1))
    assert (result.code, "JournalLockedError" in result.err, gateway.requests) == (5, True, 0)


@pytest.mark.parametrize("publish", ["rename", "append"])
async def test_output_of_somebody_else_is_6_and_nothing_is_sent(
    batch: Batch, gateway: Gateway, tmp_path: Path, out: Path, publish: str
) -> None:
    put(out, b"precious")
    result = await batch("--publish", publish, rows=prompts(1))
    assert (result.code, gateway.requests, data(out)) == (6, 0, b"precious")
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]
    assert result.err.count("\n") == 1
    assert (await batch("--overwrite", rows=prompts(1))).code == 0
    assert ids(out) == ["r0"]


async def test_limits_are_kept(batch: Batch, gateway: Gateway) -> None:
    """Twelve a minute with a burst of ten seconds is two at once, and the third would come five seconds later."""
    result = await batch("--rpm", "12", "--timeout", "1", rows=prompts(3))
    assert (result.code, gateway.requests) == (1, 2)


async def test_auto_finds_a_concurrency(batch: Batch, gateway: Gateway, out: Path) -> None:
    gateway.script(rule(fail(429, retry_after_ms=1), message=contains("7"), attempt=1))
    assert (await batch("--concurrency", "auto", rows=prompts(100))).code == 0
    assert len(ids(out)) == 100
